"""``launcher plan RUN``: memory and time of each use of trained weights, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..backends.status.finding import local_run
from ..errors import UsageError
from ..experiment.files import read_env
from ..job.target import Target
from ..planning.planned import Planned, Wanted, plan_for
from ..planning.tokens.assumed import PAIRS, full_work
from ..planning.weights import uses
from ..planning.weights.held import Held
from ..planning.weights.held_here import held_here
from ..planning.weights.split import serve
from ..planning.weights.use import Use, size_of

_ANSWER: Final = 512  # tokens per prompt, tokens per answer


@dataclass(frozen=True)
class Uses:
    """``sizes_from``: where the model's sizes were read."""

    target: Target
    held: Held
    sizes_from: str
    uses: tuple[Use, ...]

    @property
    def facts(self) -> dict[str, str]:
        """Label -> value: the weights, then one line for each use."""
        what = "whole weights" if self.target.adapter is None else f"an adapter of {self.target.base}"
        facts = {
            "weights": f"{self.target.name}, {what}, on {self.held.device}",
            "model": f"{self.held.config.parameters:,} parameters",
            "sizes": f"from {self.sizes_from}",
        }
        return facts | {use.name: f"{_verdict(use)}; {use.time}" for use in self.uses}

    def json(self) -> dict[str, Any]:
        return {
            "weights": self.target.name,
            "base": self.target.base,
            "device": self.held.device,
            "parameters": self.held.config.parameters,
            "sizes_from": self.sizes_from,
            "uses": [use.json() for use in self.uses],
        }


def plan_of(
    name: str, wanted: Wanted, *, file: Path | None, overrides: Sequence[str], say: Callable[[str], None]
) -> Planned | Uses:
    """The plan of the experiment ``name``, or of the uses of the run ``name``. See ``plan_for`` and ``uses_of``."""
    target = None if file is not None or overrides else named(name)
    return plan_for(name, wanted, file=file, overrides=overrides, say=say) if target is None else uses_of(target, wanted)


def named(name: str) -> Target | None:
    """The weights that ``name`` means if it is no experiment: a folder, `latest`, or a full run name."""
    if (Path(name) / "run.json").is_file() or ("/" in name and Path(name).is_dir()):
        return Target.of(Path(name))
    with suppress(UsageError):
        run = local_run(name)
        key = str(run.read_record().get("key", ""))
        if name == "latest" or (run.name.startswith(name) and len(name) > len(key)):
            return Target.of(run.path)
    return None


def uses_of(target: Target, wanted: Wanted) -> Uses:
    """Memory and time of chat, generate, score, merge and, on a GPU, serve. Assumes 1,000 prompts with answers of 512 tokens,
    and 1,000 pairs of the run's maximum length.

    Raises UsageError for options that apply only to training, and the errors of ``find_model_config``.
    """
    others = {"--gpus": wanted.gpus, "--nodes": wanted.nodes, "--parallelism": wanted.parallelism}
    if given := [name for name, value in others.items() if value is not None]:
        raise UsageError(f"{' and '.join(given)}: {target.name} is a trained run, which is planned on one GPU")
    caller = read_env(Path.cwd())
    held, where = held_here(target, caller, card=wanted.card, sizes=wanted.model_config, network=True)
    return Uses(target, held, where, tuple(_uses(target, held)))


def _uses(target: Target, held: Held) -> Iterator[Use]:
    sides = 1 if target.adapter is None else 2
    yield uses.chat(held, _ANSWER, sides)
    yield uses.generate(held, uses.Prompts(PAIRS, PAIRS * _ANSWER, _ANSWER), _ANSWER, 1)
    if target.run is not None and not target.settings.is_sft:
        yield uses.score(held, full_work(target.settings))
    if target.adapter is not None:
        yield uses.merge(held, None, compare=True)
    if held.machine.cuda:
        yield serve(held)


def _verdict(use: Use) -> str:
    total = size_of(use.total)
    if use.there is None:
        return f"needs {total}; the available memory is unknown"
    verdict = f"{'fits' if use.fits else 'does not fit'}: {total} of {size_of(use.there)}"
    return verdict if use.fits or use.hint is None else f"{verdict}; {use.hint}"
