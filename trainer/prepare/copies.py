"""Copies of the checkpoints in ``checkpoint_to`` while a run trains: who uploads what, and how long the end waits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from accelerate.utils import gather_object

from launcher.errors import HealthError, LauncherError, Stopped
from launcher.experiment.files import read_env
from launcher.storage import Mirrored

from ..checkpoints.copies import Alone, Copies, Together
from ..checkpoints.mirror import First, Part, begin
from .rank import Rank

_AFTER_A_FAILURE: Final = 60.0  # seconds in which the last checkpoint of a run that failed may still be uploaded


@contextmanager
def mirrored(rank: Rank, trainer: Any) -> Iterator[None]:
    """Uploads the checkpoints that the ``trainer`` writes, until all are uploaded.

    A run that was asked to stop waits as long as its grace period allows.
    """
    place = Mirrored.of(rank.experiment, rank.run.name, read_env(Path()))
    if place is None:
        yield
        return
    copies: Copies = _together(rank, place) if rank.has_own_runs else _alone(rank, place)
    trainer.copies = copies
    _offer_own(rank, place, copies)
    try:
        yield
    except (Stopped, HealthError):  # on all ranks
        copies.finish(rank.stop.until or time.monotonic() + _AFTER_A_FAILURE, together=True)
        gather_object([None])  # torchrun kills the first rank soon after another one has ended
        raise
    except Exception:
        copies.finish(time.monotonic() + _AFTER_A_FAILURE, together=False)
        raise
    copies.finish(None, together=True)


def _alone(rank: Rank, place: Mirrored) -> Alone:
    limit = rank.experiment.hyperparameters.save_total_limit
    if not rank.first:
        return Alone(None)
    return Alone(begin(rank.run, First(place, limit, start=rank.run.start), place.uri, lambda: rank.stop.until))


def _together(rank: Rank, place: Mirrored) -> Together:
    """The nodes agree on a token: a part that an earlier attempt has left is not taken for one of this one."""
    nodes = int(os.environ.get("DPO_NNODES", "1"))
    token = gather_object([os.urandom(6).hex()])[0]
    notes = tuple(f"{token}-{node}.json" for node in range(1, nodes))
    limit, node = rank.experiment.hyperparameters.save_total_limit, rank.device.rank // (rank.device.world // nodes)
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return Together(None, node)
    send = First(place, limit, notes, start=rank.run.start) if node == 0 else Part(place, notes[node - 1])
    return Together(begin(rank.run, send, place.uri, lambda: rank.stop.until), node)


def _offer_own(rank: Rank, place: Mirrored, copies: Copies) -> None:
    """The newest checkpoint that the run's folder has on every node, where the bucket does not have it; all ranks decide as the
    first one does. A checkpoint of some nodes is none: the first one would wait for parts that do not come.
    """
    own = rank.run.checkpoints()
    there = set.intersection(*map(set, gather_object([[path.name for path in own]])))
    newest = next((path for path in reversed(own) if path.name in there), None)
    is_wanted = newest is not None and rank.first and not _is_there(place, newest)
    if gather_object([is_wanted])[0] and newest is not None:
        copies.offer(newest, None)


def _is_there(place: Mirrored, checkpoint: Path) -> bool:
    try:
        return int(checkpoint.name.removeprefix("checkpoint-")) in place.steps()
    except LauncherError:
        return False
