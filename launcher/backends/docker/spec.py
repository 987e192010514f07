"""A run as a container: the request to the engine, and the equal command line. Pure."""

from __future__ import annotations

import csv
import hashlib
import io
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ...errors import Warned
from ...job.image import Image
from ...job.job import Job
from ...runs.cache import cache_root
from ...runs.run_dir import RunDir
from ..container import HOME, SHM, container_environment, secrets_of, unreached
from ..environment import GRACE, facts, files, script
from ..record import first_record
from ..sizes import size_in_bytes
from .certificates import mounted
from .paths import Layout, Mount, layout

SECRETS: Final = "/run/secrets"
PIDS: Final = 4096
_CACHES: Final = {"HF_HOME": "/dpo/huggingface", "HF_HUB_CACHE": "/dpo/huggingface-hub"}  # of the caller, if they are set
_NO_EFFECT: Final = ("max_restarts", "kubernetes")


@dataclass(frozen=True)
class Person:
    """Who starts a run. The container runs under this uid (it need not exist in passwd), so that its files belong to the user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: Path
    is_rootless: bool = False  # the engine's own root is this user

    @property
    def user(self) -> str:
        return "0:0" if self.is_rootless else f"{self.uid}:{self.gid}"


@dataclass(frozen=True)
class DockerSpec:
    """A container to create and start, the files that it reads, and the first record of its run."""

    run_dir: RunDir
    comments: tuple[str, ...]
    image: Image
    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: tuple[Mount, ...]
    tmpfs: Mapping[str, str]
    working_dir: str
    user: str
    groups: tuple[int, ...]
    shm_size: str
    memory: str | None
    cpus: float | None
    gpus: int
    is_on_host_network: bool  # the other nodes must reach it
    devices: tuple[str, ...]
    secrets: tuple[str, ...]
    secret_dir: Path
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


@dataclass(frozen=True)
class Place:
    """What rendering needs to know of the machine and the caller; ``caller``: the environment and ``.env``."""

    cwd: Path
    cores: int
    person: Person
    image: Image
    secret_root: Path
    caller: Mapping[str, str] = field(repr=False)
    is_folder: Callable[[Path], bool] = Path.is_dir
    exists: Callable[[Path], bool] = Path.exists
    has_profile: bool = False  # the keys for S3 are in a profile of the AWS SDK


def render(job: Job, place: Place) -> DockerSpec:
    """The container of ``job``; raises ExperimentError for a path or a name that is impossible in a container."""
    e, h = job.experiment, job.experiment.hyperparameters
    run = RunDir.of(place.cwd, h.model_output_dir, e.experiment_id, e.model_folder, job.run, job.node.rank)
    cache = cache_root(place.caller)
    where = layout(e, place.cwd, place.person.home, cache, place.is_folder)
    folder = str(RunDir.of(Path(where.output), "", e.experiment_id, e.model_folder, job.run).path)
    name = f"dpo-{job.run}-{hashlib.sha256(str(run.path).encode()).hexdigest()[:6]}"
    secrets = secrets_of(job, place.caller, reads_sheets=False)
    own = [*where.mounts, Mount(run.experiment, f"{folder}/experiment.json", read_only=True)]
    own += [Mount(place.secret_root / name, SECRETS, read_only=True)] if secrets else []
    own += [Mount(Path(place.caller[name]), to, read_only=False) for name, to in _CACHES.items() if place.caller.get(name)]
    own += mounted(job, place.caller, place.cwd, place.exists)[0]
    ids = "" if place.person.is_rootless else f",uid={place.person.uid},gid={place.person.gid}"
    return DockerSpec(
        run_dir=run,
        comments=(f"{job.run}: experiment {job.key} in a container: {job.devices}", *facts(job), *_said(job, place)),
        image=place.image,
        name=name,
        command=(*job.command, folder),
        env=MappingProxyType(_environment(job, place, where, folder, bool(secrets))),
        labels=MappingProxyType(labels(job, run, place.person)),
        mounts=tuple(own),
        tmpfs=MappingProxyType({"/tmp": "exec,mode=1777", HOME: f"mode=700{ids}"}),
        working_dir=where.data,
        user=place.person.user,
        groups=() if place.person.is_rootless else tuple(g for g in place.person.groups if g != place.person.gid),
        shm_size=_size(job.resources.shm_size or SHM),
        memory=None if job.resources.memory is None else _size(job.resources.memory),
        cpus=job.resources.cpus,
        gpus=job.gpus,
        is_on_host_network=job.topology.nodes > 1,
        devices=_devices(job, place.caller),
        secrets=secrets,
        secret_dir=place.secret_root / name,
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


def _options(spec: DockerSpec) -> Iterator[str]:
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


# The ranks' logs are files of the run; the container's own log has a few lines.
LOGS: Final = MappingProxyType({"max-size": "10m", "max-file": "2"})


def arguments(spec: DockerSpec, api: Any) -> dict[str, Any]:
    """The arguments for ``create_container`` of the engine's low-level client ``api``."""
    from docker.types import DeviceRequest, LogConfig
    from docker.types import Mount as Bind

    requests = []
    if spec.gpus:
        chosen = {"device_ids": list(spec.devices)} if spec.devices else {"count": spec.gpus}
        requests.append(DeviceRequest(capabilities=[["gpu"]], **chosen))
    host = api.create_host_config(
        mounts=[Bind(m.target, str(m.source), type="bind", read_only=m.read_only) for m in spec.mounts],
        tmpfs=dict(spec.tmpfs),
        group_add=[str(group) for group in spec.groups],
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=PIDS,
        shm_size=spec.shm_size,
        mem_limit=spec.memory,
        memswap_limit=spec.memory,
        nano_cpus=None if spec.cpus is None else round(spec.cpus * 1e9),
        device_requests=requests or None,
        network_mode="host" if spec.is_on_host_network else None,
        restart_policy={"Name": "no"},
        log_config=LogConfig(type=LogConfig.types.JSON, config=dict(LOGS)),
    )
    return {
        "image": spec.image.reference,
        "command": list(spec.command),
        "name": spec.name,
        "hostname": None if spec.is_on_host_network else hostname(spec),
        "labels": dict(spec.labels),
        "user": spec.user,
        "working_dir": spec.working_dir,
        "environment": dict(spec.env),
        "stop_timeout": GRACE + 10,
        "host_config": host,
        "use_config_proxy": False,
    }


