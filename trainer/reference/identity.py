"""The identity of the base model, whatever its place and name; and the key of the reference's log-probabilities."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from huggingface_hub import try_to_load_from_cache

from launcher.errors import ExperimentError, Mistake
from launcher.runs.whole import write_whole

from ..inputs.hub import WEIGHTS, commit_of

if TYPE_CHECKING:
    from ..inputs.models.model import Precision

ADAPTERS: Final = ("adapter_model.safetensors", "adapter_model.bin")
LARGE: Final = 1 << 20  # bytes: smaller files are read each time
SETTLED: Final = 2.0  # seconds: a file changed since may change again within one tick of its clock
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def base_identity(model: str, cache: Path, *, model_cache_dir: str | None = None) -> str:
    """A hash (64 hex digits) of what transformers loads for ``model`` (a folder or hub id): config, weights, adapter, code.

    Call it when the model was loaded: a hub id is then in the hub's cache, and no network is used. Weights are hashed once
    (``cache`` remembers the hash), and those in the hub's cache never: their files are named by their SHA-256. A copy elsewhere,
    or under another name, has the same identity; a re-save into other files has another one.

    Raises ExperimentError if the model is in neither place.
    """
    digest = hashlib.sha256()
    for name, content in _parts(model, cache, model_cache_dir):
        digest.update(f"{len(name)}:{name}{content}".encode())
    return digest.hexdigest()


def started_identity(base: str, start: str) -> str:
    """A hash (64 hex digits) of the base weights and of the adapter on or in them."""
    return hashlib.sha256(f"{base}:{start}".encode()).hexdigest()


def revision(model: str, *, model_cache_dir: str | None = None) -> str | None:
    """The commit of a hub id that is in the hub's cache, or of a folder there; None for another folder."""
    return commit_of(str(_folder(model, model_cache_dir)))


def _parts(model: str, cache: Path, hub: str | None) -> Iterator[tuple[str, str]]:
    folder = _folder(model, hub)
    adapter = folder / "adapter_config.json"
    config = folder / "config.json"
    if adapter.is_file():
        for path in (adapter, *(folder / name for name in ADAPTERS)):
            if path.is_file():
                yield path.name, _content(path, cache)
        base = _json(adapter).get("base_model_name_or_path")
        beside = Path(model).is_dir() and config.is_file()  # then transformers loads the weights beside the adapter
        if base and not beside:
            yield "base", base_identity(base, cache, model_cache_dir=hub)
            return
    yield config.name, _content(config, cache)
    for path in _weights(folder):
        yield path.name, _content(path, cache)
    yield from _code(folder, cache, hub)


def _folder(model: str, hub: str | None) -> Path:
    if Path(model).is_dir():
        return Path(model)
    for name in ("config.json", "adapter_config.json"):
        if found := _cached(model, name, hub):
            return found.parent
    raise ExperimentError(Mistake("model_name", "model not found", "a model folder, or a model in the hub's cache", found=model))


def _cached(repository: str, name: str, hub: str | None) -> Path | None:
    try:
        found = try_to_load_from_cache(repository, name, cache_dir=hub)
    except ValueError:
        return None  # not a valid name of a repository
    return Path(found) if isinstance(found, str) else None


def _weights(folder: Path) -> list[Path]:
    """The weight files that transformers reads: the first of ``WEIGHTS`` that exists, and the shards in an index."""
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        return sorted(path for suffix in ("safetensors", "bin") for path in folder.glob(f"*.{suffix}"))
    if first.suffix != ".json":
        return [first]
    return [first, *(folder / name for name in sorted(set(_json(first)["weight_map"].values())))]


def _code(folder: Path, cache: Path, hub: str | None) -> Iterator[tuple[str, str]]:
    """Python files that the configuration asks for, here or, written ``repository--module.Class``, in another repository."""
    classes = _json(folder / "config.json").get("auto_map")
    if not classes:
        return
    names = [name for value in classes.values() for name in (value if isinstance(value, list) else [value]) if name]
    folders = {"": folder}
    for place in sorted({name.partition("--")[0] for name in names if "--" in name}):
        if found := _cached(place, "config.json", hub):
            folders[place] = found.parent
    for place, root in folders.items():
        for path in sorted(root.rglob("*.py")):
            yield f"{place}/{path.relative_to(root).as_posix()}", _content(path, cache)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _content(path: Path, cache: Path) -> str:
    """SHA-256 of the file, in hex, read from the hub's name for it or from the note of an earlier reading where there is one."""
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name
    before = real.stat()
    if before.st_size < LARGE:
        return hashlib.sha256(real.read_bytes()).hexdigest()
    # With the change time: a copy may keep size and modification time, but no program can set the change time.
    stamp = (str(real), before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
    note = cache / "identity" / hashlib.sha256(json.dumps(stamp).encode()).hexdigest()
    try:
        if _SHA256.fullmatch(text := note.read_text(encoding="utf-8")):
            return text
    except (OSError, UnicodeDecodeError):
        pass  # not hashed before, or damaged: hash it now
    with real.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    unchanged = (before.st_ino, before.st_size, before.st_ctime_ns) == (after.st_ino, after.st_size, after.st_ctime_ns)
    if unchanged and time.time() - after.st_ctime > SETTLED:
        _note(note, found)
    return found


def _note(note: Path, text: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, text)
    except OSError:
        pass  # without a cache the next run hashes the file again


def reference_key(
    identity: str,
    *,
    precision: Precision,
    quantization: Mapping[str, Any] | None,
    attention: str,
    path: str,
    device: str,
    **others: str | float | bool | None,
) -> str:
    """A hash (32 hex digits) of everything except token ids that changes the reference's log-probabilities.

    ``identity`` is ``base_identity``; ``quantization`` the settings of the loaded model, None if it is not quantised;
    ``attention`` transformers' name of the implementation; ``path`` "packed" or "plain"; ``device`` a type ("cuda", "cpu");
    ``others`` are settings of the moment, TF32 or other kernels. The versions of torch and transformers (and bitsandbytes)
    count up to their second number: a bug fix may change the numbers. The model of the GPU does not count: it changes them as
    little as another neighbour in the batch does.

    The tokenizer is not in the key: the forward pass sees only its ids, and they are the key of each row. Another chat template
    misses exactly where it makes other ids; a tokenizer that was merely saved again misses nothing.
    """
    packages = ("torch", "transformers", *(("bitsandbytes",) if quantization else ()))
    options = {
        **others,
        "identity": identity,
        "weights": str(precision.weights),
        "autocast": "bf16" if precision.bf16 else "fp16" if precision.fp16 else None,
        "quantization": dict(quantization) if quantization else None,
        "attention": attention,
        "path": path,
        "device": device,
        "versions": {name: importlib.metadata.version(name).split(".")[:2] for name in packages},
    }
    return hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()[:32]
