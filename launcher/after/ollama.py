"""A Modelfile for a merged model as GGUF, with the commands that convert and create it.

Ollama imports safetensors only with its MLX engine and only for a few model families; GGUF runs everywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..data.prompt import kept_prompt
from ..errors import UsageError, Warned
from ..job.target import Target
from .beside import How, adapter_config, check_served, merge_first, merged_model

_CONVERT: Final = "python llama.cpp/convert_hf_to_gguf.py"  # in llama.cpp's repository, in no package
_QUOTES: Final = '"""'  # quotes for several lines


def modelfile(target: Target, how: How) -> tuple[str, list[str]]:
    """(text, notices). Raises UsageError for an adapter that is not merged, and for a model that is not on this machine."""
    if how.merged is None and target.adapter is not None:
        check_served(target, adapter_config(target.adapter))
        raise UsageError(f"Ollama takes {target.name} only merged\n{merge_first(target)} --engine ollama")
    folder = merged_model(how) if how.merged is not None else str(target.weights)
    if not Path(folder).is_dir():
        raise UsageError(f"--merged {folder}: the conversion reads a folder of this machine")
    name = re.sub(r"[^a-z0-9._-]+", "-", target.name.lower()).strip("-.")
    notices: list[str] = []
    lines = [
        "# git clone --depth 1 https://github.com/ggml-org/llama.cpp",
        "# pip install -r llama.cpp/requirements/requirements-convert_hf_to_gguf.txt",
        f"# {_CONVERT} {shlex.quote(folder)} --outtype bf16 --outfile {name}.gguf",
        f"# ollama create {name} -f Modelfile && ollama run {name}",
        f"FROM ./{name}.gguf",
        *_settings(target, how, notices),
    ]
    return "\n".join(lines) + "\n", notices


def _settings(target: Target, how: How, notices: list[str]) -> Iterator[str]:
    if how.length is not None:
        yield f"PARAMETER num_ctx {how.length}"
    prompt = None if target.run is None else kept_prompt(target.run)
    if prompt is None or not prompt.system:
        return
    if _QUOTES in prompt.system:
        notices.append(Warned("the run's system message has three quotes, which no Modelfile can hold: clients must send it"))
        return
    yield f"SYSTEM {_QUOTES}{prompt.system}{_QUOTES}"