def hostname(spec: DockerSpec) -> str:
    return "dpo-" + spec.name[-6:]


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
    given = job.experiment.launch.model_fields_set
    return [f"launch.{name} has no effect on the docker backend" for name in _NO_EFFECT if name in given]


def _said(job: Job, place: Place) -> list[str]:
    return [*notices(job), *lost(job, place.caller, place.has_profile)]


def lost(job: Job, caller: Mapping[str, str], has_profile: bool) -> list[Warned]:
    """What of the caller's environment is another thing in the container of ``job``, or does not reach it."""
    return list(unreached(job, caller, "container", has_files=True, has_profile=has_profile))


def _environment(job: Job, place: Place, where: Layout, folder: str, has_secrets: bool) -> dict[str, str]:
    roots = {"RUN": where.runs, "DATA": where.data, "CACHE": where.cache}
    more = {"DPO_SECRETS": SECRETS} if has_secrets else {}
    more |= {name: to for name, to in _CACHES.items() if place.caller.get(name)}
    env = container_environment(job, place.caller, roots, folder, place.cores, user=place.person.name, more=more)
    return env | mounted(job, place.caller, place.cwd, place.exists)[1]  # also of a name under launch.env


def _devices(job: Job, caller: Mapping[str, str]) -> tuple[str, ...]:
    visible = [name.strip() for name in caller.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(visible[: job.gpus]) if job.gpus else ()


def _size(size: str) -> str:
    """A size for Docker: ``64Gi`` is ``64g``; a unit that Docker lacks becomes bytes."""
    number, unit, rest = size.partition(next((letter for letter in size if letter in "KMG"), "-"))
    if number.isdigit() and rest.startswith("i"):
        return number + unit.lower()
    return str(size_in_bytes(size))


def _mount(mount: Mount) -> str:
    """One value of ``--mount``, which Docker reads as a line of CSV."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}", *(["readonly"] if mount.read_only else [])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
