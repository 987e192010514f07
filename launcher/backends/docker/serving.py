"""A container that serves a model: the ``docker run`` of vLLM's image, with what it reads mounted. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ...job.serving import PORT, Served
from .paths import Mount

_HUB: Final = "/hub"
_HOME: Final = "/tmp"
# For a user who is not in passwd. Statistics would be sent to vLLM's authors.
_ENVIRONMENT: Final = {"HOME": _HOME, "LOGNAME": "dpo", "USER": "dpo", "VLLM_NO_USAGE_STATS": "1"}
_SHM: Final = "16g"  # vLLM's processes pass tensors through it


@dataclass(frozen=True)
class Download:
    """How a model of the hub gets into a container. ``hub``: the folder of the hub's client on this machine.

    ``environment``: variables of the container; ``names``: of those that are passed on by their name alone, as a token is.
    ``certificates``: files that the variables name.
    """

    hub: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    names: Collection[str] = ()
    certificates: Sequence[Mount] = ()


def command(
    served: Served, image: str, download: Download | None, *, user: str | None, devices: Sequence[str] = ()
) -> tuple[str, ...]:
    """``docker run …``; ``download``: None for a model that is on this machine.

    ``user``: uid and gid, so that what is downloaded belongs to the caller; None for the image's own user. ``devices``: numbers
    or names of the GPUs that the container sees, all if there are none.
    """
    inside, mounts = _moved(served)
    person = () if user is None else ("--user", user)
    gpus = f'"device={",".join(devices)}"' if devices else "all"
    return ("docker", "run", "--rm", "--gpus", gpus, "--shm-size", _SHM, *person, *_rest(inside, mounts, image, download))


def _moved(served: Served) -> tuple[Served, dict[str, str]]:
    """The same with paths in the container, and what is mounted there."""
    mounts: dict[str, str] = {}
    model, adapter, template = served.model, served.adapter, served.template
    if model.startswith("/"):
        mounts[model], model = "/model", "/model"
    if adapter is not None:
        mounts[adapter] = "/adapter"
        template = None if template is None else template.replace(adapter, "/adapter", 1)
        adapter = "/adapter"
    return replace(served, model=model, adapter=adapter, template=template), mounts


def _rest(served: Served, mounts: Mapping[str, str], image: str, download: Download | None) -> Iterator[str]:
    yield from ("--publish", f"127.0.0.1:{PORT}:{PORT}")
    for source, to in mounts.items():
        yield from ("--mount", _fields("type=bind", f"source={source}", f"target={to}", "readonly"))
    for name, value in _ENVIRONMENT.items():
        yield from ("--env", f"{name}={value}")
    if download is not None:
        yield from ("--mount", _fields("type=bind", f"source={download.hub}", f"target={_HUB}"))
        for one in download.certificates:
            yield from ("--mount", _fields("type=bind", f"source={one.source}", f"target={one.target}", "readonly"))
        yield from ("--env", f"HF_HOME={_HUB}")
        for name, value in sorted(download.environment.items()):
            yield from ("--env", f"{name}={value}")
        for name in sorted(download.names):
            yield from ("--env", name)
    yield from ("--entrypoint", "vllm", image, *served.arguments)


def _fields(*fields: str) -> str:
    """The value of ``--mount``, which Docker reads as a line of CSV: a path with a comma is quoted."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
