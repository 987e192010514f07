"""Where a job runs: on the host, in Docker or on Kubernetes. A backend renders a job into a spec (pure), and acts on runs.

Others take the protocols here, ``choose``, ``status`` (finding a run, its state), ``stopping``, ``checkup``, ``adapters``,
``tensorboard`` and ``diff``.
"""

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
    """What can be asked of runs and done to them, the same on every backend."""

    def follow(self, run: RunAsked, rank: int | None = 0, begin: int = 0) -> Iterator[str]:
        """A rank's log to the run's end, in pieces; an empty piece several times a second while nothing is printed.

        ``rank`` None: all ranks, in whole lines with the prefix ``[rank N] ``. ``begin``: where to start, from ``mark``.
        """

    def read(self, run: RunAsked, rank: int | None = 0) -> Iterator[str]:
        """The log so far, in pieces; none if there is no log."""

    def mark(self, run: RunAsked) -> int:
        """Where the first rank's log ends now: a follower that starts there sees only what is printed later."""

    def status(self, run: RunAsked) -> Status:
        """The run's state, checked where it runs."""

    def stop(self, run: RunAsked, *, now: bool = False) -> Status:
        """Asks the run to stop after a checkpoint and returns at once; ``now``: kills it and returns when it is dead.

        Returns the state before that, or after a kill.
        """

    def wait(self, run: RunAsked, say: Callable[[str], None]) -> None:
        """Returns when the run is over; tells ``say`` if its state cannot be read for a while."""

    def grace(self, run: RunAsked) -> int:
        """Seconds from a request to stop to the end by force."""

    def unseen(self, run: RunAsked) -> int:
        """Seconds, beside those, in which a run that was asked to stop just now may not see it; 0 where it does at once."""

    def ranks(self, run: RunAsked) -> list[int]:
        """Ranks that have a log."""

    def words(self, run: RunAsked) -> str:
        """The last output of a run of which no rank has printed anything, else nothing."""

    def tail(self, run: RunAsked) -> list[str]:
        """The last lines of output, with the newest metrics."""

    def record(self, run: RunAsked) -> Mapping[str, Any]:
        """The run's record, empty if it cannot be read."""

    def file(self, run: RunAsked, path: str) -> str | None:
        """The text of a file below the run's folder; None if it is missing or cannot be read."""

    def checkpoints(self, run: RunAsked) -> list[str]:
        """Names of complete checkpoints, oldest first."""

    def place(self, run: RunAsked) -> str:
        """The run's folder, to show."""

    def evidence(self, run: RunAsked) -> Evidence:
        """Everything that can be read of the run to explain its state."""

    def next_steps(self, run: RunAsked, record: Mapping[str, Any]) -> list[str]:
        """What fits a run that is done next, each as it is typed after `launcher`; ``record`` is the run's."""


class Backend(Runs[Run], Protocol[Spec, Run]):
    """``render`` and ``text`` are pure, the other methods act."""

    def render(self, job: Job) -> Spec:
        """The spec that ``submit`` creates; raises ExperimentError for what this backend cannot do."""

    def text(self, spec: Spec, *, full: bool = True) -> str:
        """The commands that a person could type instead; ``full``: with the files that the run reads."""

    def notices(self, job: Job) -> list[str]:
        """One sentence for each setting under ``launch`` that has no effect on this backend."""

    def prepare(self, spec: Spec, say: Callable[[str], None]) -> None:
        """Gets what a run needs besides its data, such as the image; tells ``say`` what takes time. Raises LauncherError."""

    def submit(self, spec: Spec, *, again: bool = False) -> Run:
        """Creates the run and starts it; ``again``: starts a run that is over, in its own folder.

        Raises LauncherError if it cannot, and leaves no run that looks alive.
        """
