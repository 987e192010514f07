"""Folders of runs as a training leaves them, without a training: record, metrics, evaluation; for tests of what reads them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.experiment.schema import Experiment
from launcher.runs.learned.json_lines import written
from launcher.runs.learned.pair_rewards import PairReward
from launcher.runs.learned.samples import Sample
from launcher.runs.learned.suspects import Suspect
from launcher.runs.run_dir import RunDir

EVAL_EVERY = 10  # evaluations in a run, besides the one at step 0


@dataclass
class Made:
    """One run of ``steps`` steps. ``settings``: hyperparameters; ``record``: entries that replace those of the record."""

    name: str
    steps: int = 40
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    validation: bool = True
    learned: bool = False
    gpus: tuple[str, ...] = ()
    total: int | None = None  # steps that were planned
    created: str = "2026-11-28T08:00:00.000+00:00"
    data: str = "a"  # another letter, other validation data

    def write(self, home: Path) -> RunDir:
        """The run below the default output folder of ``home``."""
        run = RunDir.of(home, "data/dpo/model", "demo", "qwen3-tiny", self.name)
        experiment = self.experiment()
        run.create({run.experiment: experiment.model_dump_json()}, self._record(run, experiment))
        with run.steps.open("w") as file:
            for line in self.lines():
                file.write(json.dumps(line) + "\n")
        notices = ["configs/demo/training_data.csv: unused columns: topic (1 of 4)"]
        (run.data / "report.json").write_text(json.dumps({"sources": [], "notices": notices}))
        pairs = [{"user": "Why?", "chosen": "x" * (20 + n), "rejected": "y" * 25, "line": n + 2} for n in range(10)]
        (run.data / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        return run

    def experiment(self) -> Experiment:
        given = {"learning_rate": 2e-3, "max_steps": self.steps, "per_device_train_batch_size": 16, **self.settings}
        given = {"gradient_accumulation_steps": 1, **given}
        files = {"datasets_path": "configs/demo"}
        if self.validation:
            files["validation_filename"] = "validation_data.csv"
        return Experiment.parse(
            {"experiment_id": "demo", "model_name": "data/demo/qwen3-tiny", **files, "hyperparameters": given}
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        """The metrics: a loss that falls, margins that grow, and as much noise as batches have."""
        chance, total = random.Random(self.seed), self.total or self.steps
        every = max(1, self.steps // EVAL_EVERY)
        if self.validation:
            yield self._line("eval", 0, total, 0.0, 0.0)
        for step in range(1, self.steps + 1):
            yield self._line("train", step, total, self._learnt(step), 0.25 * chance.gauss(0, 1))
            if self.validation and step % every == 0:
                yield self._line("eval", step, total, self._learnt(step), 0.0)

    def _learnt(self, step: int) -> float:
        return (2 + 0.3 * self.seed) * (1 - math.exp(-4 * step / (self.total or self.steps)))

    def _line(self, kind: str, step: int, total: int, margin: float, noise: float) -> dict[str, Any]:
        margin += noise
        figures = {
            "loss": math.log1p(math.exp(-margin)),
            "rewards/chosen": -0.6 * margin + noise / 3,
            "rewards/rejected": -1.6 * margin + noise / 3,
            "rewards/accuracies": max(0.0, min(1.0, 0.5 + margin / 5)),
            "rewards/margins": margin,
            "logps/chosen": -340.1 - 6 * margin,
            "logps/rejected": -300.2 - 16 * margin,
            "entropy": 5.88 + noise / 10,
        }
        if kind == "eval":
            figures = {f"eval_{name}": value for name, value in figures.items()}
        else:
            rate = float(self.experiment_rate) * (1 + math.cos(math.pi * step / total)) / 2
            figures |= {"grad_norm": 0.7 + abs(noise), "learning_rate": rate, "num_tokens": 3000.0 * step}
        seconds = 50 + 1.6 * step + (3 if kind == "eval" else 0) + 5 * ((step - 1) // max(1, self.steps // EVAL_EVERY))
        return {"type": kind, "step": step, "total_steps": total, **figures, "epoch": step / 27, "seconds": seconds}

    @property
    def experiment_rate(self) -> float:
        return float(self.settings.get("learning_rate", 2e-3))

    def _record(self, run: RunDir, experiment: Experiment) -> dict[str, Any]:
        *_, last = [line for line in self.lines() if line["type"] == ("eval" if self.validation else "train")]
        result: dict[str, Any] = {"steps": self.steps, "train_loss": 0.34 + self.seed / 100, "pairs_per_second": 9.025}
        if self.validation:
            result["after"] = {name: value for name, value in last.items() if name.startswith("eval_")}
        if self.learned:
            result["learned"] = learned(last)
        roles = {"train": "c", **({"validation": self.data} if self.validation else {})}
        return {
            "run": self.name,
            "key": "demo",
            "experiment_id": "demo",
            "model_name": experiment.model_name,
            "backend": "host",
            "folder": str(run.path),
            "origin": "configs/demo.yml",
            "experiment": experiment.model_dump(mode="json"),
            "created": self.created,
            "code": {"revision": "8ba510d8426d4babc37cb39b02c04508a5677569", "dirty": False},
            "attempts": [{"number": 1, "started": "2026-11-28T08:00:00+00:00", "ended": "2026-11-28T09:30:00+00:00"}],
            "outcome": {"state": "done", "exit_code": 0, "sentence": "done", "ended": "2026-11-28T09:30:00+00:00"},
            "packages": {"python": "3.11.7", "torch": "2.13.0"},
            "hardware": {"machine": "x86_64", "cores": 2, "gpus": list(self.gpus), "ranks": max(1, len(self.gpus))},
            "data": [
                {"role": role, "name": f"configs/demo/{role}.csv", "sha256": content * 64, "rows": 420}
                for role, content in roles.items()
            ],
            "work": {"pairs": 420, "tokens": 81857, "longest": 140, "steps": self.steps},
            "dpo_path": {"path": "fast", "sentence": "fast path on: same loss and gradient as TRL on the first pairs"},
            "result": result,
            **self.record,
        }


def learned(last: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with intervals, around those of the last evaluation."""

    def around(name: str, half: float) -> dict[str, float]:
        value = float(last[f"eval_rewards/{name}"])
        return {"value": value, "low": value - half, "high": min(1.0, value + half) if half < 0.1 else value + half}

    after = {"accuracy": around("accuracies", 0.05), "margin": around("margins", 0.2)}
    after |= {"chosen": around("chosen", 0.2), "rejected": around("rejected", 0.2)}
    none = {"value": 0.0, "low": 0.0, "high": 0.04}
    parts = [(20, 40), (41, 60)]
    return {
        "pairs": 84,
        "before": dict.fromkeys(after, none),
        "after": after,
        "by_length": [{"from": begin, "to": end, "pairs": 42, **after} for begin, end in parts],
        "noise": 1e-4,
        "suspects": 0,
        "looked_at": 420,
    }


