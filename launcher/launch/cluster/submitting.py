"""A submission in progress: local checks, preflight checks on the cluster, image and inputs, objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...errors import Warned
from ...signals import sigterm_as_ctrl_c
from ..cluster_objects import Known, cluster_spec
from .submission import Listener, Submission

if TYPE_CHECKING:
    from ...backends.kubernetes.backend import Kubernetes
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...backends.kubernetes.render.placement import Local
    from ...backends.kubernetes.render.spec import KubernetesSpec
    from ...backends.kubernetes.submit.facts import Facts, Question
    from ...backends.kubernetes.submit.preflight import Preflight
    from ...data.pairs import Pairs, Source
    from ...experiment.loaded import Loaded
    from ...job.image import Image
    from ...job.job import Job


@dataclass(frozen=True)
class Together:
    """The points of a sweep in one Job. ``parallel``: how many of them run at the same time."""

    name: str
    parallel: int
    points: tuple[tuple[Job, Loaded], ...]


@dataclass
class Submitting:
    """One submission in progress."""

    job: Job
    loaded: Loaded
    caller: Mapping[str, str]
    registry: str | None
    anyway: bool
    follows: bool
    is_named: bool
    told: Listener
    image: Image | None = None  # None: the image of the experiment or of this checkout
    check: Callable[[Sequence[Source]], None] = lambda _: None
    copy: Path | None = None  # folder with the spreadsheet's cells
    local: Local | None = None  # this machine's files, if already read
    together: Together | None = None
    user: str | None = None  # the caller's name on the cluster
    deadline: int | None = None  # seconds, if the plan decides it
    notices: list[str] = field(default_factory=list)
    specs: list[KubernetesSpec] = field(default_factory=list)  # last rendering of each point

    def submit(self, data_of: str | None) -> Submission:
        from ...backends.kubernetes.submit.creation import create, try_all
        from ...backends.kubernetes.submit.facts import gather
        from ...backends.kubernetes.submit.preflight import of_named, preflight
        from ...backends.kubernetes.submit.probes import try_pod
        from ...backends.kubernetes.submit.staging import stage
        from ...backends.status.finding import cluster_of
        from ..data import with_copy
        from ..on_nodes import deadline
        from .names import check_names

        local, draft, pairs = self.check_here(data_of)
        self.deadline = deadline(self.job, pairs, self.caller)
        where, _ = cluster_of(self.caller, self.job.experiment.launch.kubernetes.namespace)
        cluster, namespace = where.cluster, where.cluster.namespace
        with sigterm_as_ctrl_c():
            self.told.say(f"preflight checks: namespace {namespace}, context {cluster.context}")
            asked = question(draft, namespace, self.follows, lambda known: self._pod(local, namespace, known))
            facts, self.user = gather(cluster, asked), cluster.user()
            self._take_own_disks(facts)
            spec = self._spec(local, namespace, facts, None)
            can_push = self.registry is not None
            known = {"can_push": can_push, "is_named": self.is_named, "is_verified": self.job.experiment.launch.verify}
            self._judge(preflight(spec, facts, namespace=namespace, **known))
            self._notice(check_names(where.cluster, self.specs, namespace) if self.is_named else ())
            image = self._verified(self._pushed(spec, facts), spec)
            if image is not None:
                spec = self._spec(local, namespace, facts, image)
                self._judge(of_named(spec, try_pod(cluster, namespace, spec.pod), namespace))
            spec = with_copy(spec, pairs.spreadsheet if pairs is not None else None)
            told = self._facts(spec, pairs, cluster.context, namespace)
            self._notice(try_all(cluster, spec, namespace))
            storage = self.job.experiment.storage_config
            stage(cluster, spec, namespace, storage, self.caller, self.told.say, is_patient=self.anyway)
            run = create(cluster, spec, namespace)
        return self._done(spec, where, run, told)

    def check_here(self, data_of: str | None) -> tuple[Local, KubernetesSpec, Pairs | None]:
        """(this machine's files, the objects as far as known without a cluster, the pairs)."""
        from ...backends.kubernetes.render.local import look
        from ..data import check_travels, copy_of

        with self.loaded.placed():
            local = self.local or look(self.job.experiment, Path.cwd())
            spec = self._rendered(Known(local=local))
            with nullcontext(self.copy) if self.copy is not None else copy_of(self.job.experiment, data_of) as copy:
                pairs = _read(self.job, spec, self.caller, copy, self.told)
            if data_of is not None and pairs is not None:
                check_travels(spec, pairs.spreadsheet)
        if pairs is not None:
            self.check(pairs.sources)
        return local, spec, pairs

    def _spec(self, local: Local, namespace: str, facts: Facts, image: Image | None) -> KubernetesSpec:
        known = Known(
            namespace=namespace,
            annotations=facts.annotations,
            has_jobset=facts.takes_jobsets,
            own_runtime=facts.trainer.has_own_runtime,
            deadline=self.deadline,
            image=image,
            local=local,
        )
        return self._rendered(known)

    def _pod(self, local: Local, namespace: str, annotations: Mapping[str, str]) -> Mapping[str, Any]:
        """The pod template for a namespace with these annotations."""
        return self._rendered(Known(namespace=namespace, annotations=annotations, local=local)).pod

    def _rendered(self, known: Known) -> KubernetesSpec:
        """The objects of the run, or of all points of a sweep in one Job."""
        from ...backends.kubernetes.render.together import together

        known = replace(known, image=known.image or self.image, user=self.user)
        points = ((self.job, self.loaded),) if self.together is None else self.together.points
        self.specs = specs = [cluster_spec(job, loaded, known) for job, loaded in points]
        if self.together is None:
            return specs[0]
        return together(self.together.name, self.together.parallel, [job for job, _ in points], specs)

    def _take_own_disks(self, facts: Facts) -> None:
        """If no claim for runs is usable and ``checkpoint_to`` is set, the pods get their own disks."""
        from ...backends.kubernetes.submit.own_disks import on_own_disks

        def changed(job: Job) -> Job:
            experiment, notice = on_own_disks(job.experiment, job.topology.nodes, facts)
            self._notice([] if notice is None else [notice])
            return replace(job, experiment=experiment)

        self.job = changed(self.job)
        if self.together is not None:
            points = tuple((changed(job), loaded) for job, loaded in self.together.points)
            self.together = replace(self.together, points=points)

    def _judge(self, found: Preflight) -> None:
        """Raises NotReady for preflight findings; with ``anyway`` they become warnings."""
        self._notice(found.notices)
        if not self.anyway:
            found.check()
        self._notice(Warned(finding) for finding in found.findings)

    def _pushed(self, spec: KubernetesSpec, facts: Facts) -> Image | None:
        """The pushed image by its digest; None if the cluster can pull the image without a push."""
        from ...backends.kubernetes.submit.preflight import is_local, is_pushed
        from ...job.image import Image

        reference = spec.image.reference
        if self.registry is not None and not is_local(reference):
            self._notice(
                [f"--registry {self.registry} is not used: image {reference} ({spec.image.why}) is not built on this machine"]
            )
        if self.registry is None or not is_pushed(reference, facts, can_push=True):
            return None
        from ...backends.docker.build import ensure, push
        from ...backends.docker.engine import connect, translated

        client = connect(self.caller)
        with translated(f"image {reference}"):
            ensure(client, spec.image, self.caller, self.told.say)
            digest = push(client, reference, f"{self.registry}/dpo-launcher", self.told.say)
            return Image(digest, spec.image.variant, built_for=client.images.get(reference).attrs.get("Architecture"))

    def _verified(self, pushed: Image | None, spec: KubernetesSpec) -> Image | None:
        """The image by its digest after its signature was verified, if the experiment asks for that; else ``pushed``."""
        launch = self.job.experiment.launch
        if not launch.verify or launch.signed_by is None:
            return pushed
        from ...backends.signature import verified

        image = verified(pushed or spec.image, launch.signed_by, self.caller)
        self.told.say(f"image {image.reference}: signature verified")
        return image

    def _facts(self, spec: KubernetesSpec, pairs: Pairs | None, context: str, namespace: str) -> dict[str, str]:
        """What will be created, also reported to the listener."""
        planned = _planned(self.job, spec, pairs, self.caller)
        if self.together is not None:
            count = f"{len(self.together.points)} points, {self.together.parallel} at a time"
            planned = {
                "sweep": f"{self.together.name}: {count}",
                **{k: v for k, v in planned.items() if k not in ("run", "output")},
            }
        facts = planned | {
            "cluster": f"{spec.kind} {spec.job} in namespace {namespace}, context {context}",
            "image": spec.image.reference,
        }
        self.told.facts(facts)
        of_data = pairs.notices if pairs is not None else ()
        self._notice((*self.loaded.notices, *spec.notices, *_lost(self.job, self.caller), *of_data))
        return facts

    def _notice(self, those: Iterable[str]) -> None:
        new = [one for one in those if one not in self.notices]
        self.notices += new
        self.told.notices(new)

    def _done(self, spec: KubernetesSpec, where: Kubernetes, run: ClusterRun, facts: Mapping[str, str]) -> Submission:
        return Submission(
            run=run.name,
            experiment=self.job.key,
            context=where.cluster.context,
            namespace=run.namespace,
            kind=spec.kind,
            job=spec.job,
            image=spec.image.reference,
            folder=str(run.path),
            created=tuple((obj["kind"], obj["metadata"]["name"]) for obj in spec.objects),
            facts=MappingProxyType(dict(facts)),
            notices=tuple(self.notices),
            where=where,
            on_cluster=run,
        )


def _read(job: Job, spec: KubernetesSpec, caller: Mapping[str, str], copy: Path | None, told: Listener) -> Pairs | None:
    """The pairs, read as for a run on this machine; None if only a pod can read them."""
    from ...backends.kubernetes.render.placement import travels
    from ...data.pairs import read_pairs
    from ...data.tables.reading import Reading
    from ...experiment.sections.hub_data import is_remote
    from ...job.model import check_model
    from ...job.starting import check_starting

    e = job.experiment
    if travels(e.model_name, e):
        check_model(e, Path.cwd(), caller)
    if travels(e.adapter, e):
        check_starting(e, Path.cwd(), caller)
    path = e.datasets_path
    if path is not None and not is_remote(path) and not travels(path, e):
        return None
    return read_pairs(e, Reading(Path.cwd(), caller, copy=copy, say=told.say))


def question(
    spec: KubernetesSpec, namespace: str, follows: bool, template: Callable[[Mapping[str, str]], Mapping[str, Any]]
) -> Question:
    """What the preflight checks ask the cluster. ``follows``: the log will be read, too. ``template``: see ``Question``."""
    from ...backends.kubernetes.render.kinds import TRAINJOB
    from ...backends.kubernetes.submit.facts import Question

    is_trainjob = spec.kind == TRAINJOB.name
    chosen = (("submit --queue", spec.queue is not None), ("submit --kind trainjob", is_trainjob))
    verbs = ("submit", *(verb for verb, is_so in chosen if is_so), *(["ps", "logs"] if follows else []))
    secret = spec.secret if spec.secret_keys else None
    return Question(namespace, spec.run, spec.claims, secret, spec.queue, verbs, template, is_trainjob)


def _lost(job: Job, caller: Mapping[str, str]) -> list[Warned]:
    """Warnings about the caller's environment variables that do not reach a pod or mean something else there."""
    from ...backends.kubernetes.render.told import lost
    from ...storage.client.profile import with_profile

    return lost(job, *with_profile(job.experiment, caller))


def _planned(job: Job, spec: KubernetesSpec, pairs: Pairs | None, caller: Mapping[str, str]) -> dict[str, str]:
    """What is known about the run before the cluster is contacted."""
    from ...backends.kubernetes.render.placement import RUNS
    from ...planning.derived import derived
    from ...planning.planned import said_before_submit
    from ...runs.run_dir import RunDir

    folder = RunDir(Path(RUNS) / spec.folder)
    if pairs is None:
        data = f"{job.experiment.datasets_path}: read and checked in the pods only"
        return {"run": job.run, "devices": job.devices, "a step": job.batch, "output": str(folder.path), "data": data}
    return {**derived(job, pairs, folder).facts, **said_before_submit(job.experiment, pairs, Path(), caller)}
