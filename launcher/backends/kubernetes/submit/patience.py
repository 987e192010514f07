"""Waiting for the pod of a staging Job: what it waits for, in the words of `launcher why`, and how long that is worth it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ....errors import LauncherError
from ....why import Evidence, Explanation
from ....why import explain as explained
from ..api.cluster import Cluster
from ..api.errors import ClusterUnreachable
from ..follow.evidence import gather
from ..follow.pods import is_running
from ..follow.point import pod_in
from ..follow.run import ClusterRun

Say = Callable[[str], None]

LOOK: Final = 0.5  # seconds between two looks at the pod
ASK: Final = 2.0  # seconds between two questions why it does not run
EVERY: Final = 5.0  # seconds between two lines about what it waits for
STUCK: Final = 60.0  # seconds until a cause that only a person removes is an error
LONG: Final = 900.0  # seconds until any other cause is one: a node of an autoscaler comes in minutes
_CALLED: Final = "the staging pod"
# Causes of `why` that go away by waiting; the others do not.
_PASSING: Final = frozenset(
    ("gated", "kueue-waiting", "network", "node-disk", "node-slow", "pulling", "quota", "rate-limit", "registry-unreachable",
     "restarting", "starting", "unschedulable", "volume")
)  # fmt: skip
_AT_WORK: Final = frozenset(("pulling", "starting"))  # nothing is wrong: a large image may take any time


def running_pod(cluster: Cluster, job: Mapping[str, Any], say: Say, *, is_patient: bool) -> str:
    """The name of the pod of ``job``, as the API returned it, once it runs.

    Prints what it waits for, and again every few seconds. ``is_patient``: it waits as long as the Job lives. Raises LauncherError
    with the explanation if the pod does not start.
    """
    run = replace(ClusterRun.of(job), name=_CALLED)
    waiting, asked = _Waiting(say, is_patient), time.monotonic()  # most pods run before anything need be said
    while True:
        try:
            for one in cluster.list(f"/api/v1/namespaces/{run.namespace}/pods", run.selector):
                pod = pod_in(run, one)
                if is_running(pod):
                    return pod.name
            if time.monotonic() - asked >= min(ASK, EVERY):
                asked = time.monotonic()
                waiting.on(gather(cluster, run, is_helper=True))
        except ClusterUnreachable as error:
            waiting.away(error)
        time.sleep(LOOK)


class _Waiting:
    """How long staging has waited, the reason, and when the reason was last printed."""

    def __init__(self, say: Say, is_patient: bool):
        self._say, self._is_patient = say, is_patient
        self._began = self._since = time.monotonic()
        self._sentence, self._cause, self._told = "", "", 0.0

    def on(self, seen: Evidence) -> None:
        """Prints what it waits for, if that is new or was printed a while ago. Raises LauncherError to give up."""
        found = explained(seen)
        if seen.is_over:
            raise _given_up(found, "ended before it started")
        self._hold(found)

    def away(self, error: ClusterUnreachable) -> None:
        """The same where the cluster cannot be reached."""
        self._hold(Explanation("network", str(error).splitlines()[0], ""))

    def _hold(self, found: Explanation) -> None:
        now = time.monotonic()
        if found.cause != self._cause:
            self._cause, self._since = found.cause, now
        if found.sentence != self._sentence or now - self._told >= EVERY:
            self._sentence, self._told = found.sentence, now
            waited = now - self._began
            self._say(f"waiting  {found.sentence}" + (f" ({waited:.0f} s)" if waited >= 1 else ""))
        limit = LONG if found.cause in _PASSING else STUCK
        if not self._is_patient and found.cause not in _AT_WORK and now - self._since > limit:
            raise _given_up(found, f"did not start within {limit:.0f} s", longer=found.cause in _PASSING)


def _given_up(found: Explanation, what: str, *, longer: bool = False) -> LauncherError:
    hints = [found.suggestion] if found.suggestion and _CALLED not in found.suggestion else []
    hints += ["wait without a limit with: launcher submit --anyway"] if longer else []
    hint = f"\n    hint:     {'; '.join(hints)}" if hints else ""
    return LauncherError(f"{_CALLED} {what}: {found.sentence}{hint}")