def evaluate(
    run: RunDir,
    *,
    text: str = "Open the window.",
    suspects: int = 2,
    better: float = 0.0,
    columns: Mapping[str, int] | None = None,
) -> None:
    """Adds answers, suspects and the rewards of single pairs, as the end of a run leaves them, with ``text`` in each answer.

    ``better``: added to the margin of each pair. ``columns``: further columns of the validation pairs before topic, each with
    the number of its values.
    """
    run.evaluation.mkdir()
    answers = [
        Sample(step, row, f"Prompt {row}: {text}", f"It depends. {text}", f"{step}: {text}")
        for step, row in ((20, 2), (20, 3), (40, 2), (40, 3))
    ]
    far = [Suspect(n + 2, -3.0 + n / 10, 3.5 - n / 100, text, f"Vague {text}", f"Exact {text}") for n in range(max(20, suspects))]
    chance, topics = random.Random(7), ("home", "work", "home", "travel")
    pairs = [
        PairReward(
            n + 2,
            20,
            30 + n,
            40,
            chance.gauss(1 + better, 0.01),
            chance.gauss(0, 2),
            {**{name: f"{n % count}" for name, count in (columns or {}).items()}, "topic": topics[n % 4]},
        )
        for n in range(84)
    ]
    (run.evaluation / "samples.jsonl").write_text("".join(json.dumps(one.json()) + "\n" for one in answers))
    (run.evaluation / "suspects.jsonl").write_text("".join(json.dumps(one.json()) + "\n" for one in far))
    (run.evaluation / "pairs.jsonl").write_text(written(pairs))
    record = run.read_record()
    result = record.get("result") or {}
    if "learned" in result:
        run.update_record(result={**result, "learned": {**result["learned"], "suspects": suspects}})


def finding(rule: str = "margin_flat", step: int = 20) -> dict[str, Any]:
    """A finding as ``run.json["health"]`` has it."""
    return {
        "rule": rule,
        "action": "warn",
        "first_step": step,
        "last_step": step + 10,
        "sentence": f"the margin is flat since step {step}",
        "suggestion": "raise learning_rate",
    }
