"""A run's facts before it starts: devices, steps, evaluations, data. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ..data.pairs import Pairs
from ..experiment.schema import Experiment
from ..job.job import Job
from ..runs.run_dir import RunDir
from .tokens.work import tokens_at_most

_SHARED: Final = {
    "same": "the pairs of every step and their order, the loss as a mean over pairs, the learning rate: as on one device",
    "differs": "rounding: gradients are summed over the ranks in another order",
}


@dataclass(frozen=True)
class Derived:
    """``tokens``: upper bound per epoch. ``steps``: of the whole run. ``evaluations``: number of evaluations."""

    job: Job
    pairs: Pairs
    run: RunDir
    tokens: int
    steps: int
    evaluations: int = 0

    def json(self) -> dict[str, Any]:
        return {
            "run": self.job.run,
            "experiment": self.job.key,
            "origin": self.job.origin,
            "model": self.job.experiment.model_name,
            **({"adapter": self.job.experiment.adapter} if self.job.experiment.adapter else {}),
            "training_pairs": len(self.pairs.train),
            "validation_pairs": len(self.pairs.validation),
            "tokens_at_most": self.tokens,
            "devices": self.job.devices,
            "parallelism": self.job.topology.parallelism.why,
            "evaluations": self.evaluations,
            "global_batch": self.job.experiment.global_batch,
            "steps": self.steps,
            "output": str(self.run.path),
        }

    @property
    def facts(self) -> dict[str, str]:
        """Label -> fact."""
        job, h = self.job, self.job.experiment.hyperparameters
        epochs = "" if h.max_steps is not None else f" ({h.num_train_epochs:g} epoch{'s' * (h.num_train_epochs != 1)})"
        rows = ", ".join(f"{source.rows} {source.role}" for source in self.pairs.sources)
        why = job.topology.parallelism.why
        return {
            "run": job.run,
            "experiment": job.key + (f" ({job.origin})" if job.origin else ""),
            "model": job.experiment.model_name,
            **starting_facts(job.experiment),
            "data": f"{len(self.pairs.train):,} training, {len(self.pairs.validation):,} validation pairs (rows: {rows})",
            "tokens": f"≤ {self.tokens:,} per epoch (upper bound: one token per byte, sequences cut at {h.max_seq_length})",
            "devices": job.devices,
            **({"sharing": why} if why else {}),
            "a step": job.batch,
            **(_SHARED if job.world > 1 else {}),
            "steps": f"{self.steps:,}{epochs}",
            **({"evaluations": self._evaluations} if self.evaluations else {}),
            "output": str(self.run.path),
        }

    @property
    def _evaluations(self) -> str:
        h = self.job.experiment.hyperparameters
        every = "epoch" if h.eval_strategy == "epoch" else f"{h.eval_steps or h.logging_steps:,} steps"
        when = f"before the first step, every {every} and at the end"
        held_out = len(self.pairs.validation)
        return f"{self.evaluations:,}, {held_out:,} validation pair{'' if held_out == 1 else 's'} each: {when}"


def starting_facts(experiment: Experiment) -> dict[str, str]:
    """The adapter that the run continues or merges, and the resulting reference; empty without an adapter."""
    if experiment.adapter is None:
        return {}
    what = {
        "continue": "trained on; the reference is the model with this adapter",
        "merge": "merged into the model; the reference is the merged model",
    }
    return {"adapter": f"{experiment.adapter}, {experiment.adapter_mode}: {what[experiment.adapter_mode]}"}


def derived(job: Job, pairs: Pairs, run: RunDir) -> Derived:
    h = job.experiment.hyperparameters
    tokens = tokens_at_most(pairs.train, h.max_seq_length)
    size = len(pairs.train), job.world
    job.experiment.check_kept(*size)
    return Derived(job, pairs, run, tokens, job.experiment.steps(*size), job.experiment.evaluations(*size))
