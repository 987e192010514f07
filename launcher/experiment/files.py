"""Reads experiment files and .env; knows the place of every value and every mistake."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..errors import ExperimentError, Mistake, UsageError, nearest
from ..redact import REDACTOR
from .found import Contents, Found, Other, the_one
from .loaded import Loaded, checked, readable
from .other_tools.kinds import other_kind
from .other_tools.other_names import meaning
from .other_tools.tools import tool_of
from .text.env_text import parse_env
from .text.yaml_nodes import MappingNode, Node, Place, ScalarNode, Source, by_place, data
from .text.yaml_text import compose
from .variables import FOR_LIBRARIES

LARGEST: Final = 1_000_000  # bytes of an experiment file
OVERRIDE: Final = "DPO_DOTENV_OVERRIDE"
_YES: Final = frozenset(("1", "true", "yes", "on"))
_NO: Final = frozenset(("", "0", "false", "no", "off"))


@dataclass(frozen=True)
class Checked:
    """One experiment of ``check``. ``loaded``: None if it has mistakes.

    ``readable``: the experiment as far as needed to read its data; None if mistakes make that ambiguous.
    """

    found: Found
    loaded: Loaded | None
    readable: Loaded | None


@dataclass(frozen=True)
class Survey:
    """All experiments of the files, and every mistake once; one in a shared block names every experiment that uses it.

    ``others``: experiments of other kinds than DPO, unchecked.
    """

    experiments: tuple[Checked, ...]
    mistakes: tuple[Mistake, ...]
    warnings: tuple[str, ...]
    others: tuple[Other, ...] = ()


def load(name: str | None, *, root: Path = Path(), file: Path | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """The experiment ``name`` with ``overrides`` (``a.b=value``) applied. ``name`` None: the only experiment; a YAML file: the
    one in it.

    Raises ExperimentError with every mistake in the file's text and in this experiment, UsageError for an override without
    ``=``.
    """
    _learn_secrets(root)
    name, file = _named(name, file)
    contents = read_files(root, file)
    found = the_one(name, contents)
    texts = list(contents.mistakes.get(found.file, ()))
    loaded, wrong = checked(found, overrides)
    if texts or wrong or loaded is None:
        raise ExperimentError([*texts, *_once(wrong)])
    return loaded


def check_files(root: Path = Path(), file: Path | None = None, overrides: Sequence[str] = (), name: str | None = None) -> Survey:
    """Checks every experiment of the files, or the one that ``name`` means.

    Raises ExperimentError if there is no file, or no experiment with that name.
    """
    _learn_secrets(root)
    name, file = _named(name, file)
    contents = read_files(root, file)
    if name is not None:
        one = the_one(name, contents)
        contents = Contents(contents.files, (one,), {one.file: contents.mistakes.get(one.file, ())}, contents.blocks, ())
    results, wrong = [], list[tuple[Mistake, str]]()
    for found in contents.found:
        loaded, own = checked(found, overrides)
        results.append(Checked(found, loaded, loaded or readable(found, overrides)))
        wrong += own
    texts = [mistake for mistakes in contents.mistakes.values() for mistake in mistakes]
    warnings = (*contents.warnings, *_shared_ids(contents.found))
    return Survey(tuple(results), (*texts, *_once(wrong)), warnings, contents.others)


def _named(name: str | None, file: Path | None) -> tuple[str | None, Path | None]:
    """(experiment, file). A file name in place of an experiment's name means the experiment in that file."""
    if file is None and name is not None and name.endswith((".yml", ".yaml")):
        return None, Path(name)
    return name, file


def _shared_ids(found: Iterable[Found]) -> Iterator[str]:
    same: dict[str, list[Found]] = {}
    for one in found:
        same.setdefault(one.id, []).append(one)
    for identity, those in same.items():
        if len(those) > 1:
            names = ", ".join(f"{f.key} ({f.place.label})" for f in those)
            yield f"{names} share experiment_id {identity} and its output folder exp_{identity}"


