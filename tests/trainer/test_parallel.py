"""One experiment on one process and on two, by DDP and by each stage of ZeRO: the same losses, and no interruption that changes
a bit. The entry, torchrun, gloo and DeepSpeed are real; the model is small.

The run of ZeRO-3 is processes of its own, as a user's are; so are those of DDP in tests/test_demo.py. The others are forks of one
that has imported torch, which costs half as much; a fork that is killed ends with the bits of a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from launcher.experiment.resolved import resolved
from launcher.experiment.schema import Experiment
from launcher.job.presets import read_parallelism
from launcher.job.topology import Topology
from launcher.runs.processes import Process, members
from launcher.runs.run_dir import RunDir
from tests.trainer.forks import HOLD_AT, Forks, kill_all
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
STEPS = 6
MODES = {"one": ("ddp", 1), "ddp": ("ddp", 2), "zero1": ("zero1", 2), "zero2": ("zero2", 2), "zero3": ("zero3", 2)}
EVERY_TWO = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": 2, "save_total_limit": None}
BATCH = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}


class Started:
    """A run by its entry, which may be started again; a fork of ``forks``, or without them a process of its own."""

    def __init__(self, root: Path, experiment: Experiment, mode: str, name: str, forks: Forks | None = None):
        parallelism, nproc = MODES[mode]
        topology = Topology(nproc=nproc, parallelism=read_parallelism(parallelism, root))
        self.run = RunDir.of(root, "out", "tiny", experiment.model_folder, name)
        files = {self.run.experiment: resolved(experiment)}
        if topology.parallelism.deepspeed is not None:
            files[self.run.deepspeed] = json.dumps(topology.parallelism.deepspeed)
        self.run.create(files, {"run": name})
        self._env = {
            **os.environ,
            **topology.environment(str(self.run.deepspeed)),
            "DPO_RUN_FOLDER": str(self.run.path),
            "DPO_CACHE_ROOT": str(root / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        self._forks = forks
        self._entry: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def start(self, hold_at: int | None = None) -> None:
        """``hold_at``: the step at which a fork stands still until it is killed."""
        if self._forks is not None:
            held = {} if hold_at is None else {HOLD_AT: str(hold_at)}
            self._pid = self._forks.start(self.run.path, {**self._env, **held})
            return
        argv = [sys.executable, "-m", "trainer.processes.entrypoint", str(self.run.path)]
        self._entry = subprocess.Popen(argv, env=self._env, stdout=subprocess.DEVNULL)
        self._pid = self._entry.pid

    def finish(self) -> int:
        assert self._pid, "it was started"
        return self._entry.wait(timeout=PATIENCE) if self._entry is not None else self._forks.end(self._pid)

    def until_step(self, step: int) -> None:
        def has_come() -> bool:
            return any(event["step"] >= step for event in self.events("train"))

        wait_for(has_come, (self.run.logs / "rank-0.log").read_text, seconds=PATIENCE)

    def kill(self) -> None:
        """SIGKILL to every process at once."""
        kill_all(self._pid)
        self.finish()

    def pid_of(self, rank: int) -> int:
        """Of a fork: entry and torchrun are older than the ranks."""
        family = sorted(map(Process.of, members(None, self._pid)), key=lambda one: (one.start_time, one.pid))
        return family[2 + rank].pid

    def events(self, kind: str) -> list[dict[str, Any]]:
        if not self.run.steps.exists():
            return []
        lines = self.run.steps.read_text().splitlines(keepends=True)
        return [e for line in lines if line.endswith("\n") and (e := json.loads(line))["type"] == kind]

    @property
    def losses(self) -> list[float]:
        return [event["loss"] for event in self.events("train")]

    def adapter(self) -> Mapping[str, torch.Tensor]:
        return load_file(self.run.adapter / "adapter_model.safetensors")

    def outcome(self) -> dict[str, Any]:
        return dict(self.run.read_record()["outcome"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def undisturbed(root: Path, make_experiment: Make, forks: Forks) -> dict[str, Started]:
    """A whole run of each mode."""
    runs = {}
    for mode in MODES:
        by = None if mode == "zero3" else forks
        runs[mode] = Started(root, make_experiment(**EVERY_TWO, **BATCH), mode, mode, by)
        runs[mode].start()
        assert runs[mode].finish() == 0, (runs[mode].run.logs / "rank-0.log").read_text()
    return runs


def test_one_process_ddp_and_every_stage_of_zero_have_the_same_losses(undisturbed: dict[str, Started]) -> None:
    one = undisturbed["one"].losses
    assert len(one) == STEPS
    assert one[-1] < one[0] - 0.001, "it learns"
    for mode, run in undisturbed.items():
        assert run.losses == pytest.approx(one, rel=1e-5), mode


def test_every_mode_saves_a_whole_adapter_that_was_read_back(undisturbed: dict[str, Started]) -> None:
    one = undisturbed["one"].adapter()
    for mode, run in undisturbed.items():
        assert run.run.read_record()["result"]["verified"]["tensors"] == len(one), mode
        for name, tensor in run.adapter().items():
            torch.testing.assert_close(tensor, one[name], rtol=1e-3, atol=1e-5)


def test_no_rank_is_done_before_the_adapter_is_there(undisturbed: dict[str, Started]) -> None:
    for mode, run in undisturbed.items():
        published = run.run.adapter.stat().st_ctime  # it was renamed then
        notes = [json.loads(note.read_text()) for note in run.run.attempt(1).glob("rank-*.exit.json")]
        assert len(notes) == MODES[mode][1]
        assert [note for note in notes if note["time"] < published] == [], mode


def test_under_zero_it_is_deepspeed_that_keeps_the_optimizer(undisturbed: dict[str, Started]) -> None:
    for mode, run in undisturbed.items():
        parts = list((run.run.checkpoints()[-1]).glob("global_step*/*optim_states.pt"))
        assert len(parts) == (2 if mode.startswith("zero") else 0), mode


@pytest.mark.parametrize("mode", ["ddp", "zero2", "zero3"])
def test_a_run_that_was_killed_ends_with_the_same_bits(
    undisturbed: dict[str, Started], root: Path, make_experiment: Make, forks: Forks, mode: str
) -> None:
    run = Started(root, make_experiment(**EVERY_TWO, **BATCH), mode, f"killed-{mode}", forks)
    run.start(hold_at=STEPS)
    run.until_step(3)
    run.kill()
    assert not run.run.adapter.exists()
    run.start()
    assert run.finish() == 0
    expected = undisturbed[mode].adapter()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in run.adapter().items())
    assert run.losses == undisturbed[mode].losses, "the log has every step once"


@pytest.mark.parametrize(("then", "now"), [("zero3", "one"), ("one", "zero2")])
def test_a_checkpoint_goes_on_under_another_sharding_and_says_what_is_not_the_same(
    undisturbed: dict[str, Started], root: Path, make_experiment: Make, forks: Forks, then: str, now: str
) -> None:
    kept = undisturbed[then].run.path / "checkpoint-2"
    experiment = make_experiment(**EVERY_TWO, **BATCH, resume_from_checkpoint=str(kept))
    run = Started(root, experiment, now, f"{then}-{now}", forks)
    run.start()
    assert run.finish() == 0, (run.run.logs / "rank-0.log").read_text()
    assert run.losses == pytest.approx(undisturbed["one"].losses[2:], rel=1e-5)
    assert "the result is not bit for bit that of an uninterrupted run" in (run.run.logs / "rank-0.log").read_text()


def test_a_request_to_one_rank_stops_both_after_one_checkpoint(root: Path, make_experiment: Make, forks: Forks) -> None:
    run = Started(root, make_experiment(**{**EVERY_TWO, "max_steps": 500, "save_steps": 400}, **BATCH), "ddp", "stopped", forks)
    run.start()
    run.until_step(2)
    os.kill(run.pid_of(1), signal.SIGTERM)
    assert run.finish() == 143
    (kept,) = run.run.checkpoints()
    assert (
        run.outcome()["sentence"] == f"stopped at step {kept.name.removeprefix('checkpoint-')} of 500: resumes from {kept.name}"
    )


def test_a_rank_that_is_killed_ends_the_other_within_seconds_and_is_the_reason(
    root: Path, make_experiment: Make, forks: Forks
) -> None:
    run = Started(root, make_experiment(**{**EVERY_TWO, "max_steps": 500}, **BATCH), "ddp", "halved", forks)
    run.start()
    run.until_step(2)
    other, began = run.pid_of(0), time.monotonic()
    os.kill(run.pid_of(1), signal.SIGKILL)
    assert run.finish() == 137
    assert time.monotonic() - began < 60
    assert run.outcome()["sentence"].startswith("a rank was killed (SIGKILL)")
    assert Process.of(other) is None


def test_memory_that_runs_out_costs_no_step_and_changes_no_loss(
    tmp_path: Path, make_experiment: Make, make_trainer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.step.choosing.choice import choose_path, take_path

    losses = {}
    for limit in (None, 250):
        trainer, tokens, precision = make_trainer(tmp_path / str(limit), make_experiment(max_steps=3, **BATCH))

        def forward(module: Any, args: Any, kwargs: Any, limit: int | None = limit) -> None:
            if limit is not None and kwargs["input_ids"].numel() > limit and torch.is_grad_enabled():
                raise torch.OutOfMemoryError(f"{kwargs['input_ids'].numel()} tokens are too many")

        choice = choose_path(trainer, "fast", tokens, "fast")
        trainer.origin = {"zero_stage": 0, "ranks": 1}
        take_path(trainer, choice, precision, "0" * 64, [("train.csv", tokens)], tmp_path / "cache")
        trainer.model.register_forward_pre_hook(forward, with_kwargs=True)
        trainer.try_longest()
        trainer.train()
        losses[limit] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    out = capsys.readouterr().out
    assert "out of memory at step 1: this and all later steps use rows of at most" in out, "the longest rows go first"
    assert "out of memory at step 2" not in out, "what was learned of the memory holds for all that follows"
    assert losses[250] == pytest.approx(losses[None], rel=1e-5)
    assert len(losses[250]) == 3


def test_a_pair_that_does_not_fit_alone_ends_the_run(
    tmp_path: Path, make_experiment: Make, make_trainer: Callable[..., Any]
) -> None:
    from trainer.step.choosing.choice import choose_path, take_path

    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(**BATCH))
    choice = choose_path(trainer, "fast", tokens, "fast")
    take_path(trainer, choice, precision, "0" * 64, [("train.csv", tokens)], tmp_path / "cache")

    def forward(module: Any, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("no room at all")

    trainer.model.register_forward_pre_hook(forward, with_kwargs=True)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        trainer.try_longest()
    shortage = trainer.shortage(caught.value)
    assert (shortage.exit_code, shortage.can_split) == (45, False)
    assert "lower max_seq_length, or see `launcher plan`" in str(shortage)
