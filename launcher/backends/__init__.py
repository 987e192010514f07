"""Where a job runs. Every backend renders a job into a spec, which is pure, and acts on specs and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from ..job.job import Job
from ..runs.finding import Named
from ..runs.status import Status, is_over
from ..why import Evidence

__all__ = ["Backend", "Named", "Runs", "Status", "is_over"]


Spec = TypeVar("Spec")
Run = TypeVar("Run", bound=Named)
RunAsked = TypeVar("RunAsked", bound=Named, contravariant=True)


class Runs(Protocol[RunAsked]):
    """What can be asked of runs and done to them, on whatever they run."""

    def follow(self, run: RunAsked, rank: int | None = 0, begin: int = 0) -> Iterator[str]:
        """A rank's log to the run's end, in pieces; an empty piece now and then while there is none.

        ``rank`` None: that of all ranks, whole lines with a prefix ``[rank N] ``. ``begin``: what ``mark`` said, or the log's
        beginning.
        """

    def read(self, run: RunAsked, rank: int | None = 0) -> Iterator[str]:
        """The same as far as it is there; nothing if there is no log."""

    def mark(self, run: RunAsked) -> int:
        """Where the first rank's log ends now: a follower that begins there is told only what comes."""

    def status(self, run: RunAsked) -> Status:
        """How the run is, checked where it runs."""

    def stop(self, run: RunAsked, *, now: bool = False) -> Status:
        """Asks the run to stop after a checkpoint and returns at once, or kills all of it and returns when that is done."""

    def wait(self, run: RunAsked, say: Callable[[str], None]) -> None:
        """Returns when the run is over; ``say`` is told why that cannot be seen for a while."""

    def grace(self, run: RunAsked) -> int:
        """Seconds from a request to stop to the end by force."""

    def ranks(self, run: RunAsked) -> list[int]:
        """The ranks that have a log."""

    def words(self, run: RunAsked) -> str:
        """The last words of a run of which no rank has said anything, or nothing."""

    def tail(self, run: RunAsked) -> list[str]:
        """Lines among which are the run's last metrics."""

    def record(self, run: RunAsked) -> Mapping[str, Any]:
        """What the run's folder says of it, empty if it says nothing."""

    def checkpoints(self, run: RunAsked) -> list[str]:
        """The names of its complete checkpoints, oldest first."""

    def place(self, run: RunAsked) -> str:
        """Where its folder is, for a person."""

    def evidence(self, run: RunAsked) -> Evidence:
        """Everything that can be read of the run to explain its state."""

    def next_steps(self, run: RunAsked, record: Mapping[str, Any]) -> list[str]:
        """What fits a run that is done next, each as it is typed after `launcher`; ``record`` is the run's."""


class Backend(Runs[Run], Protocol[Spec, Run]):
    """``render`` and ``text`` are pure; the others act."""

    def render(self, job: Job) -> Spec:
        """What ``submit`` creates; raises ExperimentError for what this backend cannot do."""

    def text(self, spec: Spec, *, full: bool = True) -> str:
        """The commands that a person could type instead; ``full``: with the files that the run reads."""

    def notices(self, job: Job) -> list[str]:
        """Settings of ``launch`` that were written and have no effect here, each in a sentence."""

    def prepare(self, spec: Spec, say: Callable[[str], None]) -> None:
        """Gets what a run needs beside its data, and tells ``say``; raises LauncherError if it cannot."""

    def submit(self, spec: Spec, *, again: bool = False) -> Run:
        """Makes the run and starts it; ``again``: starts a run that is over, in its own folder.

        Raises LauncherError and leaves nothing that looks alive if it cannot.
        """
