"""What ``launcher serve`` serves: a whole model, or a LoRA adapter beside its base model; and what must be done first."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..data.prompt import Prompt, kept_prompt
from ..data.text.template import is_alone
from ..errors import LauncherError, UsageError, Warned
from ..job.adapter_config import ADAPTER, CONVERT, changed_base
from ..job.serving import Served, needs_merge, needs_version, not_served, rank_of
from ..job.target import Target
from ..runs.cache import is_hub_id, snapshots
from ..runs.run_dir import expanded

TEMPLATE: Final = "chat_template.jinja"


@dataclass(frozen=True)
class How:
    """``merged``: a merged model to serve: a folder, a hub id or a path in a pod. ``image``: None for the default image.

    ``gpus``: number of GPUs for vLLM's tensor parallelism.
    """

    engine: str = "vllm"
    backend: str = "host"
    merged: str | None = None
    image: str | None = None
    length: int | None = None
    dtype: str | None = None
    namespace: str | None = None
    gpus: int = 1


def served_by_vllm(target: Target, how: How, env: Mapping[str, str]) -> Served:
    """What vLLM serves, with paths of this machine. Raises UsageError if the adapter must be merged first or cannot be served
    at all.
    """
    h = target.settings.hyperparameters
    options = {"enable_thinking": h.enable_thinking, "thinking_mode": h.thinking_mode}
    common: dict[str, Any] = {
        "length": how.length,
        "dtype": how.dtype,
        "template_options": {name: value for name, value in options.items() if value is not None},
        "trust_remote_code": h.trust_remote_code,
        "gpus": how.gpus,
    }
    if how.merged is not None or target.adapter is None:
        model = str(target.weights) if how.merged is None else merged_model(how)
        return Served(target.name, model, **common)
    config = adapter_config(target.adapter)
    check_served(target, config)
    there = local_base(target, env)
    reasons = needs_merge(config, None if there is None else architecture(there))
    if reasons:
        raise UsageError(f"vLLM serves {target.name} only merged: it has {', '.join(reasons)}\n{merge_first(target)}")
    base, revision = _base(target)
    template = target.adapter / TEMPLATE
    own = str(template) if _is_own_template(template, base) else None
    return Served(target.name, base, str(target.adapter), rank_of(config), own, revision, **common)


def check_served(target: Target, config: Mapping[str, Any]) -> None:
    """Raises UsageError for an adapter that vLLM cannot serve beside its base and that cannot be merged either."""
    reasons = not_served(config)
    if reasons:
        is_changed = changed_base(config) is not None
        hint = CONVERT if is_changed and len(reasons) == 1 else f"talk to it with: launcher chat {_given(target)}"
        raise UsageError(f"{target.name} can be neither served nor merged: it has {', '.join(reasons)}\n    hint:     {hint}")


def serving_notices(target: Target, how: How, env: Mapping[str, str]) -> Iterator[str]:
    """Notices for the printed command: where its answers differ from those of `launcher chat`."""
    h = target.settings.hyperparameters
    if (h.load_in_4bit or h.load_in_8bit) and how.merged is None:
        yield Warned("the adapter was trained on quantised weights and is served on 16-bit ones: answers differ slightly")
    if how.engine == "vllm":
        yield from _vllm_notices(target, how, env)
        if _has_no_template(target.weights):
            yield Warned(
                "the model has no chat template: ask /v1/completions, with each message followed by an empty line; "
                "vLLM refuses /v1/chat/completions"
            )
    prompt = None if target.run is None else kept_prompt(target.run)
    if prompt is not None:
        yield from _prompt_notices(target, prompt, sends_system=how.engine != "ollama")


def _vllm_notices(target: Target, how: How, env: Mapping[str, str]) -> Iterator[str]:
    folder = Path(how.merged).expanduser() if how.merged is not None else local_base(target, env)
    if how.dtype is None and folder is not None and _is_wide(folder):
        yield Warned("the weights are in fp32 and vLLM computes in 16 bits: answers may differ; --dtype float32 prevents this")
    if how.merged is None and target.adapter is not None and (how.backend == "host" or how.image is not None):
        version = needs_version(adapter_config(target.adapter))
        if version is not None:
            yield Warned(f"ranks and scales by module need vLLM {version} or newer: older versions give other answers")


def _prompt_notices(target: Target, prompt: Prompt, *, sends_system: bool) -> Iterator[str]:
    parts = ["system message"] if prompt.system and sends_system else []
    if not is_alone(prompt.user):
        parts.append("user template")
    if parts:
        assert target.run is not None, "only a run keeps its prompt"
        yield Warned(f"clients must send the run's {' and '.join(parts)}, as launcher chat does: see {target.run.prompt}")


def _base(target: Target) -> tuple[str, str | None]:
    """(folder or hub id, pinned commit of the hub id that the run trained on)."""
    folder = Path.cwd() / expanded(target.base)
    if folder.is_dir():
        return str(folder), None
    if not is_hub_id(target.base):
        raise UsageError(
            f"the base of {target.name} is {target.base}, which vLLM cannot read beside an adapter\n{merge_first(target)}"
        )
    return target.base, _revision(target)


def _revision(target: Target) -> str | None:
    record = {} if target.run is None else target.run.read_record()
    return (record.get("model") or {}).get("revision")


def local_base(target: Target, env: Mapping[str, str]) -> Path | None:
    """The base model's folder: on this machine or in the hub cache, None if in neither; for a whole model its own folder."""
    if target.adapter is None:
        return target.weights
    folder = Path.cwd() / expanded(target.base)
    if folder.is_dir():
        return folder
    there = snapshots(target.base, env, revision=_revision(target)) if is_hub_id(target.base) else iter(())
    return next((one for one in there if (one / "config.json").is_file()), None)


def merged_model(how: How) -> str:
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


def merge_first(target: Target) -> str:
    out, given = shlex.quote(f"{target.name}-merged"), _given(target)
    return f"    hint:     launcher merge {given} -o {out}, then launcher serve {given} --merged {out}"


def _given(target: Target) -> str:
    return target.name if target.run is not None else shlex.quote(str(target.folder))  # without a run the folder's path names it


def _is_own_template(template: Path, base: str) -> bool:
    """Whether the adapter's chat template differs from its base model's."""
    if not template.is_file():
        return False
    there = Path(base, TEMPLATE)
    return not there.is_file() or there.read_bytes() != template.read_bytes()


def _has_no_template(weights: Path) -> bool:
    """Whether ``weights`` has a tokenizer without a chat template; False if it has no tokenizer."""
    file = weights / "tokenizer_config.json"
    if not file.is_file() or any((weights / name).exists() for name in (TEMPLATE, "additional_chat_templates")):
        return False
    return not _read(file).get("chat_template")


def adapter_config(adapter: Path) -> Mapping[str, Any]:
    return _read(adapter / ADAPTER)


def architecture(folder: Path) -> str:
    return str((_read(folder / "config.json").get("architectures") or ["?"])[0])


def _is_wide(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    config = _read(folder / "config.json")
    return (config.get("dtype") or config.get("torch_dtype")) == "float32"


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LauncherError(f"cannot read {file}: {error}") from error
    return found
