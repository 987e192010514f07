"""Creates a run again after its Job was deleted, from its folder on the claim: same experiment, image, data and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ...errors import LauncherError, UsageError, labelled
from ...runs.made_of import files_of

if TYPE_CHECKING:
    from ...backends.kubernetes.backend import Kubernetes
    from ...backends.kubernetes.follow.archive import Archive
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...backends.kubernetes.render.placement import Local
    from ...backends.kubernetes.render.spec import KubernetesSpec
    from ...backends.kubernetes.submit.facts import Facts
    from ...experiment.schema import Experiment
    from ...job.resume import Recorded

_NOTES: Final = ("again", "set", "sweep", "template_date")  # entries of the record, for labels and for a folder without a record


@dataclass(frozen=True)
class Rebuilt:
    """The checked objects of a run, not created yet."""

    where: Kubernetes = field(repr=False)
    run: ClusterRun
    spec: KubernetesSpec = field(repr=False)

    def create(self) -> ClusterRun:
        """Creates them. Raises HalfWay, after removing what was created."""
        from ...backends.kubernetes.follow.again import wait_until_free
        from ...backends.kubernetes.submit.creation import create

        wait_until_free(self.where.cluster, replace(self.run, job=self.spec.job))
        found = create(self.where.cluster, self.spec, self.run.namespace)
        self.where.forget(self.run)
        return found


def rebuilt(where: Kubernetes, run: ClusterRun, say: Callable[[str], None]) -> Rebuilt:
    """``run``, whose Job is deleted, ready to be created again. ``say``: receives progress lines.

    Raises LauncherError if its folder cannot be read or is incomplete, NotReady for preflight findings.
    """
    archive = where.archive(run)
    archive.reader()
    recorded = stored_start(archive, run)
    say(f"{run.name}: its {run.kind} is gone; it is created again from {run.path}")
    local = _inputs(archive, run, recorded)
    return made(where, run, recorded, local, str(archive.file(run, "experiment.json")), say)


def made(
    where: Kubernetes, run: ClusterRun, recorded: Recorded, local: Local, experiment: str, say: Callable[[str], None]
) -> Rebuilt:
    """``run`` as it was started, with the inputs ``local``, after preflight checks. ``experiment``: its exact text.

    Raises NotReady for preflight findings.
    """
    rendered = partial(_rendered, recorded, run, local)
    facts = _asked(where, run, rendered, say)
    spec = rendered(facts.annotations)
    spec = replace(spec, objects=tuple(_resumed(obj, spec, experiment) for obj in spec.objects))
    _check(where, run, spec, facts, say)
    return Rebuilt(where, run, spec)


def stored_start(archive: Archive, run: ClusterRun) -> Recorded:
    """How the run was started, from its folder on the claim. Paths are those in the pods."""
    from ...job.resume import Recorded

    record = archive.record(run)
    try:
        return Recorded.parsed(run.name, json.dumps(record["experiment"]), archive.file(run, "deepspeed.json"), record)
    except (KeyError, ValueError) as error:
        raise LauncherError(f"{run.name}: cannot read how it was started in {run.path}: {error}") from error


def _rendered(recorded: Recorded, run: ClusterRun, local: Local, annotations: Mapping[str, str] | None) -> KubernetesSpec:
    """The objects as first rendered, with the variables and secrets of whoever submitted the run.

    ``annotations``: of the namespace, None if not asked.
    """
    from ...backends.kubernetes.render.resources import Sizes
    from ...experiment.loaded import Loaded
    from ...job.image import Image
    from ..cluster_objects import Known, cluster_spec

    record, e = recorded.record, recorded.experiment
    cluster = record.get("cluster") or {}
    caller: Mapping[str, str] | None = None  # None for a run that an earlier version rendered
    if "secrets" in cluster:
        # Only the names count. The "@" makes a proxy's address look like one with a password, so that it is a secret.
        caller = {**dict.fromkeys(cluster["secrets"], "@"), **(cluster.get("environment") or {})}
    gpus = 1 if e.launch.gpus == "auto" else e.launch.gpus
    notes = {name: record[name] for name in _NOTES if name in record}
    job = replace(recorded.job(gpus), notes=MappingProxyType(notes))
    known = Known(
        namespace=e.launch.kubernetes.namespace,
        annotations=annotations,
        has_jobset=run.kind == "JobSet",
        own_runtime=bool(cluster.get("own_runtime")),
        user=record.get("user"),
        deadline=cluster.get("deadline"),
        image=Image(str(record.get("image") or run.image), "cuda" if job.gpus else "cpu", built_for=cluster.get("architecture")),
        local=local,
        caller=caller,
        sizes=Sizes(**cluster["weights"]) if "weights" in cluster else None,
    )
    return cluster_spec(job, Loaded(e, recorded.key, Path(str(record.get("origin") or "its record")), {}), known)


def _inputs(archive: Archive, run: ClusterRun, recorded: Recorded) -> Local:
    """The data files of a ConfigMap: the run's copies on the claim, else those of this machine."""
    from ...backends.kubernetes.render.placement import Folder, Local
    from ...backends.spec.trust import read_bundle

    names, e = recorded.record.get("inputs"), recorded.experiment
    ca = read_bundle(e, Path.cwd())  # not on the claim
    if not names:
        return Local(ca=ca)
    found = _copies(archive, run, recorded) or _here(e.model_copy(update=names), recorded)
    sizes = {name: len(content) for name, content in found.items()}
    return Local(Folder(Path(str(e.datasets_path)), sizes, ""), found, ca=ca)


