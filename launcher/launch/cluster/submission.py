"""The result of a submission, and the listener for its progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import Warned

if TYPE_CHECKING:
    from ...backends.kubernetes.backend import Kubernetes
    from ...backends.kubernetes.follow.run import ClusterRun


class Listener(Protocol):
    """Receives the progress of a submission, which may take minutes."""

    def say(self, line: str, /) -> None:
        """One step: data read, image pushed, folder staged."""

    def facts(self, those: Mapping[str, str], /) -> None:
        """What will be created, by label, before anything is created."""

    def notices(self, those: Iterable[str], /) -> None:
        """Notices and warnings, as soon as they are known."""


class Silent:
    """A listener for programs, which read the ``Submission`` instead."""

    def say(self, line: str, /) -> None: ...

    def facts(self, those: Mapping[str, str], /) -> None: ...

    def notices(self, those: Iterable[str], /) -> None: ...


@dataclass(frozen=True)
class Submission:
    """A run that was created on a cluster.

    ``kind`` and ``job``: the object that owns the others. ``created``: (kind, name) of every object in order of creation.
    ``where`` and ``on_cluster``: backend and run, to follow and stop it.
    """

    run: str
    experiment: str
    context: str
    namespace: str
    kind: str
    job: str
    image: str
    folder: str
    created: tuple[tuple[str, str], ...]
    facts: Mapping[str, str]
    notices: tuple[str, ...]
    where: Kubernetes = field(repr=False, compare=False)
    on_cluster: ClusterRun = field(repr=False, compare=False)

    def json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "experiment": self.experiment,
            "context": self.context,
            "namespace": self.namespace,
            "kind": self.kind,
            "job": self.job,
            "image": self.image,
            "folder": self.folder,
            "created": [{"kind": kind, "name": name} for kind, name in self.created],
            "facts": dict(self.facts),
            "notices": [one for one in self.notices if not isinstance(one, Warned)],
            "warnings": [one for one in self.notices if isinstance(one, Warned)],
        }
