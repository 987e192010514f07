"""The files of a trained folder that may be published: weights, tokenizer, configuration and card, without local paths or
secrets.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError, Warned
from ..hub import FOLDER
from ..job.adapter_config import ADAPTER
from ..redact import REDACTOR
from ..runs.cache import is_hub_id

CARD: Final = "README.md"
_TEMPLATE: Final = "[More Information Needed]"  # in the card that PEFT writes
_WEIGHTS: Final = ("*.safetensors", "adapter_model.bin", "pytorch_model*.bin")
_PUBLIC: Final = (*_WEIGHTS, "*.json", "*.jinja", "*.model", "*.txt", "*.md", "*.py", "LICENSE*", "NOTICE*")
_OF_A_TRAINING: Final = (
    "trainer_state.json",
    "origin.json",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
    "manifest.json",
)
_WHOLE: Final = 64 * 1024 * 1024  # bytes: text files up to this size are searched for secrets


@dataclass(frozen=True)
class Files:
    """The files to push by name: their content, or the path of a file that is sent unchanged. ``notices``: what is left out,
    and why.
    """

    contents: Mapping[str, bytes | Path]
    notices: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in self.contents.values())


def public_files(folder: Path, repository: str) -> Files:
    """The public files of ``folder``. The card names ``repository``; the configuration contains no local path.

    Raises UsageError if the folder has no weights, or if a text contains a secret.
    """
    left: list[str] = []
    contents: dict[str, bytes | Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name in _OF_A_TRAINING or not any(fnmatch(path.name, one) for one in _PUBLIC):
            left.append(path.name + "/" * path.is_dir())
            continue
        contents[path.name] = path
    if not any(fnmatch(name, one) for name in contents for one in _WEIGHTS):
        raise UsageError(f"{folder} holds no weights (*.safetensors)")
    notices: list[str] = []
    shown = [name for name in left if not name.startswith(".")]
    if shown:
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        notices.append(f"not pushed: {', '.join(shown[:5])}{more}")
    notices += _card(contents, repository)
    notices += _name_base(contents)
    _check_secrets(contents, folder)
    return Files(contents, tuple(notices))


def _card(contents: dict[str, bytes | Path], repository: str) -> Iterator[str]:
    """Writes ``repository`` into the card's code for loading the model."""
    file = contents.get(CARD)
    if not isinstance(file, Path):
        yield Warned(f"no {CARD}: the hub's page of the model will be empty")
        return
    text = file.read_text(encoding="utf-8")
    if _TEMPLATE in text:  # written by an earlier version
        del contents[CARD]
        yield Warned(f"{CARD} is PEFT's empty template and is not pushed: write a card, then push again")
        return
    contents[CARD] = text.replace(f'"{FOLDER}"', f'"{repository}"').encode()


def _name_base(contents: dict[str, bytes | Path]) -> Iterator[str]:
    """Replaces a base model that is a local path: by its hub id in the card, else by the last part of the path."""
    file = contents.get(ADAPTER)
    if not isinstance(file, Path):
        return
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base = str(config["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        return
    known = _base_of_card(contents)
    if known is not None and base != known:
        contents[ADAPTER] = _json({**config, "base_model_name_or_path": known})
    elif known is None and (_is_ours(contents) or not is_hub_id(base) or Path(base).exists()):
        name = posixpath.basename(base.rstrip("/"))
        contents[ADAPTER] = _json({**config, "base_model_name_or_path": name})
        yield Warned(f"its base model, {name}, has no known hub name: users of the adapter need the folder of that model")


def _base_of_card(contents: Mapping[str, bytes | Path]) -> str | None:
    import yaml

    card = contents.get(CARD)
    if not isinstance(card, bytes) or not card.startswith(b"---\n"):
        return None
    with suppress(ValueError, yaml.YAMLError, AttributeError):
        base = yaml.safe_load(card.split(b"\n---", 1)[0]).get("base_model")
        return base if isinstance(base, str) and is_hub_id(base) else None
    return None


def _is_ours(contents: Mapping[str, bytes | Path]) -> bool:
    """Whether a run wrote the card. If such a card names no base model, the base is on no hub."""
    card = contents.get(CARD)
    return isinstance(card, bytes) and b"\n- dpo-launcher\n" in card


def _json(config: Mapping[str, Any]) -> bytes:
    return json.dumps(config, indent=2).encode()


def _check_secrets(contents: Mapping[str, bytes | Path], folder: Path) -> None:
    for name, content in contents.items():
        if any(fnmatch(name, one) for one in _WEIGHTS):
            continue
        if isinstance(content, Path) and content.stat().st_size > _WHOLE:
            continue
        body = content if isinstance(content, bytes) else content.read_bytes()
        secret = REDACTOR.named(body.decode("utf-8", "replace"))
        if secret is not None:
            raise UsageError(f"{folder / name} contains the value of {secret}; remove it, then push again")
