"""``launcher serve``: the command, the container, the cluster's objects or the Modelfile that serve a run's weights."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..errors import LauncherError, UsageError, Warned
from ..experiment.files import read_env
from ..job.adapter_config import ADAPTER
from ..job.serving import IMAGE, Served, needs_merge, rank_of
from ..job.target import Target
from ..runs.cache import is_hub_id, snapshots
from ..runs.run_dir import expanded

_TEMPLATE: Final = "chat_template.jinja"
_TOKEN: Final = "HF_TOKEN"
# What Ollama's import knows: of an adapter's base, and of a whole model.
_OLLAMA_ADAPTERS: Final[tuple[str, ...]] = ("LlamaForCausalLM", "MistralForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM")
_OLLAMA_MODELS: Final[tuple[str, ...]] = (
    *_OLLAMA_ADAPTERS,
    "MixtralForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
)


@dataclass(frozen=True)
class How:
    """``merged``: a merged model to serve, a folder, a hub id or a path in a pod; ``image``: None for the default."""

    engine: str = "vllm"
    backend: str = "host"
    merged: str | None = None
    image: str | None = None
    length: int | None = None
    namespace: str | None = None


@dataclass(frozen=True)
class Serving:
    """``text``: what is printed; ``argv``: what --run starts, None where another program takes it; ``token``: of the hub."""

    text: str
    argv: tuple[str, ...] | None
    notices: tuple[str, ...]
    token: str | None = field(default=None, repr=False)

    def run(self) -> None:
        """Replaces this process by the server; raises LauncherError where its program is not installed."""
        if self.argv is None:
            raise UsageError("--run starts vLLM on the host or in Docker; apply or create the printed text yourself")
        if shutil.which(self.argv[0]) is None:
            hint = {"vllm": "pip install vllm, or serve in a container: --backend docker"}.get(self.argv[0], "install it")
            raise LauncherError(f"{self.argv[0]} not found\n    hint:     {hint}")
        token = {} if self.token is None else {_TOKEN: self.token}
        os.execvpe(self.argv[0], self.argv, {**os.environ, **token})


def serve(target: Target, how: How) -> Serving:
    """How ``target`` is served; raises UsageError where it cannot be, with what must be done first."""
    env = read_env(Path.cwd())
    if how.engine == "ollama":
        if how.backend != "host":
            raise UsageError("--engine ollama runs on the host; vLLM runs in containers: --engine vllm")
        return _ollama(target, how, env)
    served = served_by_vllm(target, how, env)
    notices = tuple(_notices(target, how))
    if how.backend == "kubernetes":
        return Serving(_on_cluster(target, served, how), None, (*notices, *_unpinned(how)))
    if how.backend == "docker":
        from ..backends.docker.serving import command

        argv = command(served, how.image or IMAGE, env, hub=_hub(env))
        notices = (*notices, *_unpinned(how))
    else:
        argv = ("vllm", *served.arguments)
    token = None if served.model.startswith("/") else env.get(_TOKEN) or None
    if token is not None and _TOKEN not in os.environ:
        notices = (*notices, f"{_TOKEN} is in .env alone: --run passes it on; export it for the printed command")
    return Serving(_lines(argv), argv, notices, token)


def served_by_vllm(target: Target, how: How, env: Mapping[str, str]) -> Served:
    """With paths of this machine; raises UsageError for an adapter that vLLM serves only merged."""
    h = target.settings.hyperparameters
    common: dict[str, Any] = {"length": how.length, "trust_remote_code": h.trust_remote_code}
    if how.merged is not None or target.adapter is None:
        model = str(target.weights) if how.merged is None else _merged(how)
        return Served(target.name, model, **common)
    config = _config(target.adapter)
    reasons = needs_merge(config)
    if reasons:
        raise UsageError(f"vLLM serves {target.name} only merged: it has {', '.join(reasons)}\n{_merge_first(target)}")
    base, revision = _base(target, env)
    template = target.adapter / _TEMPLATE
    own = str(template) if _is_own_template(template, base) else None
    return Served(target.name, base, str(target.adapter), rank_of(config), own, revision, **common)


def _base(target: Target, env: Mapping[str, str]) -> tuple[str, str | None]:
    """(folder or hub id, the hub's commit that the run trained on)."""
    folder = Path.cwd() / expanded(target.base)
    if folder.is_dir():
        return str(folder), None
    if not is_hub_id(target.base):
        raise UsageError(
            f"the base of {target.name} is {target.base}, which vLLM cannot read beside an adapter\n{_merge_first(target)}"
        )
    record = {} if target.run is None else target.run.read_record()
    return target.base, (record.get("model") or {}).get("revision")


def _merged(how: How) -> str:
    assert how.merged is not None, "only asked for a merged model"
    folder = Path(how.merged).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"--merged {how.merged}: no config.json; make the model with: launcher merge RUN -o DIR")
        return str(folder.absolute())
    if how.merged.startswith("s3://"):
        raise UsageError(f"--merged {how.merged}: download it first with: launcher download {how.merged}")
    if how.backend == "kubernetes" and how.merged.startswith("/dpo/"):
        return how.merged
    if is_hub_id(how.merged) and "/" in how.merged:
        return how.merged
    raise UsageError(f"--merged {how.merged}: folder not found")