def read_files(root: Path = Path(), file: Path | None = None) -> Contents:
    """``file``, or all of ``configs/*.yml`` and ``configs/*.yaml`` below ``root``. Raises ExperimentError if there is none."""
    files = _files(root, file)
    found: list[Found] = []
    mistakes: dict[Path, Sequence[Mistake]] = {}
    blocks: dict[str, Place] = {}
    warnings: list[str] = []
    others: list[Other] = []
    for path in files:
        top, wrong = _read(path)
        if wrong:
            mistakes[path] = wrong
        foreign = _foreign(path, top) if top is not None else None
        if foreign is not None and file is None:
            warnings.append(f"{foreign.where}: {foreign.what}; {foreign.hint}")
        elif foreign is not None:
            mistakes[path] = [*wrong, foreign]
        for key, entry in top.entries.items() if top is not None else ():
            node = entry.node
            if isinstance(node, MappingNode) and "experiment_id" in node.entries:
                one = Found(key, str(_scalar(node, "experiment_id")), path, entry.key, node)
                other = _other(one)
                if other is None:
                    found.append(one)
                else:
                    others.append(other)
                continue
            blocks.setdefault(key, entry.key)
            meant = _meant(node)
            if meant is not None:
                warnings.append(f"{entry.key.label}: {key} has {meant} but no experiment_id: it is not an experiment")
    return Contents(files, tuple(found), mistakes, blocks, tuple(warnings), tuple(others))


def is_foreign(path: Path) -> bool:
    """Whether the file has the settings of another tool in place of experiments."""
    top, _ = _read(path)
    return top is not None and _foreign(path, top) is not None


def _foreign(path: Path, top: MappingNode) -> Mistake | None:
    """A mistake at the model's key, where a file has settings in place of experiments, as configs of other tools have."""
    nodes = [entry.node for entry in top.entries.values()]
    if any(isinstance(node, MappingNode) and "experiment_id" in node.entries for node in nodes):
        return None
    key = next((key for key, entry in top.entries.items() if _names_model(key, entry.node)), None)
    if key is None:
        return None
    tool = tool_of(top.entries)
    what = "settings at the top level, without an experiment's name" + (f": a config of {tool.name}" if tool is not None else "")
    hint = f"write an experiment from it: launcher init --from {shlex.quote(str(path))}"
    return top.entries[key].key.mistake(what, "experiments by name, such as my_experiment: {experiment_id: 1, …}", hint=hint)


def _names_model(key: str, node: Node) -> bool:
    is_name = isinstance(node, ScalarNode) and isinstance(node.value, str)
    return is_name and (key == "model_name" or meaning("", key) == "use model_name")


def _other(found: Found) -> Other | None:
    """``found`` if it is an experiment of another kind, None for DPO."""
    shown = other_kind(data(found.node))
    if shown is None:
        return None
    kind, path = shown
    node: Node = found.node
    for name in path:
        assert isinstance(node, MappingNode), "the path leads through mappings"
        entry = node.entries[name]
        node = entry.node
    return Other(found, kind, ".".join(path), entry.key)


def _scalar(node: MappingNode, name: str) -> object:
    value = node.entries[name].node
    return value.value if isinstance(value, ScalarNode) else None


def _meant(node: Node) -> str | None:
    """The key that shows that a block is meant to be an experiment; None for a block with an anchor, which is meant for
    aliases.
    """
    if not isinstance(node, MappingNode) or node.anchor is not None:
        return None
    return next((key for key in ("model_name", "datasets_path", "spreadsheet_id") if key in node.entries), None)


