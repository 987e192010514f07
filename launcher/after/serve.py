"""``launcher serve``: the command, the container, the cluster's objects or the Modelfile that serve a run's weights."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..errors import LauncherError, UsageError
from ..experiment.files import read_env
from ..job.serving import IMAGE, Served
from ..job.target import Target
from ..runs.cache import cache_root, snapshots, usual_hub
from .beside import TEMPLATE, How, served_by_vllm, told
from .ollama import modelfile

__all__ = ["How", "Serving", "serve"]

_TOKEN: Final = "HF_TOKEN"
_ENDPOINT: Final = "HF_ENDPOINT"


@dataclass(frozen=True)
class Serving:
    """``text``: what is printed; ``argv``: what --run starts, None where another program takes it.

    ``environment`` and ``secrets``: what --run adds to its variables; the secrets are not printed.
    """

    text: str
    argv: tuple[str, ...] | None
    notices: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(self) -> None:
        """Replaces this process by the server; raises LauncherError where its program is not installed."""
        if self.argv is None:
            raise UsageError("--run starts vLLM on the host or in Docker; apply or create the printed text yourself")
        if shutil.which(self.argv[0]) is None:
            hint = {"vllm": "pip install vllm, or serve in a container: --backend docker"}.get(self.argv[0], "install it")
            raise LauncherError(f"{self.argv[0]} not found\n    hint:     {hint}")
        os.execvpe(self.argv[0], self.argv, {**os.environ, **self.environment, **self.secrets})


def serve(target: Target, how: How) -> Serving:
    """How ``target`` is served; raises UsageError where it cannot be, with what must be done first."""
    exported = frozenset(os.environ)
    env = read_env(Path.cwd())
    if how.engine == "ollama":
        if how.backend != "host":
            raise UsageError("--engine ollama runs on the host; vLLM runs in containers: --engine vllm")
        if how.dtype is not None:
            raise UsageError("--dtype is vLLM's; the conversion to GGUF has its own: --outtype")
        text, notices = modelfile(target, how)
        return Serving(text, None, (*told(target, how, env), *notices))
    served = served_by_vllm(target, how, env)
    known = tuple(told(target, how, env))
    if how.backend == "kubernetes":
        return Serving(_on_cluster(target, served, how, env), None, (*known, *_unpinned(how)))
    environment, secrets = _environment(served, env)
    if how.backend == "docker":
        from ..backends.docker.engine import address, is_rootless
        from ..backends.docker.serving import command

        user = None if is_rootless(address(env)) else f"{os.getuid()}:{os.getgid()}"
        hub = _hub(env)
        if served.is_on_hub:
            hub.mkdir(parents=True, exist_ok=True)  # the engine mounts no folder that is not there, or makes one of root's
        argv = command(served, how.image or IMAGE, env, hub=hub, user=user)
        environment, known = {}, (*known, *_unpinned(how))
    else:
        argv, environment = ("vllm", *served.arguments), {**_downloaded(served, env), **environment}
    text = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items()) + _lines(argv)
    return Serving(text, argv, (*known, *_unexported(secrets, exported)), environment, secrets)


def _environment(served: Served, env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(what is printed, what must not be) of the variables by which the hub's client finds a model; none for a folder."""
    if not served.is_on_hub:
        return {}, {}
    found = {name: env[name] for name in (_ENDPOINT, _TOKEN) if env.get(name)}
    secret = {name for name, value in found.items() if name == _TOKEN or "@" in value}  # an address may have a password
    return {name: found[name] for name in found if name not in secret}, {name: found[name] for name in secret}


def _downloaded(served: Served, env: Mapping[str, str]) -> dict[str, str]:
    """The hub's cache that has the model, where vLLM would look into another one and download it again."""
    if not served.is_on_hub:
        return {}
    there = snapshots(served.model, env, revision=served.revision)
    hub = next((one.parents[2] for one in there if (one / "config.json").is_file()), None)
    return {} if hub is None or hub == usual_hub(os.environ) else {"HF_HUB_CACHE": str(hub.absolute())}


def _unexported(secrets: Mapping[str, str], exported: Collection[str]) -> Iterator[str]:
    for name in sorted(secrets):
        if name not in exported:
            yield f"{name} is in .env alone: --run passes it on; export it for the printed command"


def _unpinned(how: How) -> list[str]:
    image = how.image or IMAGE
    return [] if "@sha256:" in image else [f"{image} is pinned by its tag, not by a digest; pin it with --image NAME@sha256:…"]


def _hub(env: Mapping[str, str]) -> Path:
    """The folder in which the hub's client keeps models for the launcher's runs."""
    return Path(env["HF_HOME"]) if env.get("HF_HOME") else (cache_root(env) / "huggingface").absolute()


def _lines(argv: Sequence[str]) -> str:
    """A command for a shell, an option a line."""
    parts: list[list[str]] = [[]]
    for one in argv:
        if one.startswith("-") and parts[-1]:
            parts.append([])
        parts[-1].append(one)
    return " \\\n  ".join(shlex.join(part) for part in parts) + "\n"


def _on_cluster(target: Target, served: Served, how: How, env: Mapping[str, str]) -> str:
    from ..backends.kubernetes.render.serving import Source, text
    from .tool import job_of

    job = job_of(target, "serve", env, gpus=1)
    served, uploaded = _in_pod(target, served, how)
    storage = target.settings.storage_config
    source = Source(uploaded.get("uri"), uploaded.get("endpoint_url"), None if storage is None else storage.region)
    return text(job, served, how.image or IMAGE, source, how.namespace, env)


def _in_pod(target: Target, served: Served, how: How) -> tuple[Served, Mapping[str, Any]]:
    """The same with paths in the pods, and the record of the upload of an adapter that is fetched there, else nothing.

    Raises UsageError for weights that only this machine has.
    """
    from ..backends.kubernetes.render.placement import RUNS
    from ..backends.kubernetes.render.serving import ADAPTER_FOLDER

    if served.model.startswith("/") and not served.model.startswith("/dpo/"):
        raise UsageError(
            f"{served.model} is on this machine, where pods cannot read it\n"
            "    expected: a model of the hub (launcher push), or --merged with a path in the pods, such as /dpo/runs/merged"
        )
    if served.adapter is None:
        return served, {}
    assert target.adapter is not None, "an adapter is served"
    record = {} if target.run is None else target.run.read_record()
    e = target.settings
    if record.get("backend") == "kubernetes":
        there = PurePosixPath(RUNS, e.hyperparameters.model_output_dir, f"exp_{e.experiment_id}", e.model_folder, "runs")
        folder, uploaded = str(there / target.name / "adapter"), {}
    elif record.get("uploaded"):
        folder, uploaded = ADAPTER_FOLDER, record["uploaded"]
    else:
        raise UsageError(
            f"the adapter of {target.name} is on this machine, where pods cannot read it\n"
            f"    hint:     launcher upload {target.name}, or launcher push {target.name} --to OWNER/NAME"
        )
    template = None if served.template is None else f"{folder}/{TEMPLATE}"
    return replace(served, adapter=folder, template=template), uploaded