def _files(experiment: Experiment) -> dict[str, str]:
    """Role -> file name in record and experiment."""
    from ...data.tables.rows import PROMPT_FILENAME
    from ...experiment.sections.data_file import file_of

    e = experiment
    named = {"train": e.train_filename, "validation": e.validation_filename, "prompts": e.prompt_filename or PROMPT_FILENAME}
    return {role: file_of(name) for role, name in named.items() if name is not None}


def _copies(archive: Archive, run: ClusterRun, recorded: Recorded) -> Mapping[str, bytes] | None:
    """File name -> content of the data files in the run's folder; None if it has no copies."""
    from ...runs.run_dir import RunDir

    files, found = _files(recorded.experiment), dict[str, bytes]()
    for source in files_of(recorded.record.get("data") or []):
        name = files.get(str(source["role"]), "")
        content = archive.output(["cat", str(run.path / RunDir(Path()).source / Path(name).name)])
        if content is None or hashlib.sha256(content).hexdigest() != source["sha256"]:
            return None
        found[name] = content
    return found or None


def _here(experiment: Experiment, recorded: Recorded) -> Mapping[str, bytes]:
    """The same from this machine. Raises UsageError if they are missing or have changed."""
    from ...backends.kubernetes.render.local import look

    found = look(experiment, Path.cwd())
    read = {str(source["role"]): str(source["sha256"]) for source in recorded.record.get("data") or []}
    files = _files(experiment)
    wrong = [name for role, name in files.items() if role in read and _digest(found.contents.get(name)) != read[role]]
    if wrong or files["train"] not in found.contents:
        what = f"{experiment.datasets_path}/{(wrong or [files['train']])[0]}"
        raise UsageError(
            f"{recorded.run}: its folder has no copy of {what}, and this directory does not have the file\n"
            f"    hint:     resume it in the directory where it was submitted, or start a new run: launcher submit {recorded.key}"
        )
    return found.contents


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _resumed(obj: Mapping[str, Any], spec: KubernetesSpec, experiment: str) -> Mapping[str, Any]:
    """Puts the experiment's exact text into the objects, which the entrypoint compares, and marks the Job as one whose earlier
    pods wrote to the folder.
    """
    from ...backends.kubernetes.follow import state

    if obj["kind"] == "ConfigMap" and obj["metadata"]["name"] == spec.job:
        return {**obj, "data": {**obj["data"], "experiment.json": experiment}}
    if obj is not spec.owner:
        return obj
    now = datetime.now(UTC).isoformat(timespec="seconds")
    annotations = {**(obj["metadata"].get("annotations") or {}), state.RESUMED: now}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _asked(
    where: Kubernetes, run: ClusterRun, rendered: Callable[[Mapping[str, str] | None], KubernetesSpec], say: Callable[[str], None]
) -> Facts:
    from ...backends.kubernetes.submit.facts import gather
    from ..cluster.submitting import question

    say(f"preflight checks: namespace {run.namespace}, context {where.cluster.context}")
    return gather(where.cluster, question(rendered(None), run.namespace, True, lambda known: rendered(known).pod))


def _check(where: Kubernetes, run: ClusterRun, spec: KubernetesSpec, facts: Facts, say: Callable[[str], None]) -> None:
    """Preflight checks and a dry run before anything is created. What the deleted Job left is removed in between."""
    from ...backends.kubernetes.follow.removal import swept
    from ...backends.kubernetes.submit.creation import try_all
    from ...backends.kubernetes.submit.preflight import preflight

    found = preflight(spec, facts, namespace=run.namespace, can_push=False, is_named=True)
    for notice in found.notices:
        say(labelled(notice))
    found.check()
    swept(where.cluster, run)
    for notice in try_all(where.cluster, spec, run.namespace):
        say(labelled(notice))