def _files(root: Path, file: Path | None) -> tuple[Path, ...]:
    if file is not None:
        return (root / file,)
    folder = root / "configs"
    files = sorted(path for pattern in ("*.yml", "*.yaml") for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise ExperimentError(
            Mistake(str(folder), "no experiment file found", "*.yml or *.yaml", hint="write a first one: launcher init")
        )
    return tuple(files)


def _read(path: Path) -> tuple[MappingNode | None, list[Mistake]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        beside = [p.name for p in path.parent.glob("*.y*ml") if p.is_file()] if path.parent.is_dir() else []
        missing = isinstance(error, FileNotFoundError)
        what = "file not found" if missing else f"cannot read the file: {(error.strerror or str(error)).lower()}"
        return None, [Mistake(str(path), what, hint=nearest(path.name, beside))]
    if len(raw) > LARGEST:
        return None, [Mistake(str(path), "the file is too large", f"at most {LARGEST} bytes", f"{len(raw)} bytes")]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, [_not_utf8(path, raw, error.start)]
    source = Source.of(str(path), text)
    node, mistakes = compose(text, source)
    if isinstance(node, MappingNode):
        return node, mistakes
    if not mistakes:
        what = "is empty" if node is None or data(node) is None else "is not a mapping"
        place = Place(source, 1, 1) if node is None else node.place
        mistakes = [place.mistake(f"the file {what}", "experiments by name, such as my_experiment: {experiment_id: 1, …}")]
    return None, mistakes


def _not_utf8(path: Path, raw: bytes, start: int) -> Mistake:
    line = raw[:start].count(b"\n") + 1
    before = raw[:start].rsplit(b"\n", 1)[-1].decode("utf-8")
    where = f"{path}:{line}:{len(before) + 1}"
    return Mistake(where, "the file is not UTF-8", "UTF-8", f"byte 0x{raw[start]:02x}", "save it as UTF-8 in your editor")


def _once(wrong: Sequence[tuple[Mistake, str]]) -> list[Mistake]:
    """Merges equal mistakes into one that names every experiment concerned."""
    keys: dict[Mistake, list[str]] = {}
    for mistake, key in wrong:
        keys.setdefault(mistake, []).append(key)
    named = [replace(m, what=f"{m.what} (in {', '.join(dict.fromkeys(k))})") for m, k in keys.items()]
    return sorted(named, key=by_place)


def read_env(root: Path = Path()) -> dict[str, str]:
    """``.env`` of ``root``, overridden by the process's environment (or the reverse if either sets DPO_DOTENV_OVERRIDE to
    true).

    Variables that only libraries read (proxies, certificates, hub settings) are also set in the process's environment. Raises
    ExperimentError with every mistake of the file.
    """
    path = root / ".env"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return dict(os.environ)
    except OSError as error:
        raise ExperimentError(Mistake(str(path), f"cannot read the file: {(error.strerror or str(error)).lower()}")) from None
    except UnicodeDecodeError as error:
        raise ExperimentError(Mistake(str(path), "the file is not UTF-8", hint=f"see byte {error.start + 1}")) from None
    override = _overrides(os.environ)
    values = parse_env(text, str(path), override=bool(override))
    if override is None and _overrides(values):
        override, values = True, parse_env(text, str(path), override=True)
    REDACTOR.learn(values)
    env = {**os.environ, **values} if override else {**values, **os.environ}
    os.environ.update({name: env[name] for name in FOR_LIBRARIES if name in values})
    return env


def _overrides(env: Mapping[str, str]) -> bool | None:
    """Whether ``.env`` wins; None if ``env`` does not say. Raises UsageError for a value that is not a boolean."""
    said = env.get(OVERRIDE, "").strip().lower()
    if said not in _YES | _NO:
        raise UsageError(f"{OVERRIDE} must be one of 1, true, yes, on, 0, false, no, off; found {said!r}")
    return said in _YES if said else None


def _learn_secrets(root: Path) -> None:
    """Registers the values of ``.env`` with the redactor. Its mistakes are reported by the command that needs the values."""
    with suppress(ExperimentError, UsageError):
        read_env(root)
