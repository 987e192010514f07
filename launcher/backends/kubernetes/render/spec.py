"""A run as the objects of a cluster, for ``kubectl create -f -`` and for the client. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from ....errors import ExperimentError, Mistake
from ....experiment.schema import Experiment
from ....experiment.sections.kubernetes import seconds
from ....experiment.variables import settings as passed_on
from ....job.image import Image
from ....job.job import Job
from ....redact import REDACTOR
from ....runs.run_dir import RunDir
from ...spec.container import container_environment, secrets_of, unproxied
from ...spec.environment import chosen, files
from ...spec.record import first_record
from ...spec.sizes import quantity
from ...spec.trust import trusting
from . import metadata, objects, told, trainjob
from .kinds import JOB, JOBSET, TRAINJOB
from .metadata import below_claim, run_dir
from .names import host_name, object_name
from .patch import Change, Keys, patched
from .placement import CACHE, DATA, RUNS, Local, Placement, Staged
from .placement import place as place_inputs
from .pod import CA, CA_FILE, Contents, grace_period, own_environment, pod_template
from .resources import Needs, Sizes, settled, wrong_gpus
from .template import template_of
from .user import USER_NAME
from .volumes import volumes_of


@dataclass(frozen=True)
class KubernetesSpec:
    """The objects of a run in the order of creation; the last one, a Job, JobSet or TrainJob, will own the others.

    ``namespace`` is None if it is the context's: then no object has one. ``staged``: folders to copy before the pods start.
    ``secret_keys``: keys of the Secret ``secret`` that the pods read. ``claims``: name of a volume (``runs``, ``cache``, …) ->
    claim. ``folder``: the run's, relative to the volume with the runs. ``grace``: seconds. ``changes``: what the experiment's
    patch of the pod sets; ``notices``: what a reader should know of the pods.
    """

    run: str
    job: str
    kind: str
    namespace: str | None
    nodes: int
    gpus: int
    image: Image
    folder: PurePosixPath
    objects: tuple[Mapping[str, Any], ...]
    comments: tuple[str, ...]
    staged: tuple[Staged, ...]
    secret: str
    secret_keys: tuple[str, ...]
    claims: Mapping[str, str]
    queue: str | None
    grace: int
    max_restarts: int
    changes: tuple[Change, ...] = ()
    notices: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "objects": [dict(one) for one in self.objects]}

    @property
    def owner(self) -> Mapping[str, Any]:
        """The Job, the JobSet or the TrainJob."""
        return self.objects[-1]

    @property
    def pod(self) -> Mapping[str, Any]:
        """The template of its pods: ``metadata`` and ``spec``."""
        return template_of(self.owner)

    @property
    def pods(self) -> int:
        """How many run at the same time: one for each node, or as many points of a sweep as its Job allows."""
        return int(self.owner["spec"]["parallelism"]) if self.kind == JOB.name else self.nodes

    @property
    def container(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.pod["spec"]["containers"][0]
        return found


@dataclass(frozen=True)
class Place:
    """What rendering needs beside the job: the cluster as far as it is known, the user, and the files of this machine.

    ``has_jobset``: whether the cluster serves JobSets, ``annotations``: of the namespace, each None if it was not asked;
    ``own_runtime``: whether the namespace has the runtime of TrainJobs, False: the cluster has it.
    ``deadline``: seconds, for active_deadline: auto, None if the time is unknown. ``origins``: of the experiment's leaves.
    ``caller``: the environment including ``.env``. ``code``: the revision of the code.
    """

    user: str
    image: Image
    local: Local
    namespace: str | None = None
    has_jobset: bool | None = None
    own_runtime: bool = False
    annotations: Mapping[str, str] | None = None
    sizes: Sizes = field(default_factory=Sizes)
    deadline: int | None = None
    origins: Mapping[Keys, str] = field(default_factory=dict, repr=False)
    code: Mapping[str, Any] = field(default_factory=dict)
    caller: Mapping[str, str] = field(default_factory=dict, repr=False)
    has_profile: bool = False  # the keys for S3 are in a profile of the AWS SDK


def render(job: Job, place: Place) -> KubernetesSpec:
    """The objects of ``job``; raises ExperimentError for a path, a name or a size that is not possible on a cluster."""
    placement = place_inputs(job.experiment, place.local)
    job = replace(job, notes={**job.notes, **_inputs(job.experiment, placement)})
    job = replace(job, experiment=placement.experiment)
    launch = job.experiment.launch
    nodes, settings = job.topology.nodes, launch.kubernetes
    _check(job, place.sizes)
    kind, why = _kind(job, place.has_jobset)
    name = object_name(job.run, kind, nodes)
    first = f"{host_name(name, kind, 0)}.{name}"
    run = run_dir(job)
    secret_keys = secrets_of(job, place.caller)
    named = _named(job, place, name, run)
    own = pod_template(job, _contents(job, place, named, first, str(run.path), placement, secret_keys))
    template, changes = _template(job, place, kind, own)
    notices = tuple(told.notices(job, template, changes, place))
    comments = (*([why] if why else []), *told.job_facts(job, first), *told.comments(job, place, placement, secret_keys))
    return KubernetesSpec(
        run=job.run,
        job=name,
        kind=kind,
        namespace=place.namespace,
        nodes=nodes,
        gpus=job.gpus,
        image=place.image,
        folder=below_claim(run),
        objects=(*_others(job, place, kind, named, run, placement), _owner(job, kind, named, template, place)),
        comments=(f"{job.run}: experiment {job.key} on {job.devices}, on a cluster", *comments, *notices),
        staged=placement.staged,
        secret=settings.secret,
        secret_keys=secret_keys,
        claims=MappingProxyType(dict(placement.claims)),
        queue=settings.queue,
        grace=grace_period(job, place.sizes.trained),
        max_restarts=launch.max_restarts,
        changes=changes,
        notices=notices,
    )


def _template(job: Job, place: Place, kind: str, own: dict[str, Any]) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The template of the pods with the experiment's patch, and what that changes; ``own``: the template without it."""
    settings = job.experiment.launch.kubernetes
    template, changes = patched(own, settings.pod, settings.gpu_resource, place.origins)
    template = settled(template, own)
    if kind == TRAINJOB.name:
        trainjob.check(job, template, own, place.image)
    return template, changes


