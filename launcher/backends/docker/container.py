"""What every container has that this project starts, of a run or of a process that works with its weights. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ...job.image import Image
from ...job.job import Job
from ...runs.cache import cache_root
from ..session import Work
from ..spec.container import HOME, SHM, container_environment, secrets_of
from ..spec.environment import GRACE
from ..spec.sizes import size_in_bytes
from .certificates import mounted
from .paths import Layout, Mount, work_layout

SECRETS: Final = "/run/secrets"
PIDS: Final = 4096
_CACHES: Final = {"HF_HOME": "/dpo/huggingface", "HF_HUB_CACHE": "/dpo/huggingface-hub"}  # of the caller, if they are set
# The ranks' logs are files of the run; the container's own log has a few lines.
LOGS: Final = MappingProxyType({"max-size": "10m", "max-file": "2"})


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
class Container:
    """A container to create and start; ``secrets``: the names of those that lie in ``secret_dir`` meanwhile, one file each."""

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


def render_work(job: Job, place: Place, work: Work) -> Container:
    """The container of a process that works with trained weights, on the resources of ``job``; raises as ``render``."""
    where = work_layout(job.experiment, work, place.cwd, place.person.home, cache_root(place.caller), place.is_folder)
    name = f"dpo-{job.run}-{hashlib.sha256(str(work.target).encode()).hexdigest()[:6]}"
    marks = {"app.kubernetes.io/name": "dpo-launcher-work", "dpo-launcher/user": str(place.person.uid)}
    command = ("python", "-m", work.module, where.output, *work.args)
    return container(job, place, where, where.output, name, command, marks, [])


def container(
    job: Job,
    place: Place,
    where: Layout,
    folder: str,
    name: str,
    command: tuple[str, ...],
    marks: Mapping[str, str],
    more: Sequence[Mount],
) -> Container:
    """What every container here has: the caller's user, the job's limits and GPUs, cache and certificates, secrets as files.

    ``folder``: that of the run, or of the weights, in the container; ``marks``: labels.
    """
    secrets = secrets_of(job, place.caller, reads_sheets=False)
    own = [*where.mounts, *more]
    own += [Mount(place.secret_root / name, SECRETS, read_only=True)] if secrets else []
    own += [Mount(Path(place.caller[one]), to, read_only=False) for one, to in _CACHES.items() if place.caller.get(one)]
    own += mounted(job, place.caller, place.cwd, place.exists)[0]
    ids = "" if place.person.is_rootless else f",uid={place.person.uid},gid={place.person.gid}"
    return Container(
        image=place.image,
        name=name,
        command=command,
        env=MappingProxyType(_environment(job, place, where, folder, bool(secrets))),
        labels=MappingProxyType(dict(marks)),
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
        devices=visible(place.caller)[: job.gpus],
        secrets=secrets,
        secret_dir=place.secret_root / name,
    )


def arguments(spec: Container, api: Any) -> dict[str, Any]:
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


def hostname(spec: Container) -> str:
    return "dpo-" + spec.name[-6:]


def _environment(job: Job, place: Place, where: Layout, folder: str, has_secrets: bool) -> dict[str, str]:
    roots = {"RUN": where.runs, "DATA": where.data, "CACHE": where.cache}
    more = {"DPO_SECRETS": SECRETS} if has_secrets else {}
    more |= {name: to for name, to in _CACHES.items() if place.caller.get(name)}
    env = container_environment(job, place.caller, roots, folder, place.cores, user=place.person.name, more=more)
    return env | mounted(job, place.caller, place.cwd, place.exists)[1]  # also of a name under launch.env


def visible(caller: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that the caller lets programs see, none if that says nothing."""
    return tuple(name.strip() for name in caller.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip())


def _size(size: str) -> str:
    """A size for Docker: ``64Gi`` is ``64g``; a unit that Docker lacks becomes bytes."""
    number, unit, rest = size.partition(next((letter for letter in size if letter in "KMG"), "-"))
    if number.isdigit() and rest.startswith("i"):
        return number + unit.lower()
    return str(size_in_bytes(size))
