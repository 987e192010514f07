"""What a run will be, in a few lines, before anything is started. Pure."""

from __future__ import annotations

from ..data.pairs import Pairs
from ..job.job import Job
from ..runs.run_dir import RunDir
from .work import tokens_at_most

_SHARED = {
    "stays": "the pairs of every step and their order, the loss as a mean over pairs, the learning rate: as on one device",
    "changes": "rounding, as gradients are summed over the ranks in another order",
}


def derived(job: Job, pairs: Pairs, run: RunDir) -> list[str]:
    """One line a fact; numbers that only the trainer knows exactly are said to be bounds."""
    h = job.experiment.hyperparameters
    rows = ", ".join(f"{source.rows} {source.role}" for source in pairs.sources)
    epochs = "" if h.max_steps is not None else f" ({h.num_train_epochs:g} epoch{'s' * (h.num_train_epochs != 1)})"
    limit = h.max_seq_length
    facts = {
        "run": job.run,
        "experiment": job.key + (f" ({job.origin})" if job.origin else ""),
        "model": job.experiment.model_name,
        "data": f"rows: {rows}; pairs: {len(pairs.train)} train, {len(pairs.validation)} validation",
        "tokens": f"at most {tokens_at_most(pairs.train, limit):,} an epoch, both answers with their prompts "
        f"(a bound counted in bytes, each cut at {limit})",
        "devices": job.devices,
        **({"sharing": job.topology.parallelism.why} if job.topology.parallelism.why else {}),
        "a step": job.batch,
        **(_SHARED if job.world > 1 else {}),
        "steps": f"{job.experiment.steps(len(pairs.train), job.world)}{epochs}",
        "output": str(run.path),
    }
    return [f"{name:<12}{fact}" for name, fact in facts.items()]
