"""The environment and the secrets of a run's container, for every backend that starts containers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..job.job import Job
from .environment import environment

HOME: Final = "/dpo/home"
# NCCL keeps about 32 MiB per rank and peer there, data loaders their batches; an engine's default of 64 MiB ends in a bus error.
SHM: Final = "2Gi"
# Variables that the trainer reads for the experiment's model, data and storage.
_HUB: Final = ("HF_TOKEN",)
_AWS: Final = ("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# The address of its storage. An address with a password is left out, like every secret.
_PLACE: Final = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_SHEETS: Final = ("GOOGLE_SHEETS_CLIENT_EMAIL", "GOOGLE_SHEETS_PRIVATE_KEY")


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
    own |= {name: caller[name] for name in _PLACE if caller.get(name) and "@" not in caller[name]}
    shared = environment(job, caller, roots, folder, cores)
    return {**shared, **own, **more, **dict(job.env), **{name: caller[name] for name in job.env_names}}


def secrets_of(job: Job, caller: Mapping[str, str], *, reads_sheets: bool = True) -> tuple[str, ...]:
    """The names of a container's secrets: those of launch.secrets, and those that the experiment may need and the caller has.

    ``reads_sheets``: the run's folder has no copy of the spreadsheet, so the ranks need the key.
    """
    return tuple(sorted({*job.secrets, *(name for name in _needed(job, reads_sheets) if caller.get(name))}))


def _needed(job: Job, reads_sheets: bool) -> Iterator[str]:
    e = job.experiment
    yield from _HUB
    if e.storage_config is not None or any((path or "").startswith("s3://") for path in (e.model_name, e.datasets_path)):
        yield from _AWS
    if e.spreadsheet_id is not None and reads_sheets:
        yield from _SHEETS
