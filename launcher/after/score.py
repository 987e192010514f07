"""``launcher score``: rewards of new pairs under a run's weights, in a process of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.pairs import read_other
from ..data.prompt import kept_prompt
from ..errors import DataError, Mistake, UsageError
from ..experiment.other_tools.method import SFT
from ..planning.tokens.work import work_at_most
from ..planning.weights import uses
from ..runs.learned.json_lines import written
from ..runs.learned.pair_rewards import LENGTH, Group, PairReward, grouped
from ..runs.whole import write_whole
from .target import target
from .tool import Tool, held, tell, tool


@dataclass(frozen=True)
class Scored:
    """``learned``: as in a run's result. ``groups``: the same for each value of the column ``by``. ``output``: the file with
    the pairs.
    """

    run: str
    file: str
    learned: Mapping[str, Any]
    by: str
    groups: tuple[Group, ...]
    output: Path | None
    notices: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "file": self.file,
            "learned": self.learned,
            "by": self.by,
            "groups": [{"value": group.name, "pairs": group.pairs, **group.json()} for group in self.groups],
            "output": None if self.output is None else str(self.output),
            "notices": list(self.notices),
        }


def score(
    name: str, file: Path, output: Path | None, column: str | None, say: Callable[[str], None], backend: str | None = None
) -> Scored:
    """The rewards of the pairs in ``file`` under the weights of ``name``, written to ``output`` as one JSON object per line.

    ``name``: a run, or the folder of a run (as ``launcher download --all`` leaves it). ``backend``: host, docker or None (see
    ``tool``). Raises UsageError if ``name`` means no weights on this machine, DataError for mistakes in the file, LauncherError
    if no process can be started.
    """
    found = target(name)
    if found.run is None:
        raise UsageError(f"{found.folder} is not a run: score needs the run's mapping, prompt and loss")
    run = found.run
    if run.read_record().get("method") == SFT:
        raise UsageError(f"{run.name} is a run of method: sft and has no rewards; score a run of method: dpo")
    if not file.is_file():  # before a container is started for nothing
        raise DataError(Mistake(str(file), "file not found", expected="a CSV file"))
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"cannot write {output}: folder {output.absolute().parent} not found")
    place = tool(found, backend, "score", say)
    _tell_plan(place, file, say)
    answer = place.ask("score", [str(file)], reads=[str(file)], what=f"{file} cannot be scored")
    pairs, learned = [PairReward.of(pair) for pair in answer["pairs"]], answer["learned"]
    by = LENGTH if column is None else column
    groups = tuple(grouped(pairs, by, learned["noise"], str(file)))
    if output is not None:
        write_whole(output, written(pairs))
    return Scored(run.name, str(file), learned, by, groups, output, tuple(answer["notices"]))


def _tell_plan(place: Tool, file: Path, say: Callable[[str], None]) -> None:
    """Reports memory and time. Raises DataError for mistakes in the file, MemoryShortage if the weights do not fit."""
    experiment, run = place.target.settings, place.target.run
    prompt = None if run is None else kept_prompt(run)
    weights = held(place)
    if weights is None or prompt is None:
        return
    pairs = read_other(experiment, file, prompt).validation
    planned = uses.score(weights, work_at_most(pairs, experiment.hyperparameters.max_seq_length))
    planned.check()
    tell(planned, say)