def _merge_first(target: Target) -> str:
    name, out = target.name, shlex.quote(f"{target.name}-merged")
    given = name if target.run is not None else shlex.quote(str(target.folder))  # a folder alone is found by its path
    return f"    hint:     launcher merge {given} -o {out}, then launcher serve {given} --merged {out}"


def _is_own_template(template: Path, base: str) -> bool:
    """Whether the adapter's folder has a template that is not its base's."""
    if not template.is_file():
        return False
    there = Path(base, _TEMPLATE)
    return not there.is_file() or there.read_bytes() != template.read_bytes()


def _config(adapter: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LauncherError(f"cannot read {adapter / ADAPTER}: {error}") from error
    return found


def _notices(target: Target, how: How) -> list[str]:
    h = target.settings.hyperparameters
    if (h.load_in_4bit or h.load_in_8bit) and how.merged is None:
        return [Warned("the adapter was trained on quantised weights and is served on 16-bit ones: answers differ slightly")]
    return []


def _unpinned(how: How) -> list[str]:
    image = how.image or IMAGE
    return [] if "@sha256:" in image else [f"{image} is pinned by its tag, not by a digest; pin it with --image NAME@sha256:…"]


def _hub(env: Mapping[str, str]) -> Path:
    """The folder in which the hub's client keeps models for the launcher's runs."""
    from ..runs.cache import cache_root

    return Path(env["HF_HOME"]) if env.get("HF_HOME") else (cache_root(env) / "huggingface").absolute()


def _lines(argv: Sequence[str]) -> str:
    """A command for a shell, an option a line."""
    parts: list[list[str]] = [[]]
    for one in argv:
        if one.startswith("-") and parts[-1]:
            parts.append([])
        parts[-1].append(one)
    return " \\\n  ".join(shlex.join(part) for part in parts) + "\n"


def _on_cluster(target: Target, served: Served, how: How) -> str:
    from ..backends.kubernetes.render.serving import Source, text
    from .tool import job_of

    job = job_of(target, "serve", {}, gpus=1)
    served, uploaded = _in_pod(target, served, how)
    source = Source(uploaded.get("uri"), uploaded.get("endpoint_url"))
    return text(job, served, how.image or IMAGE, source, how.namespace)


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
    template = None if served.template is None else f"{folder}/{_TEMPLATE}"
    return replace(served, adapter=folder, template=template), uploaded


def _ollama(target: Target, how: How, env: Mapping[str, str]) -> Serving:
    """A Modelfile: of a merged model, or of a base and an adapter where Ollama's import takes both."""
    name = re.sub(r"[^a-z0-9._-]+", "-", target.name.lower()).strip("-.")
    if how.merged is not None or target.adapter is None:
        folder = _merged(how) if how.merged is not None else str(target.weights)
        if not Path(folder).is_dir():
            raise UsageError(f"--merged {folder}: Ollama imports a folder of this machine")
        architecture: str | None = _architecture(Path(folder))
        lines, known = [f"FROM {folder}"], _OLLAMA_MODELS
    else:
        base = _local_base(target, env)
        architecture, known = (None if base is None else _architecture(base)), _OLLAMA_ADAPTERS
        reasons = [*needs_merge(config := _config(target.adapter)), *(["rsLoRA"] if config.get("use_rslora") else [])]
        if base is None or architecture not in known or reasons:
            why = ", ".join(reasons) or (f"its base is {architecture}" if base else f"{target.base} is not in a folder here")
            raise UsageError(f"Ollama takes {target.name} only merged: {why}\n{_merge_first(target)} --engine ollama")
        lines = [f"FROM {base}", f"ADAPTER {target.adapter}"]
    if how.length is not None:
        lines.append(f"PARAMETER num_ctx {how.length}")
    head = [f"# ollama create {name} -f Modelfile && ollama run {name}"]
    notices = [] if architecture in known else [Warned(f"Ollama's import may not know {architecture}: convert it to GGUF then")]
    return Serving("\n".join([*head, *lines]) + "\n", None, tuple(notices))


def _local_base(target: Target, env: Mapping[str, str]) -> Path | None:
    folder = Path.cwd() / expanded(target.base)
    if folder.is_dir():
        return folder
    there = snapshots(target.base, env) if is_hub_id(target.base) else iter(())
    return next((one for one in there if (one / "config.json").is_file()), None)


def _architecture(folder: Path) -> str:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or ["?"]
    except (OSError, ValueError) as error:
        raise LauncherError(f"cannot read {folder / 'config.json'}: {error}") from error
    return str(found[0])