def _named(job: Job, place: Place, name: str, run: RunDir) -> objects.Named:
    annotations = metadata.annotations_of(job, place.user, place.image, run)
    return objects.Named(
        name, place.namespace, metadata.labels(job, place.user), annotations, job.experiment.launch.kubernetes.queue
    )


def _contents(
    job: Job, place: Place, named: objects.Named, first: str, folder: str, placement: Placement, secret_keys: tuple[str, ...]
) -> Contents:
    """What the pods need beside the job; ``first``: the first node's name, ``folder``: the run's."""
    grace = grace_period(job, place.sizes.trained)
    env = _environment(job, place, first, folder, grace, has_secrets=bool(secret_keys))
    return Contents(
        place.image, named.name, named.labels, env, placement, secret_keys, folder, grace, place.sizes, place.annotations
    )


def _owner(job: Job, kind: str, named: objects.Named, template: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The Job, the JobSet or the TrainJob, with the place's deadline where the experiment leaves it to the plan."""
    launch, nodes = job.experiment.launch, job.topology.nodes
    given = launch.kubernetes.active_deadline
    deadline = place.deadline if given == "auto" else None if given is None else seconds(given)
    if kind == TRAINJOB.name:
        return trainjob.trainjob(named, template, nodes=nodes, deadline=deadline, own_runtime=place.own_runtime)
    of = objects.indexed_job if kind == JOB.name else objects.jobset
    return of(named, template, nodes=nodes, max_restarts=launch.max_restarts, deadline=deadline)


def text(spec: KubernetesSpec) -> str:
    """Input for ``kubectl create -f -``: comments, then one document per object."""
    from .manifest import document

    return "".join(f"# {comment}\n" for comment in spec.comments) + "".join(f"---\n{document(one)}" for one in spec.objects)


def _check(job: Job, sizes: Sizes) -> None:
    """Raises ExperimentError for GPUs that cannot be trained on, nodes that share nothing, and a ``/dev/shm`` of all memory."""
    if wrong := list(wrong_gpus(job)):
        raise ExperimentError(wrong)
    if job.topology.nodes > 1 and job.experiment.checkpoint_to is None and not volumes_of(job.experiment)["runs"].is_kept:
        what = f"is a volume of each pod's own, but the {job.topology.nodes} nodes write a checkpoint together"
        hint = "set checkpoint_to: s3://bucket/prefix, and each node uploads its part"
        raise ExperimentError(Mistake("launch.kubernetes.volumes.runs", what, "a claim that all nodes share", hint=hint))
    needs = Needs.of(job, sizes)
    if needs.memory > needs.shm:
        return
    what = f"/dev/shm counts as memory and takes all of it ({quantity(needs.shm)} of {quantity(needs.memory)})"
    raise ExperimentError(Mistake("launch.memory", what, "more memory, or a smaller launch.shm_size"))


def _kind(job: Job, has_jobset: bool | None) -> tuple[str, str | None]:
    """(Job, JobSet or TrainJob, the reason if the experiment does not set it)."""
    wanted, nodes = job.experiment.launch.kubernetes.kind, job.topology.nodes
    if wanted != "auto":
        return {"job": JOB, "jobset": JOBSET, "trainjob": TRAINJOB}[wanted].name, None
    if nodes == 1:
        return "Job", None
    if has_jobset is None:
        return "Job", "kind: Job, as no cluster was asked for JobSet support (--kind jobset renders a JobSet)"
    if has_jobset:
        return "JobSet", "kind: JobSet, as the cluster supports it; it restarts all nodes together"
    return "Job", "kind: Job, as the cluster does not support JobSet"


def _inputs(experiment: Experiment, placement: Placement) -> dict[str, Any]:
    """The record's ``inputs``: where the files of a ConfigMap are on this machine, which another run is started with."""
    if not placement.contents:
        return {}
    return {"inputs": {"datasets_path": experiment.datasets_path}}


def _others(
    job: Job, place: Place, kind: str, named: objects.Named, run: RunDir, placement: Placement
) -> Iterator[dict[str, Any]]:
    """The objects that must exist before the pods. The experiment is a file of its own; the entry adds it to the record."""
    record = {
        **{name: value for name, value in first_record(job, run, "kubernetes").items() if name != "experiment"},
        "user": place.user,
        "image": place.image.reference,
        "code": dict(place.code),
        "cluster": {
            "kind": kind,
            "object": named.name,
            "namespace": named.namespace,
            "claims": dict(placement.claims),
            **_given(job, place),
        },
    }
    if kind == JOB.name:
        yield objects.service(named)
    texts = {path.name: content for path, content in files(job, run).items()}
    yield objects.config_map(named, {**texts, objects.RECORD: objects.to_json(REDACTOR.value(record))})
    if placement.contents:
        yield objects.data_map(named, placement.contents)
    if placement.ca is not None:
        yield objects.ca_map(named, placement.ca)


def _given(job: Job, place: Place) -> dict[str, Any]:
    """What only the machine that rendered knew, so that any other can create the pods again: its variables, the names of its
    secrets, the numbers of the model's weights, the deadline in seconds that the plan gave, whose runtime a TrainJob uses, and
    the architecture of an image that was pushed."""
    return {
        "environment": passed_on(job.experiment, place.caller) | chosen(job, place.caller),
        "secrets": list(secrets_of(job, place.caller)),
        "weights": asdict(place.sizes),
        **({} if place.deadline is None else {"deadline": place.deadline}),
        **({"own_runtime": True} if place.own_runtime else {}),
        **({} if place.image.built_for is None else {"architecture": place.image.built_for}),
    }


def _environment(job: Job, place: Place, first: str, folder: str, grace: int, *, has_secrets: bool) -> dict[str, str]:
    trusted = {} if place.local.ca is None else trusting(f"{CA}/{CA_FILE}")
    return container_environment(
        job,
        place.caller,
        {"RUN": RUNS, "DATA": DATA, "CACHE": CACHE},
        folder,
        Needs.of(job).cores,
        user=USER_NAME,
        more={
            **own_environment(job, first, grace=grace, has_secrets=has_secrets),
            **trusted,
            **unproxied(place.caller, first.partition(".")[2] if job.topology.nodes > 1 else None),
        },
    )
