"""The GPU check without a GPU: its limits and its order with played parts, and its parts with tiny models on a CPU."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.gpu import __main__ as command
from tests.benchmarks.gpu.parts import PARTS, Part, Place, Skipped
from tests.benchmarks.gpu.running import Clock, Result, perform, summary

FIGURES = 'print(\'measured \' + \'{"pairs_per_second": %s, "sentence": "%s"}\', flush=True)'


def played(tmp_path: Path, scripts: dict[str, str], seconds: float = 60.0) -> list[Result]:
    """Parts that run these Python scripts, with a limit of four seconds each."""
    parts = [Part(name, name.title(), 4.0, "played") for name in scripts]

    def command(part: Part, place: Place) -> list[str]:
        return [sys.executable, "-c", scripts[part.name]]

    return perform(parts, Place(tmp_path, "cuda"), tmp_path / "out", Clock(seconds), command)


def kept(tmp_path: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "out" / f"{name}.json").read_text()))


def test_a_part_that_is_cut_keeps_what_it_has_measured_and_the_next_one_runs(tmp_path: Path) -> None:
    first, second = played(
        tmp_path,
        {"slow": f"{FIGURES % (7, 'half')}; import time; time.sleep(60)", "next": FIGURES % (8, "whole")},
    )
    assert (first.status, first.sentence) == ("cut", "ended at its limit of 4 s; until then: half")
    assert kept(tmp_path, "slow")["figures"] == {"pairs_per_second": 7}
    assert (second.status, kept(tmp_path, "next")["sentence"]) == ("done", "whole")


def test_figures_are_in_the_file_before_the_part_ends(tmp_path: Path) -> None:
    look = "import json, pathlib, time\nfile = pathlib.Path({!r})\nwhile not file.exists(): time.sleep(0.01)\n"
    look += "f = json.loads(file.read_text())\n"
    look += "print('measured ' + json.dumps({{'part': f['part'], 'figures': f['figures']}}), flush=True)"
    (found,) = played(tmp_path, {"one": f"{FIGURES % (7, 'half')}\n{look.format(str(tmp_path / 'out' / 'one.json'))}"})
    assert found.figures["figures"] == {"pairs_per_second": 7}
    assert found.figures["part"] == "one"


def test_what_a_cut_part_has_started_ends_with_it(tmp_path: Path) -> None:
    child = "import subprocess; p = subprocess.Popen(['sleep', '60']); "
    child += f"open('{tmp_path}/pid', 'w').write(str(p.pid)); p.wait()"
    played(tmp_path, {"one": child})
    status = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    deadline = time.monotonic() + 5
    while status.exists() and status.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_part_that_breaks_says_the_end_of_its_log(tmp_path: Path) -> None:
    (found,) = played(tmp_path, {"one": "raise SystemExit('no such kernel')"})
    assert found.status == "failed"
    assert found.sentence.startswith("no such kernel (see ")


def test_without_time_left_a_part_is_not_started(tmp_path: Path) -> None:
    (found,) = played(tmp_path, {"one": f"open('{tmp_path}/begun', 'w')"}, seconds=5)
    assert (found.status, found.sentence) == ("skipped", "no time left")
    assert kept(tmp_path, "one")["status"] == "skipped"
    assert not (tmp_path / "begun").exists()


def test_the_table_ends_with_how_much_faster_than_trl(tmp_path: Path) -> None:
    scripts = {"ours": FIGURES % (30, "fast"), "trl-tuned": FIGURES % (15, "slower"), "trl": FIGURES % (10, "slow")}
    lines = summary(played(tmp_path, scripts)).splitlines()
    assert lines[3].startswith("| Ours | 0.6B | done | ")
    assert lines[3].endswith(" | fast |")
    assert lines[-2:] == ["3.00 times trl", "2.00 times trl-tuned"]


def test_the_most_informative_parts_come_first() -> None:
    assert [part.name for part in PARTS][:7] == ["launches", "ours", "ours-compiled", "trl-tuned", "trl", "graphs", "pytest"]


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert command.main() == 0
    assert capsys.readouterr().out == "no CUDA GPU: nothing measured\n"


def test_kernels_that_overlap_count_once_and_annotations_and_copies_never() -> None:
    from tests.benchmarks.gpu.launches import counted

    def event(name: str, device: str, begin: int, length: int, marked: bool = False) -> Any:
        return SimpleNamespace(
            name=lambda: name,
            device_type=lambda: f"DeviceType.{device}",
            start_ns=lambda: begin,
            duration_ns=lambda: length,
            is_user_annotation=lambda: marked,
        )

    found = counted(
        [
            event("cudaLaunchKernel", "CPU", 0, 1),
            event("cuLaunchKernelEx", "CPU", 1, 1),
            event("gemm", "CUDA", 10, 10),
            event("add", "CUDA", 15, 10),
            event("gemm", "CUDA", 40, 5),
            event("Memcpy HtoD", "CUDA", 50, 100),
            event("Optimizer.step#AdamW.step", "CUDA", 0, 1000, marked=True),
        ],
        "CUDA",
    )
    assert (found["launches"], found["kernels"]) == (2, 3)
    assert found["kernel_seconds"] == pytest.approx(20e-9)
    assert found["slowest"][0] == {"name": "gemm", "ms": 15e-6}


def test_a_wait_is_named_by_the_project_s_line_that_made_it() -> None:
    from tests.benchmarks.gpu.launches import REPOSITORY, listed

    line = "import warnings\ndef waits():\n    warnings.warn('called a synchronizing CUDA operation')\n"
    space: dict[str, Any] = {}
    exec(compile(line, str(REPOSITORY / "trainer" / "step" / "packed.py"), "exec"), space)
    with listed() as places:
        space["waits"]()
        space["waits"]()
        warnings.warn("another one", stacklevel=1)
    assert places == {"trainer/step/packed.py:3 in waits": 2}


def test_model_flops_are_those_of_the_weights_and_of_attention() -> None:
    from launcher.experiment.schema import Experiment
    from launcher.planning.sizes.model_config import ModelConfig
    from tests.benchmarks import models
    from tests.benchmarks.gpu.speed import model_flops
    from tests.benchmarks.pairs import work_of
    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs

    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": {"r": 4}})
    config = models.config(models.TINY)
    work = work_of(TokenPairs.of([TokenPair(list(range(2, 12)), list(range(2, 22)), list(range(2, 32)), 0)]))
    linear = 2 * (32 * (64 + 32 + 32) + 64 * 32 + 3 * 32 * 64)  # two layers
    adapter = 2 * 4 * (3 * 32 + 64 + 32 + 32 + 64 + 32 + 2 * (32 + 64) + 64 + 32)
    tokens, answers = 10 + 20 + 30 - 2, 50 - 2
    length = (2 * 10 + 20 + 30) / 2
    attention = 2 * 2 * 64 * length * (2 * length)
    assert ModelConfig.parse(config.to_dict()).embedding == 512 * 32
    found = model_flops(experiment, config, work, is_packed=True)
    wanted = 4 * linear * tokens + 4 * 512 * 32 * answers + 6 * adapter * tokens + 3 * attention
    assert found == pytest.approx(wanted, rel=0.05)  # norms count as weights, and an answer's first token as the prompt's


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """All figures of one part, with a tiny model in this process."""
    from tests.benchmarks.gpu.parts import part_of
    from tests.benchmarks.gpu.worker import MEASURES

    place = Place(tmp_path_factory.mktemp("gpu"), "cpu", tiny=True)

    def of(name: str) -> dict[str, Any]:
        part, found = part_of(name), {}
        for figures in MEASURES[part.measure](place, part.model, **part.settings):
            found |= json.loads(json.dumps(figures))
        return found

    return of


@pytest.mark.slow
def test_speed_is_measured_by_the_same_losses_as_trl_s(measured: Callable[[str], dict[str, Any]]) -> None:
    ours, tuned = measured("ours"), measured("trl-tuned")
    assert ours["path"] == "fast"
    assert len(ours["step_seconds"]) == len(tuned["step_seconds"]) == 2
    assert ours["losses"] == pytest.approx(tuned["losses"], abs=1e-5)
    assert ours["pairs_per_second"] == pytest.approx(4 / (sum(ours["step_seconds"]) / 2))
    assert ours["mfu"] is None
    assert ours["planned_bytes"] > 60640 * 4
    assert 0 < ours["tflops_per_second"] < 1


@pytest.mark.slow
def test_a_step_is_profiled(measured: Callable[[str], dict[str, Any]]) -> None:
    found = measured("launches")
    assert found["events"] > 1000
    assert found["kernels"] == 0
    assert found["sentence"].endswith("no kernels; waits for the device: not known on a CPU")


@pytest.mark.slow
def test_a_shortage_is_survived_with_shorter_rows(measured: Callable[[str], dict[str, Any]]) -> None:
    found = measured("shortage")
    assert found["status"] == "done"
    assert found["row_tokens_then"] <= found["row_tokens"] // 2
    assert len(found["warnings"]) == 1


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_adapter(measured: Callable[[str], dict[str, Any]]) -> None:
    found = measured("resume")
    assert (found["status"], found["whole"]) == ("done", found["resumed"])


@pytest.mark.slow
def test_each_way_to_train_is_looked_at(measured: Callable[[str], dict[str, Any]]) -> None:
    found = measured("ways")
    assert (found["status"], found["sentence"]) == ("done", "4 of 4 ways on the fast path")
    assert found["all weights"]["path"] == "fast"
    assert len(found["all weights"]["losses"]) == 2


def test_the_tests_that_need_a_gpu_are_found_without_collecting_all_others() -> None:
    from tests.benchmarks.gpu.checks import marked_files

    assert "tests/trainer/step/compiling/test_graphs.py" in marked_files()
    assert len(marked_files()) < 10


def test_a_setting_that_this_version_lacks_skips_its_part(tmp_path: Path) -> None:
    from tests.benchmarks.gpu.training import experiment_of, without_setting

    hyper = {"compiled_by_magic": "off"}
    assert without_setting(hyper, "compiled_by_magic") is None
    assert hyper == {}
    why = without_setting({"compiled_by_magic": "layers"}, "compiled_by_magic")
    assert why == "this version has no hyperparameters.compiled_by_magic"
    with pytest.raises(Skipped, match=r"this version has no hyperparameters\.compile"):
        experiment_of(Place(tmp_path, "cpu", tiny=True), "0.6B", "short prompt", 2, compile="no such way")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "compile", "recorded", "said"),
    [
        ("plain", "graphs", None, "; PLAIN PATH"),
        ("fast", "layers", None, ""),
        ("fast", "graphs", None, "; NO GRAPHS"),
        ("fast", "graphs", 0, "; NO GRAPHS"),
        ("fast", "graphs", 3, "; 3 graphs"),
    ],
)
def test_a_result_says_what_was_asked_for_and_is_missing(path: str, compile: str, recorded: int | None, said: str) -> None:
    from types import SimpleNamespace

    from tests.benchmarks.gpu.speed import short_of

    assert short_of(SimpleNamespace(path=path), compile, recorded) == said
