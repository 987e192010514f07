"""What a reader should know of a run's objects: comments for those who create them by hand, and what is unexpected. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ....errors import Warned
from ....job.job import Job
from ....job.topology import Node
from ....runs.known import duration
from ...spec.container import unreached, untracked
from ...spec.environment import facts
from ...spec.sizes import quantity
from .guard import unrestricted
from .patch import SETTING, Change
from .placement import Placement
from .resources import Needs, is_over_tcp
from .user import said
from .volumes import SETTING as VOLUMES_SETTING
from .volumes import volumes_of

if TYPE_CHECKING:
    from .spec import Place


def lost(job: Job, caller: Mapping[str, str], has_profile: bool) -> list[Warned]:
    """What of the caller's environment is another thing in a pod, or does not reach it."""
    has_profile = has_profile and job.experiment.launch.kubernetes.service_account is None  # which may have a role
    unreachable = unreached(job, caller, "pod", has_files=False, has_profile=has_profile)
    return [*unreachable, *untracked(job, caller, "pod", _patched(job))]


def _patched(job: Job) -> list[str]:
    """The variables that the experiment's patch sets in the pods."""
    containers = (job.experiment.launch.kubernetes.pod.get("spec") or {}).get("containers") or ()
    return [str(one["name"]) for container in containers for one in container.get("env") or ()]


def job_facts(job: Job, first: str) -> tuple[str, ...]:
    """As for the other backends; the commands of other nodes only differ in the node's number."""
    if job.topology.nodes == 1:
        return facts(job)
    return facts(replace(job, node=Node(0, first)), "the entry of the first node")


def notices(job: Job, template: Mapping[str, Any], changes: Sequence[Change], place: Place) -> Iterator[str]:
    """What the reader should know of the pods, and may not expect."""
    settings, pod = job.experiment.launch.kubernetes, template["spec"]
    if (user := said(settings, place.annotations)) is not None:
        yield user
    if changes:
        yield f"{SETTING} sets {', '.join(map(str, changes))}"
    if loose := list(unrestricted(pod)):
        yield Warned(
            f"{', '.join(loose)}: refused by a namespace that enforces the restricted Pod Security Standard; it needs the label "
            "pod-security.kubernetes.io/enforce: privileged"
        )
    yield from _of_own_disks(job)
    annotations = template["metadata"]["annotations"]
    if job.gpus and job.topology.nodes > 1 and is_over_tcp(pod, annotations, settings.gpu_resource):
        yield (
            f"network: the {job.topology.nodes} nodes exchange gradients over plain TCP (no RDMA device in {SETTING}); "
            "k8s/examples has faster networks"
        )
    if settings.active_deadline == "auto" and place.deadline is not None:
        after = f"{duration(place.deadline)} after its Job starts"
        yield f"deadline: the run is ended {after} (launch.kubernetes.active_deadline: auto)"
    if settings.active_deadline == "auto" and place.deadline is None:
        yield Warned("no deadline: launch.kubernetes.active_deadline is auto, and the time of the run is unknown")


def _of_own_disks(job: Job) -> Iterator[str]:
    """What becomes of a run whose pods have only disks of their own for the runs."""
    runs, experiment = volumes_of(job.experiment)["runs"], job.experiment
    if runs.is_kept:
        return
    (kind,) = runs.source
    if experiment.checkpoint_to is None:
        what = f"volume runs is an {kind}: checkpoints, logs and adapter are lost with the pod"
        yield Warned(f"{what}; set checkpoint_to: s3://bucket/prefix, or a claim in {VOLUMES_SETTING}.runs")
    else:
        what = f"volume runs is an {kind}: checkpoints, metrics, logs and adapter are in {experiment.checkpoint_to}"
        yield f"{what}, and a restarted pod resumes from there"


def comments(job: Job, place: Place, placement: Placement, secret_keys: tuple[str, ...]) -> Iterator[str]:
    """What the objects need, for users who create them by hand."""
    yield place.image.sentence
    needs = Needs.of(job, place.sizes)
    unsaid = [name for name, is_said in (("cpus", needs.are_cpus_said), ("memory", needs.is_memory_said)) if not is_said]
    if unsaid:
        names = " and ".join(f"launch.{name}" for name in unsaid)
        yield (
            f"{names} not set: per node, requests are cpu {needs.cpus:g}, memory {quantity(needs.memory)}, "
            f"limits cpu {needs.cpus_at_most:g}, memory {quantity(needs.memory)}"
        )
    if placement.claims:
        yield f"claims: {', '.join(f'{claim} ({role})' for role, claim in placement.claims.items())}"
    if secret_keys:
        yield f"keys of the Secret {job.experiment.launch.kubernetes.secret} (`launcher secrets push`): {', '.join(secret_keys)}"
    for staged in placement.staged:
        yield f"`launcher submit` copies {staged.folder.path} ({staged.folder.size:,} bytes) once to {staged.target}"
    yield from lost(job, place.caller, place.has_profile)
    if place.image.build is not None:
        yield f"`launcher submit` pushes the image: {place.image.reference} exists only on this machine"
