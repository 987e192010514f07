"""How a server downloads its model: the hub's address and token, proxies, certificates and the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from ..backends.spec.environment import chosen
from ..backends.spec.trust import bundle_of, read_bundle, trusting
from ..experiment.variables import VARIABLES, Kind, has_password
from ..job.job import Job
from ..job.serving import Served
from ..runs.cache import cache_root, snapshots, usual_hub

_TOKEN: Final = "HF_TOKEN"
_PLAIN: Final = (Kind.SETTING, Kind.ADDRESS, Kind.PROXY)


def variables(job: Job, env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(printable, secret) environment variables that the hub's client reads. Values of launch.env count, too."""
    known = {**env, **chosen(job, env)}
    names = [one.name for one in VARIABLES if one.use in ("hub", "network") and one.kind in _PLAIN]
    found = {name: known[name] for name in (*names, _TOKEN) if known.get(name)}
    secret = {name for name, value in found.items() if name == _TOKEN or (has_password(value) and name.lower() != "no_proxy")}
    return {name: found[name] for name in found if name not in secret}, {name: found[name] for name in secret}


def on_host(job: Job, served: Served, env: Mapping[str, str], exported: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """``variables`` for a server on this machine, without those in ``exported`` (it inherits them); none for a model in a
    folder.

    Raises ExperimentError if the file of launch.ca_bundle cannot be used.
    """
    if not served.is_on_hub:
        return {}, {}
    plain, secret = variables(job, env)
    plain = {name: value for name, value in plain.items() if name == "HF_ENDPOINT" or name not in exported}
    bundle = bundle_of(job.experiment, Path.cwd())
    trusted: Mapping[str, str] = {}
    if bundle is not None:
        read_bundle(job.experiment, Path.cwd())
        trusted = trusting(str(bundle.absolute()))
    return {**_cache(served, env), **plain, **trusted}, secret


def _cache(served: Served, env: Mapping[str, str]) -> dict[str, str]:
    """The hub cache that holds the model, if vLLM would look in another one and download it again."""
    there = snapshots(served.model, env, revision=served.revision)
    hub = next((one.parents[2] for one in there if (one / "config.json").is_file()), None)
    return {} if hub is None or hub == usual_hub(os.environ) else {"HF_HUB_CACHE": str(hub.absolute())}


def unexported(secrets: Collection[str], exported: Collection[str]) -> Iterator[str]:
    """One notice for each secret that the printed command does not contain."""
    for name in sorted(secrets):
        if name not in exported:
            yield f"{name} is only in .env: --run passes it on; export it for the printed command"


def hub_folder(env: Mapping[str, str]) -> Path:
    """The hub cache that the launcher's runs use."""
    return Path(env["HF_HOME"]) if env.get("HF_HOME") else (cache_root(env) / "huggingface").absolute()
