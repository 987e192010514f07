"""What a run will be, in a few lines, before anything is started. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..estimate import Work
from ..job import Job
from ..pairs import Pair, Pairs
from ..run_dir import RunDir

# What a chat template adds to one prompt with its answer: role marks, and in some a system message of its own.
_TEMPLATE_TOKENS = 64


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


def tokens_at_most(pairs: Iterable[Pair], max_seq_length: int) -> int:
    """An upper bound of the tokens in ``pairs``: no token is less than a byte, and every sequence is cut at its limit."""
    return work_at_most(pairs, max_seq_length).tokens


def work_at_most(pairs: Iterable[Pair], max_seq_length: int) -> Work:
    """The same for all that an estimate needs to know of ``pairs``."""
    count = tokens = packed = longest = longest_pair = 0
    for pair in pairs:
        prompt = len((pair.system or "").encode()) + len(pair.user.encode()) + _TEMPLATE_TOKENS
        both = [min(max_seq_length, prompt + len(answer.encode())) for answer in (pair.chosen, pair.rejected)]
        once = max(max(both), sum(both) - min(prompt, max_seq_length))
        count, tokens, packed = count + 1, tokens + sum(both), packed + once
        longest, longest_pair = max(longest, *both), max(longest_pair, once)
    return Work(count, tokens, packed, longest, longest_pair)
