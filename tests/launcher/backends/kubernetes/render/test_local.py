"""What an experiment's paths are on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.render.local import look
from launcher.backends.kubernetes.render.placement import SMALL, Local, place
from launcher.errors import ExperimentError, LauncherError
from launcher.experiment.schema import Experiment


def experiment(**fields: Any) -> Experiment:
    return Experiment.parse({"experiment_id": 1, "model_name": "a/b", "datasets_path": "data", **fields})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for name in ("training_data.csv", "prompt_data.csv", "sub/validation.csv", "unread.csv"):
        (tmp_path / "data" / name).write_text(name)
    return tmp_path


def test_only_the_files_that_are_read_travel(home: Path) -> None:
    found = look(experiment(validation_filename="sub/validation.csv"), home)
    assert found.data is not None
    assert found.data.files == {"prompt_data.csv": 15, "sub/validation.csv": 18, "training_data.csv": 17}
    assert found.contents == {name: name.encode() for name in found.data.files}
    assert found.data.path == home / "data"


def test_the_digest_is_of_names_and_contents_alone(home: Path) -> None:
    first = look(experiment(), home).data
    (home / "data" / "unread.csv").write_text("other")
    os.utime(home / "data" / "training_data.csv", (0, 0))
    (home / "data").rename(home / "moved")
    assert first is not None
    assert look(experiment(datasets_path="moved"), home).data.digest == first.digest
    (home / "moved" / "training_data.csv").write_text("x" * 17)
    assert look(experiment(datasets_path="moved"), home).data.digest != first.digest
    os.replace(home / "moved" / "prompt_data.csv", home / "moved" / "p.csv")
    assert look(experiment(datasets_path="moved", prompt_filename="p.csv"), home).data.digest != first.digest


def test_large_data_are_named_but_not_held(home: Path) -> None:
    (home / "data" / "training_data.csv").write_bytes(b"a" * (SMALL + 1))
    found = look(experiment(), home)
    assert found.data is not None
    assert (found.data.size > SMALL, found.contents) == (True, {})


def test_a_local_model_is_all_of_its_files_but_hidden_ones_and_links_are_what_they_name(home: Path) -> None:
    model = home / "models" / "tiny"
    (model / ".cache").mkdir(parents=True)
    (model / ".cache" / "lock").touch()
    (model / ".gitattributes").touch()
    (model / "config.json").write_text("{}")
    (home / "blob").write_text("weights")
    (model / "model.safetensors").symlink_to(home / "blob")
    found = look(experiment(model_name="./models/tiny"), home).model
    assert found is not None
    assert found.files == {"config.json": 2, "model.safetensors": 7}


@pytest.mark.parametrize(
    "fields",
    [{"datasets_path": path} for path in ("s3://b/d", "hf://org/prefs", "/dpo/data/d", "nowhere")],
)
def test_what_is_not_here_is_not_looked_for(home: Path, fields: dict[str, str]) -> None:
    assert look(experiment(**fields), home) == Local()


def test_a_file_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data" / "training_data.csv"
        file.parent.mkdir()
        file.write_text("prompt\n")
        file.chmod(0)
        for path in (Path(folder), file.parent):
            path.chmod(0o755)
        before = os.geteuid()
        os.seteuid(before or 65534)  # root may read everything
        try:
            with pytest.raises(LauncherError, match=rf"^cannot read {file}: permission denied$"):
                look(experiment(), Path(folder))
        finally:
            os.seteuid(before)


def test_an_adapter_to_start_from_is_staged_as_the_model_is(home: Path) -> None:
    adapter = home / "adapters" / "sft"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    local = look(experiment(model_name="me/base", adapter="adapters/sft"), home)
    assert local.model is None
    assert local.adapter is not None
    assert local.adapter.files == {"adapter_config.json": 2}
    placed = place(experiment(model_name="me/base", adapter="adapters/sft"), local)
    (staged,) = [one for one in placed.staged if one.setting == "adapter"]
    assert placed.experiment.adapter == staged.target == f"/dpo/cache/staged/{local.adapter.digest}/sft"
    assert (
        place(experiment(model_name="me/base", adapter="me/sft@v1"), look(experiment(), home)).experiment.adapter == "me/sft@v1"
    )
    with pytest.raises(ExperimentError, match="adapter: not a path in a pod"):
        place(experiment(model_name="me/base", adapter="/dpo/elsewhere"), local)
