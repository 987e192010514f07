"""``launcher plan RUN``: which names are runs, and what each use of their weights needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launcher.after.planned import named, uses_of
from launcher.cli import main
from launcher.errors import UsageError
from launcher.job.target import Target
from launcher.planning.planned import Wanted
from tests.run_folders import Made

SIZES = Path(__file__).parents[3] / "configs/models/Qwen/Qwen3-0.6B/config.json"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A run whose model's sizes are those of a known one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run = Made("steady", record={"key": "stead"}).write(tmp_path)
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    model = tmp_path / "data" / "demo" / "qwen3-tiny"
    model.mkdir(parents=True)
    shutil.copyfile(SIZES, model / "config.json")
    return Target.of(run.path)


def test_a_run_is_meant_by_its_name_its_folder_or_latest_and_not_by_its_experiment(target: Target) -> None:
    for name in ("steady", "latest", str(target.folder), f"./{target.folder.relative_to(Path.cwd())}"):
        found = named(name)
        assert found is not None
        assert found.folder == target.folder
    for name in ("stead", "ste", "another"):
        assert named(name) is None


def test_every_use_of_a_run_is_planned_for_and_a_merge_only_of_an_adapter(target: Target) -> None:
    found = uses_of(target, Wanted(gpu="RTX 4090"))
    assert [use.name for use in found.uses] == ["chat", "generate", "score", "merge", "serve"]
    assert [use.fits for use in found.uses] == [True] * 5
    assert all(use.seconds is not None for use in found.uses if use.name != "serve")
    whole = Target(target.name, target.folder, None, None, None, target.base)
    assert [use.name for use in uses_of(whole, Wanted(gpu="RTX 4090")).uses] == ["chat", "generate", "serve"]
    with pytest.raises(UsageError, match="--nodes and --parallelism: steady is a trained run, which is planned on one GPU"):
        uses_of(target, Wanted(nodes=2, parallelism="ddp"))


def test_the_verb_prints_a_line_for_each_use(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    def launched(*args: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["plan", "steady", *args])
        out, err = capsys.readouterr()
        assert (ended.value.code or 0, err) == (0, "")
        return out

    weights, model, _, chat, generate, score, merge, served = launched("--gpu", "RTX 4090").splitlines()
    assert weights == "weights     steady, an adapter of data/demo/qwen3-tiny, on RTX 4090"
    assert model == "model       596,049,920 parameters"
    assert chat.startswith("chat        fits: ")
    assert " GiB of 21.59 GiB; 1 s to " in chat
    assert generate.endswith(": 1,000 prompts, if all answers have 512 tokens; 64 at once")
    assert score.startswith("score       fits: ")
    assert merge.endswith(": reads 1.2 GB, writes 1.2 GB at 0.2 to 2 GB/s, plus the comparison")
    assert served.startswith("serve       fits: ")
    assert served.endswith(" GiB of 21.59 GiB; requests of at most 4,096 tokens in vLLM")
    small = launched("--gpu-memory", "2GiB").splitlines()
    assert small[3].startswith("chat        does not fit: ")
    assert "; no time estimate: the GPU's speed is unknown (" in small[3]
    assert "; spread it over 2 GPUs: --tensor-parallel-size 2; requests of at most" in small[-1]
    found = json.loads(launched("--json"))
    assert (found["weights"], found["device"]) == ("steady", "the CPU")
    assert found["uses"][0]["seconds"] is None
    assert found["uses"][0]["time"].startswith("no time estimate on a CPU (")
