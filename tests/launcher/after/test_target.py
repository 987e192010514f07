"""Which trained weights RUN or PATH names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.after.target import Target, target
from launcher.errors import LauncherError, UsageError
from tests.run_folders import Made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    return tmp_path


def with_adapter(home: Path, name: str = "one") -> Path:
    run = Made(name).write(home)
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "elsewhere"}))
    return run.path


@pytest.mark.parametrize("named", ["one", "latest", "demo", "on", "path", "adapter"])
def test_a_run_is_named_as_everywhere_by_its_folder_or_by_its_adapter(home: Path, named: str) -> None:
    path = with_adapter(home)
    found = target({"path": str(path), "adapter": str(path / "adapter")}.get(named, named))
    assert (found.name, found.folder, found.base) == ("one", path, "data/demo/qwen3-tiny")
    assert found.run is not None
    assert found.adapter == found.weights == path / "adapter"
    assert found.experiment == found.settings == Made("one").experiment()


def test_the_newest_adapter_of_an_experiment_is_that_of_its_run(home: Path) -> None:
    path = with_adapter(home)
    link = path.parents[1] / "adapter"
    link.symlink_to(path / "adapter")
    assert target(str(link)) == target("one")


def test_a_downloaded_run_is_named_by_its_folder_alone(home: Path, tmp_path: Path) -> None:
    path = with_adapter(home)
    path.rename(home / "moved")
    assert target("moved").folder == home / "moved"
    assert target("./moved").run is not None


def test_full_weights_have_no_adapter(home: Path) -> None:
    run = Made("whole", settings={"full_finetuning": True}).write(home)
    run.adapter.mkdir()
    found = target("whole")
    assert (found.adapter, found.weights, found.base) == (None, run.adapter, "data/demo/qwen3-tiny")


def test_an_adapter_alone_names_its_base_model(home: Path) -> None:
    (home / "lora").mkdir()
    (home / "lora" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/model"}))
    found = target("lora")
    assert found == Target("lora", home / "lora", None, home / "lora", None, "owner/model")
    assert found.settings.model_name == "owner/model"


def test_a_model_alone_is_its_own_base(home: Path) -> None:
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text("{}")
    assert target("./model") == Target("model", home / "model", None, None, None, str(home / "model"))


def test_what_holds_no_weights_is_refused_with_what_would(home: Path) -> None:
    Made("two").write(home).update_record(outcome={"state": "failed", "exit_code": 45})
    with pytest.raises(UsageError, match=r"^two has no adapter \(state: failed\)\. See the reason with: launcher why two$"):
        target("two")
    Made("three", record={"outcome": None}).write(home)
    with pytest.raises(UsageError, match=r"three has no adapter yet\. Follow it with: launcher logs -f three"):
        target("three")
    (home / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty holds no trained weights\n    expected: the folder of a run, of an adapter"):
        target("empty")
    with pytest.raises(UsageError, match=r"folder \./nowhere not found"):
        target("./nowhere")
    with pytest.raises(UsageError, match="run 'nobody' not found"):
        target("nobody")
    (home / "empty" / "adapter_config.json").write_text("{}")
    with pytest.raises(LauncherError, match="names no base model"):
        target("empty")
