"""The ``config.json`` of a model, wherever it is: a local folder, the checkout, the hub's cache, the hub, a bucket."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import CredentialError, ExperimentError, Mistake, StorageError, UnreachableError
from ...network import reason, shown, through
from ...runs.cache import cache_root, is_hub_id, snapshots
from ...runs.run_dir import expanded
from .model_config import ModelConfig

if TYPE_CHECKING:
    from ...experiment.schema import StorageConfig

HUB: Final = "https://huggingface.co"
TIMEOUT: Final = 5.0  # seconds for the hub's answer
FLAG: Final = "--model-config FILE"


def find_model_config(
    model_name: str,
    root: Path,
    caller: Mapping[str, str],
    given: Path | None = None,
    *,
    storage: StorageConfig | None = None,
    network: bool = True,
) -> tuple[ModelConfig, str]:
    """(the sizes of ``model_name``, where they were read): from ``given``, a local folder, ``configs/models``, the hub's cache
    or, with ``network``, the hub or a bucket.

    ``caller`` is the environment; ``storage`` names the server of an ``s3://…`` model. Raises ExperimentError where no
    configuration is found, listing what was tried, or where it cannot be read, and UnreachableError where a server that was asked
    does not answer.
    """
    tried = []
    for file in _files(model_name, root, caller, given):
        if file.is_file():
            return _read(file), str(file)
        tried.append(str(file))
        if file == given:
            raise ExperimentError(Mistake(FLAG, f"{file} not found", "the model's config.json"))
    what = f"no config.json found for {model_name}"
    try:
        found, where = _asked(model_name, storage, caller) if network else (None, "")
    except UnreachableError as error:
        raise UnreachableError(f"{what}: {error}\n    hint:     pass the file: {FLAG}") from error
    if found is not None:
        return found, where
    tried += [where] if where else []
    looked = f"tried {'; '.join(tried)}" if tried else "neither a folder nor a hub id"
    raise ExperimentError(Mistake("model_name", what, found=looked, hint=f"pass the file: {FLAG}"))


def _asked(model_name: str, storage: StorageConfig | None, caller: Mapping[str, str]) -> tuple[ModelConfig | None, str]:
    """(the sizes that the hub or a bucket has, their address), or None with the address and why; "" where neither is named.

    Raises UnreachableError where the server does not answer.
    """
    try:
        if is_hub_id(model_name):
            url = f"{caller.get('HF_ENDPOINT', HUB).rstrip('/')}/{model_name}/resolve/main/config.json"
            return ModelConfig.parse(_mapping(_ask(url, caller), url), url), url
        if model_name.startswith("s3://"):
            url = f"{model_name.rstrip('/')}/config.json"
            file = _in_bucket(model_name, storage, caller)
            if file.is_file():
                return ModelConfig.parse(_mapping(file.read_text(encoding="utf-8"), url), url), url
            return None, f"{url} (not found)"
    except (OSError, ValueError, CredentialError, StorageError) as error:  # URLError is an OSError: no such model, access refused
        return None, f"{url} ({error})"
    return None, ""


def _files(model_name: str, root: Path, caller: Mapping[str, str], given: Path | None) -> Iterator[Path]:
    """Where the configuration may be on this machine, best first."""
    if given is not None:
        yield given
        return
    if model_name.startswith("s3://"):
        return
    folder = root / expanded(model_name)
    if folder.is_dir() or not is_hub_id(model_name):
        yield folder / "config.json"
        return
    here = Path(__file__).parents[2]
    for models in (root / "configs" / "models", here.parent / "configs" / "models", here / "models"):  # the last: installed
        yield models / model_name / "config.json"
    for snapshot in snapshots(model_name, caller):
        yield snapshot / "config.json"


def _read(file: Path) -> ModelConfig:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(Mistake(str(file), "cannot read the file", "a model's config.json", str(error))) from error
    return ModelConfig.parse(_mapping(text, str(file)), str(file))


def _mapping(text: str, where: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ExperimentError(Mistake(where, "not valid JSON", "a model's config.json", str(error))) from error
    if not isinstance(data, dict):
        raise ExperimentError(Mistake(where, "not a JSON object", "a model's config.json", text[:40]))
    return data


def _in_bucket(uri: str, storage: StorageConfig | None, caller: Mapping[str, str]) -> Path:
    """The configuration of a model in a bucket, fetched into the cache; raises what ``fetch_folder`` raises."""
    from ...storage import Effort, fetch_folder

    # Somebody waits for the plan: retry once, not for minutes.
    brief = Effort(attempts=2)
    folder = fetch_folder(uri, storage=storage, env=caller, cache=cache_root(caller), names=("config.json",), effort=brief)
    return folder / "config.json"


def _ask(url: str, caller: Mapping[str, str]) -> str:
    """The hub's answer; raises UnreachableError where it does not answer, else OSError."""
    token = caller.get("HF_TOKEN")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    away = f"the hub ({shown(url)}) cannot be reached{through(url, os.environ)}"
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return str(answer.read(1 << 20).decode("utf-8"))
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code in (408, 429):
            raise UnreachableError(f"{away}: HTTP {error.code} ({error.reason})") from error
        refused = error.code in (401, 403)
        raise OSError(f"{error.code} {error.reason}" + ("; set HF_TOKEN in .env" if refused else "")) from error
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException, ConnectionError) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise OSError(str(error)) from error
        raise UnreachableError(f"{away}: {reason(str(getattr(error, 'reason', None) or error))}") from error
