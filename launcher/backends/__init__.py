"""Where a job runs. Every backend renders a job into a spec, which is pure, and acts on specs and run folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..job import Job
from ..run_dir import RunDir

Spec = TypeVar("Spec")


@dataclass(frozen=True)
class Status:
    """How a run is: ``starting``, ``running``, ``done``, ``failed``, ``stopped``, ``aborted``, ``lost`` or ``unknown``."""

    state: str
    exit_code: int | None = None
    sentence: str | None = None

    @property
    def is_over(self) -> bool:
        return self.state not in ("starting", "running", "unknown")


class Backend(Protocol[Spec]):
    """``render`` and ``text`` are pure; the others act."""

    def render(self, job: Job) -> Spec:
        """What ``submit`` creates; raises ExperimentError for what this backend cannot do."""

    def text(self, spec: Spec) -> str:
        """The spec as a person reads it, and could do it by hand."""

    def notices(self, job: Job) -> list[str]:
        """Settings of ``launch`` that were written and have no effect here, each in a sentence."""

    def prepare(self, spec: Spec, say: Callable[[str], None]) -> None:
        """Gets what a run needs beside its data, and tells ``say``; raises LauncherError if it cannot."""

    def submit(self, spec: Spec, *, again: bool = False) -> RunDir:
        """Makes the run's folder and starts it; ``again``: starts a run that is over, in its own folder.

        Raises LauncherError and leaves nothing that looks alive if it cannot.
        """

    def follow(self, run: RunDir, rank: int = 0, begin: int = 0) -> Iterator[str]:
        """A rank's log from byte ``begin`` to the run's end, in pieces; an empty piece now and then while there is none."""

    def status(self, run: RunDir) -> Status:
        """How the run is, checked where it runs."""

    def stop(self, run: RunDir, *, now: bool = False) -> Status:
        """Asks the run to stop after a checkpoint and returns at once, or kills all of it and returns when that is done."""
