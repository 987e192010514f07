"""A run as a container: the request to the engine, and the equal command line. Pure."""

from __future__ import annotations

import csv
import hashlib
import io
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...errors import Warned
from ...experiment.explain.effects import idle_given
from ...job.job import Job
from ...runs.cache import cache_root
from ...runs.run_dir import RunDir
from ..spec.container import unreached, untracked
from ..spec.environment import GRACE, facts, files, script
from ..spec.record import first_record
from .container import LOGS, PIDS, Container, Person, Place, container, hostname
from .paths import Mount, layout


@dataclass(frozen=True)
class DockerSpec(Container):
    """The container of a run, the files that it reads, and the first record of the run."""

    run_dir: RunDir
    comments: tuple[str, ...]
    files: Mapping[Path, str]
    record: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        return {
            "folder": str(self.run_dir.path),
            "container": self.name,
            "image": self.image.reference,
            "command": list(self.command),
            "environment": dict(self.env),
            "secrets": list(self.secrets),
            "user": self.user,
            "mounts": [{"source": str(m.source), "target": m.target, "read_only": m.read_only} for m in self.mounts],
            "gpus": self.gpus,
            "cpus": self.cpus,
            "memory": self.memory,
            "shm_size": self.shm_size,
            "files": {str(path): text for path, text in self.files.items()},
        }


def render(job: Job, place: Place) -> DockerSpec:
    """The container of ``job``; raises ExperimentError for a path or a name that is impossible in a container."""
    e, h = job.experiment, job.experiment.hyperparameters
    run = RunDir.of(place.cwd, h.model_output_dir, e.experiment_id, e.model_folder, job.run, job.node.rank)
    where = layout(e, place.cwd, place.person.home, cache_root(place.caller), place.is_folder)
    folder = str(RunDir.of(Path(where.output), "", e.experiment_id, e.model_folder, job.run).path)
    name = f"dpo-{job.run}-{hashlib.sha256(str(run.path).encode()).hexdigest()[:6]}"
    own = Mount(run.experiment, f"{folder}/experiment.json", read_only=True)
    made = container(job, place, where, folder, name, (*job.command, folder), labels(job, run, place.person), [own])
    return DockerSpec(
        **vars(made),
        run_dir=run,
        comments=(f"{job.run}: experiment {job.key} in a container: {job.devices}", *facts(job), *_said(job, place)),
        files=MappingProxyType(files(job, run)),
        record=MappingProxyType({**first_record(job, run, "docker"), "image": place.image.reference}),
    )


def text(spec: DockerSpec, *, full: bool = True) -> str:
    """A shell script that does what ``submit`` does, without the image's build and the record of who started it.

    ``full``: with the files that the run reads.
    """
    comments = [*spec.comments]
    if spec.secrets:
        comments.append(f"secrets: {', '.join(spec.secrets)}, one file each in {spec.secret_dir}, written before the start")
    folders = sorted({str(m.source) for m in spec.mounts if not m.read_only})
    command = [f"mkdir -p {shlex.join([*folders, str(spec.run_dir.path)])}", "docker run --detach \\"]
    command += [*(f"  {option} \\" for option in _options(spec)), f"  {shlex.join([spec.image.reference, *spec.command])}"]
    return script(comments, spec.files, command, full=full)


def _options(spec: Container) -> Iterator[str]:
    def option(name: str, value: object) -> str:
        return f"--{name} {shlex.quote(str(value))}"

    yield option("name", spec.name)
    yield "--network host" if spec.is_on_host_network else option("hostname", hostname(spec))
    yield from (option("label", f"{key}={value}") for key, value in spec.labels.items())
    yield option("user", spec.user)
    yield from (option("group-add", group) for group in spec.groups)
    yield option("workdir", spec.working_dir)
    yield from (option("env", f"{key}={value}") for key, value in sorted(spec.env.items()))
    yield from (option("mount", _mount(mount)) for mount in spec.mounts)
    yield "--read-only"
    yield from (option("tmpfs", f"{target}:{options}") for target, options in spec.tmpfs.items())
    yield "--cap-drop ALL"
    yield "--security-opt no-new-privileges"
    yield option("pids-limit", PIDS)
    yield option("shm-size", spec.shm_size)
    if spec.memory is not None:
        yield option("memory", spec.memory)
        yield option("memory-swap", spec.memory)
    if spec.cpus is not None:
        yield option("cpus", f"{spec.cpus:g}")
    if spec.gpus:
        yield option("gpus", '"device=' + ",".join(spec.devices) + '"' if spec.devices else spec.gpus)
    yield option("stop-timeout", GRACE + 10)
    yield from (option("log-opt", f"{key}={value}") for key, value in LOGS.items())


def labels(job: Job, run: RunDir, person: Person) -> dict[str, str]:
    """Labels that find a run's container: run, folder, user."""
    return {
        "app.kubernetes.io/name": "dpo-launcher",
        "app.kubernetes.io/managed-by": "dpo-launcher",
        "dpo-launcher/run": job.run,
        "dpo-launcher/experiment": job.experiment.experiment_id,
        "dpo-launcher/folder": str(run.path),
        "dpo-launcher/user": str(person.uid),
    }


def notices(job: Job) -> list[str]:
    """Settings of ``launch`` without effect on this backend, each as a sentence."""
    return [f"launch.{name} has no effect on the docker backend" for name in idle_given(job.experiment.launch, "docker")]


def _said(job: Job, place: Place) -> list[str]:
    return [place.image.sentence, *notices(job), *lost(job, place.caller, place.has_profile)]


def lost(job: Job, caller: Mapping[str, str], has_profile: bool) -> list[Warned]:
    """What of the caller's environment is another thing in the container of ``job``, or does not reach it."""
    unreachable = unreached(job, caller, "container", has_files=True, has_profile=has_profile)
    return [*unreachable, *untracked(job, caller, "container")]


def _mount(mount: Mount) -> str:
    """One value of ``--mount``, which Docker reads as a line of CSV."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}", *(["readonly"] if mount.read_only else [])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
