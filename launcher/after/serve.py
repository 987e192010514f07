"""``launcher serve``: the command, the container, the Kubernetes objects or the Modelfile that serve trained weights."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..backends.spec.container import unreached
from ..backends.spec.trust import read_bundle
from ..errors import LauncherError, UsageError, Warned
from ..experiment.files import read_env
from ..job.job import Job
from ..job.serving import IMAGE, Served, image_of
from ..job.target import Target
from .beside import TEMPLATE, How, served_by_vllm, serving_notices
from .download import hub_folder, on_host, unexported, variables
from .ollama import modelfile
from .split import check_split
from .tool import job_of

__all__ = ["How", "Serving", "serve"]


@dataclass(frozen=True)
class Serving:
    """``text``: what is printed. ``argv``: what --run starts, None if another program has to be used.

    ``environment`` and ``secrets``: variables that --run adds. Secrets are not printed.
    """

    text: str
    argv: tuple[str, ...] | None
    notices: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(self) -> None:
        """Replaces this process with the server. Raises LauncherError if its program is not installed."""
        if self.argv is None:
            raise UsageError("--run starts vLLM on the host or in Docker; apply or create the printed text yourself")
        if shutil.which(self.argv[0]) is None:
            hint = {"vllm": "pip install vllm, or serve in a container: --backend docker"}.get(self.argv[0], "install it")
            raise LauncherError(f"{self.argv[0]} not found\n    hint:     {hint}")
        os.execvpe(self.argv[0], self.argv, {**os.environ, **self.environment, **self.secrets})


def serve(target: Target, how: How) -> Serving:
    """How to serve ``target``. Raises UsageError if it cannot be served; the message says what to do first."""
    exported = frozenset(os.environ)
    env = read_env(Path.cwd())
    if how.engine == "ollama":
        if how.backend != "host":
            raise UsageError("--engine ollama runs on the host; vLLM runs in containers: --engine vllm")
        if how.dtype is not None:
            raise UsageError("--dtype is vLLM's; the conversion to GGUF has its own: --outtype")
        if how.gpus > 1:
            raise UsageError("--tensor-parallel-size is vLLM's; Ollama divides a model by itself")
        text, notices = modelfile(target, how)
        return Serving(text, None, (*serving_notices(target, how, env), *notices))
    served = served_by_vllm(target, how, env)
    known = (*serving_notices(target, how, env), *check_split(target, how, env))
    job = job_of(target, "serve", env, gpus=how.gpus)
    if how.backend == "kubernetes":
        image = how.image or image_of(target.settings.launch.kubernetes.gpu_resource)
        text, lost = _on_cluster(job, target, served, replace(how, image=image), env)
        return Serving(text, None, (*known, *lost, *_unpinned(image)))
    environment: dict[str, str] = {}
    if how.backend == "docker":
        image = how.image or IMAGE
        argv, secrets = _in_container(job, served, image, env)
        lost = list(unreached(job, env, "container", has_files=True, has_profile=False)) if served.is_on_hub else []
        known = (*known, *lost, *_unpinned(image))
    else:
        environment, secrets = on_host(job, served, env, exported)
        argv = ("vllm", *served.arguments)
    text = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items()) + _lines(argv)
    return Serving(text, argv, (*known, *unexported(secrets, exported)), environment, secrets)


def _in_container(job: Job, served: Served, image: str, env: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """(command, secrets that it passes by name). Raises ExperimentError if the certificates are missing."""
    from ..backends.docker.certificates import mounted
    from ..backends.docker.container import visible
    from ..backends.docker.engine import address, is_rootless
    from ..backends.docker.serving import Download, command

    user = None if is_rootless(address(env)) else f"{os.getuid()}:{os.getgid()}"
    if not served.is_on_hub:
        return command(served, image, None, user=user, devices=visible(env)), {}
    hub = hub_folder(env)
    hub.mkdir(parents=True, exist_ok=True)  # the engine refuses to mount a missing folder, or creates one that root owns
    plain, secrets = variables(job, env)
    read_bundle(job.experiment, Path.cwd())
    mounts, trusted = mounted(job, env, Path.cwd(), Path.exists)
    download = Download(hub, {**plain, **trusted}, tuple(secrets), mounts)
    return command(served, image, download, user=user, devices=visible(env)), secrets


def _unpinned(image: str) -> list[str]:
    return [] if "@sha256:" in image else [f"{image} is pinned by its tag, not by a digest; pin it with --image NAME@sha256:…"]


def _lines(argv: Sequence[str]) -> str:
    """A shell command with one option per line."""
    parts: list[list[str]] = [[]]
    for one in argv:
        if one.startswith("-") and parts[-1]:
            parts.append([])
        parts[-1].append(one)
    return " \\\n  ".join(shlex.join(part) for part in parts) + "\n"


def _on_cluster(job: Job, target: Target, served: Served, how: How, env: Mapping[str, str]) -> tuple[str, list[Warned]]:
    """The objects, and warnings about variables of the caller that do not reach the pods."""
    from ..backends.kubernetes.render.serving import Server, Source, text

    served, uploaded = _in_pod(target, served, how)
    storage = target.settings.storage_config
    region = None if storage is None else storage.region
    source = Source(uploaded.get("uri"), uploaded.get("endpoint_url"), region, uploaded.get("repository"), uploaded.get("commit"))
    server = Server(job, served, str(how.image), source, env, read_bundle(target.settings, Path.cwd()))
    lost = unreached(job, env, "pod", has_files=False, has_profile=False) if server.downloads else ()
    return text(server, how.namespace), list(lost)


def _in_pod(target: Target, served: Served, how: How) -> tuple[Served, Mapping[str, Any]]:
    """(what is served, with paths in the pod; the record of the upload or push that the pod downloads the adapter from, or
    nothing).

    Raises UsageError for weights that are only on this machine.
    """
    from ..backends.kubernetes.render.placement import RUNS
    from ..backends.kubernetes.render.serving import ADAPTER_FOLDER

    if served.model.startswith("/") and not served.model.startswith("/dpo/"):
        raise UsageError(
            f"{served.model} is on this machine, where pods cannot read it\n"
            "    expected: --merged with a model of the hub (launcher push), or with a path in the pods, such as /dpo/runs/merged"
        )
    if served.adapter is None:
        return served, {}
    assert target.adapter is not None, "an adapter is served"
    record = {} if target.run is None else target.run.read_record()
    e = target.settings
    if record.get("backend") == "kubernetes":
        there = PurePosixPath(RUNS, e.hyperparameters.model_output_dir, f"exp_{e.experiment_id}", e.model_folder, "runs")
        folder, uploaded = str(there / target.name / "adapter"), {}
    elif record.get("uploaded") or record.get("pushed"):
        folder, uploaded = ADAPTER_FOLDER, record.get("uploaded") or record["pushed"]
    else:
        raise UsageError(
            f"the adapter of {target.name} is on this machine, where pods cannot read it\n"
            f"    hint:     launcher upload {target.name}, or launcher push {target.name} --to OWNER/NAME"
        )
    template = None if served.template is None else f"{folder}/{TEMPLATE}"
    return replace(served, adapter=folder, template=template), uploaded
