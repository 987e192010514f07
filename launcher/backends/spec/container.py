"""The environment and the secrets of a run's container, for every backend that starts containers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from ...errors import Warned
from ...experiment.sections.trackers import OFFLINE
from ...experiment.variables import VARIABLES, Kind, files, local_addresses, secrets
from ...job.job import Job
from ...runs.run_dir import expanded
from .environment import chosen, environment
from .trust import trusting

HOME: Final = "/dpo/home"
_FOLDER: Final = "SSL_CERT_DIR"
_WANDB_KEYS: Final = frozenset(("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
# NCCL keeps about 32 MiB per rank and peer there, data loaders their batches; an engine's default of 64 MiB ends in a bus error.
SHM: Final = "2Gi"


def container_environment(
    job: Job,
    caller: Mapping[str, str],
    roots: Mapping[str, str],
    folder: str,
    cores: int,
    *,
    user: str,
    more: Mapping[str, str],
) -> dict[str, str]:
    """``environment`` and what a container needs: a home for a user who is not in passwd, and caches.

    ``more``: for this container only. launch.env of the experiment overrides everything.
    """
    own = {
        "HOME": HOME,
        "USER": user,
        "LOGNAME": user,
        "TMPDIR": "/tmp",
        "TORCHINDUCTOR_CACHE_DIR": f"{roots['CACHE']}/torchinductor",
        "TRITON_CACHE_DIR": f"{roots['CACHE']}/triton",
        "TORCH_EXTENSIONS_DIR": f"{roots['CACHE']}/torch_extensions",
    }
    if job.gpus == 0:
        own["NVIDIA_VISIBLE_DEVICES"] = "void"  # an engine whose default runtime is NVIDIA's would give it all GPUs
    shared = environment(job, caller, roots, folder, cores)
    return {**shared, **own, **more, **chosen(job, caller)}


def secrets_of(job: Job, caller: Mapping[str, str], *, reads_sheets: bool = True) -> tuple[str, ...]:
    """The names of a container's secrets: those of launch.secrets, and those that the experiment may need and the caller has.

    ``reads_sheets``: the run's folder has no copy of the spreadsheet, so the ranks need the key.
    """
    needed = secrets(job.experiment, caller, reads_sheets=reads_sheets)
    return tuple(sorted({*job.secrets, *needed} - dict(job.env).keys()))


def unproxied(caller: Mapping[str, str], service: str | None) -> dict[str, str]:
    """NO_PROXY for a pod that has a proxy: the caller's, and what lies inside the cluster.

    ``service``: by whose name the nodes of a run find each other; None: it has one node.
    """
    if not any(caller.get(one.name) for one in VARIABLES if one.kind is Kind.PROXY):
        return {}
    given = (caller.get("NO_PROXY") or caller.get("no_proxy") or "").split(",")
    inside = ("localhost", "127.0.0.1", ".svc", ".cluster.local", service or "")
    names = dict.fromkeys(name for name in (*(one.strip() for one in given), *inside) if name)
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(names))


def certificates(job: Job, caller: Mapping[str, str]) -> dict[str, str]:
    """The variables that name certificates on this machine, unless launch.env sets them to a file in the container.

    launch.ca_bundle takes the place of the caller's.
    """
    bundle = job.experiment.launch.ca_bundle
    found = files(caller) if bundle is None else trusting(str(expanded(bundle)))
    return {name: path for name, path in found.items() if name not in dict(job.env)}


def unreached(job: Job, caller: Mapping[str, str], what: str, *, has_files: bool, has_profile: bool) -> Iterator[Warned]:
    """What of the caller's environment is another thing in a ``what`` (container or pod), or does not reach it.

    ``has_files``: certificates are mounted; ``has_profile``: the keys for S3 are in a profile of the AWS SDK.
    """
    own_network = what == "pod" or job.topology.nodes == 1
    for name, address in local_addresses(job.experiment, caller).items() if own_network else ():
        if name not in dict(job.env):
            yield Warned(f"{name} is {address}: in a {what} that is the {what} itself; use an address that it can reach")
    if not has_files and job.experiment.launch.ca_bundle is None:
        lost = {name: path for name, path in certificates(job, caller).items() if name not in job.env_names}
        yield from _without_certificates(lost, what)
    if has_profile:
        yield Warned(
            f"the keys of the AWS profile are not passed on to a {what}: put AWS_ACCESS_KEY and AWS_SECRET_KEY into .env"
        )


def untracked(job: Job, caller: Mapping[str, str], what: str, also: Collection[str] = ()) -> Iterator[Warned]:
    """That W&B has no key in a ``what`` (container or pod), where no netrc is; ``also``: variables that come from elsewhere.

    The run would end with it before its first step, after it has waited for its node.
    """
    given = {**chosen(job, caller), **dict.fromkeys((*job.secrets, *also), "")}
    if "wandb" not in job.experiment.hyperparameters.report_to or given.get("WANDB_MODE") in OFFLINE:
        return
    if not given.keys() & _WANDB_KEYS:
        yield Warned(
            f"report_to has wandb, and no key for it reaches the {what}: set launch.secrets: [WANDB_API_KEY], or "
            "launch.env: {WANDB_MODE: offline}"
        )


def _without_certificates(lost: Mapping[str, str], what: str) -> Iterator[Warned]:
    """A warning of each file that the variables ``lost`` name, and of their folder where none names a file."""
    files = {name: path for name, path in lost.items() if name != _FOLDER}
    for path in dict.fromkeys(files.values()):
        names = [name for name, one in files.items() if one == path]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        verb = "is" if len(names) == 1 else "are"
        yield Warned(f"{listed} {verb} not passed on: a {what} has no {path}; set launch.ca_bundle: {path}")
    if lost and not files:
        folder = lost[_FOLDER]
        yield Warned(
            f"{_FOLDER} is not passed on: a {what} has no {folder}; "
            "write its certificates into one file, and name that in launch.ca_bundle"
        )
