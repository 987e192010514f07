"""``launcher check --tokens``: the trainer tokenizes the data in its own process and answers in JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExperimentError, LauncherError, Mistake, Warned
from .ask_trainer import ask, check_installed, error_of

if TYPE_CHECKING:
    from ..data.checked import Checked, CheckedData
    from ..experiment.loaded import Loaded


def check_tokens(found: Checked, *, root: Path = Path(), row: int | None = None, say: Callable[[str], None]) -> Checked:
    """``found`` with token counts, or token mistakes, for every experiment without other mistakes.

    ``row``: training pair to show, 0 for the first; None for no pair and no lengths. ``say``: receives progress lines. Raises
    LauncherError if the packages for training are not installed.
    """
    asked = [one for one in found.experiments if one.is_whole and one.pairs is not None and one.model is None]
    if not asked:
        return found
    check_installed("--tokens")
    answers = dict(zip(map(id, asked), _answers(asked, root, row, say), strict=True))
    return replace(
        found, experiments=tuple(_with(one, answers[id(one)]) if id(one) in answers else one for one in found.experiments)
    )


def check_pods(found: Checked) -> Checked:
    """``found`` with mistakes in volumes and in the pod patch, for every experiment without other mistakes."""
    return replace(found, experiments=tuple(_with_pod(one) for one in found.experiments))


def _with_pod(one: CheckedData) -> CheckedData:
    from ..backends.kubernetes.render.patch import wrong_pod

    mistakes = wrong_pod(one.loaded.experiment) or _refused(one.loaded) if one.is_whole and one.error is None else []
    if not mistakes:
        return one
    try:
        with one.loaded.placed():
            raise ExperimentError(mistakes)
    except ExperimentError as placed:
        return replace(one, error=placed)


def _refused(loaded: Loaded) -> list[Mistake]:
    """What a cluster run would reject in the pod patch and in settings for a TrainJob."""
    from ..backends.kubernetes.render.patch import SETTING
    from ..experiment.files import read_env
    from .cluster_objects import Known, cluster_spec
    from .rendered import planned_for_cluster

    settings = loaded.experiment.launch.kubernetes
    if not settings.pod and settings.kind != "trainjob":
        return []
    try:
        job = planned_for_cluster(loaded, "check", read_env(Path.cwd()))
        cluster_spec(job, loaded, Known(namespace=settings.namespace))
    except ExperimentError as error:
        # Other obstacles to a cluster run, such as a local path, are no mistakes of an experiment for this machine.
        about = "launch." if settings.kind == "trainjob" else SETTING
        return [one for one in error.mistakes if about in f"{one.where}: {one.what}"]  # it has its place in the file already
    return []


def _answers(asked: Sequence[CheckedData], root: Path, row: int | None, say: Callable[[str], None]) -> list[dict[str, Any]]:
    from ..data.tables.sheets.spreadsheet import write_copy

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        questions = []
        for number, one in enumerate(asked):
            spreadsheet, copy = one.pairs.spreadsheet if one.pairs is not None else None, None
            if spreadsheet is not None:  # its cells are read once
                copy = folder / f"read-{number}"
                write_copy(copy, spreadsheet.files)
            questions.append(
                {
                    "experiment": one.loaded.experiment.model_dump(mode="json"),
                    "copy": None if copy is None else str(copy),
                    "row": row,
                }
            )
        file = folder / "asked.json"
        file.write_text(json.dumps(questions), encoding="utf-8")
        return list(ask("trainer.check", [str(file)], folder, root=root, say=say, what="the tokens cannot be checked"))


def _with(one: CheckedData, answer: Mapping[str, Any]) -> CheckedData:
    from ..data.checked import CheckedTokens

    error = answer.get("error")
    if error is None:
        said = tuple(Warned(notice["text"]) if notice["is_warning"] else notice["text"] for notice in answer["notices"])
        looked = answer.get("lengths"), answer.get("shown"), tuple(answer.get("examples") or ())
        counted = answer["pairs"], answer["tokens"], answer["longest"], answer["cut"]
        return replace(one, tokens=CheckedTokens(*counted, said, *looked))
    try:
        with one.loaded.placed():
            raise error_of(error)
    except LauncherError as placed:
        return replace(one, error=placed)
