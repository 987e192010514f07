"""What a run was made of (from its record), and what has changed since. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LauncherError, Warned


@dataclass(frozen=True)
class Change:
    """A part of a run that differs from its record; ``hint``: how to restore it."""

    what: str
    recorded: str
    found: str
    hint: str | None = None

    @property
    def sentence(self) -> str:
        return f"{self.what}: recorded {self.recorded}, found {self.found}"

    def __str__(self) -> str:
        lines = [self.what, f"    recorded: {self.recorded}", f"    found:    {self.found}"]
        return "\n".join([*lines, *([f"    hint:     {self.hint}"] if self.hint is not None else [])])


class NotRepeatable(LauncherError):
    """Parts of the run cannot be restored: ``changes``."""

    def __init__(self, run: str, changes: Sequence[Change]):
        self.changes = tuple(changes)
        head = f"{run} cannot be repeated from its record:"
        super().__init__("\n".join([head, *map(str, changes), f"Repeat it anyway with: launcher again {run} --anyway"]))


def code_changes(recorded: Mapping[str, Any], found: Mapping[str, Any], folder: str) -> Iterator[Change]:
    """``recorded`` and ``found``: the record's ``code``, then and now; ``folder``: the checkout.

    ``content``, a hash of the code, decides; a record of an older version has none.
    """
    is_dirty, has_content = bool(recorded.get("dirty")), "content" in recorded
    if not recorded or (recorded["content"] == found.get("content") if has_content else recorded == found and not is_dirty):
        return
    revision, now = recorded.get("revision"), found.get("revision")
    hint = f"pip install dpo-launcher=={recorded.get('version')}"
    if is_dirty:
        hint = "its uncommitted changes are not recorded: commit before a run that you want to repeat"
    elif revision is not None:
        hint = f"git -C {folder} stash" if revision == now else f"git -C {folder} checkout {revision[:12]}"
    yield Change("code", _code(recorded), _code(found), hint)


def _code(code: Mapping[str, Any]) -> str:
    name = f"revision {code['revision'][:12]}" if code.get("revision") else f"version {code.get('version', 'unknown')}"
    return name + (" with uncommitted changes" if code.get("dirty") else "")


def package_changes(recorded: Mapping[str, str], found: Mapping[str, str | None]) -> Iterator[Change]:
    """Package name -> version; None: not installed."""
    for name, version in recorded.items():
        there = found.get(name)
        if there != version:
            hint = f"use Python {version}" if name == "python" else f"pip install {name}=={version}"
            yield Change(name, version, there or "not installed", hint)


def files_of(sources: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The sources, each a table of its own: validation pairs that were held out are in the table of the training pairs."""
    return [source for source in sources if source["role"] != "validation" or source.get("held_out") is None]


def data_changes(recorded: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    """Sources as in the record's ``data``: ``role``, ``name``, ``sha256``, ``rows``."""
    before, now = ({str(source["role"]): source for source in sources} for sources in (recorded, found))
    for role in dict.fromkeys((*before, *now)):
        then, there = before.get(role), now.get(role)
        if (then or {}).get("sha256") == (there or {}).get("sha256"):
            continue
        hint = f"restore the file with this SHA-256: {then['sha256']}" if then is not None else f"remove {(there or {})['name']}"
        yield Change(f"{role} data", _source(then), _source(there), hint)


def _source(source: Mapping[str, Any] | None) -> str:
    return "none" if source is None else f"{source['name']}, {source['rows']} rows, SHA-256 {str(source['sha256'])[:12]}"


def unnamed(record: Mapping[str, Any], parts: Sequence[str]) -> list[Warned]:
    """A warning that names ``parts`` missing in the record of an older version or of a run from Python."""
    missing = [part for part in parts if not record.get(part)]
    return [Warned(f"its record lacks {', '.join(missing)}; not compared")] if missing else []


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Differences of two records that can change a loss, one sentence each."""
    code = code_changes(before.get("code") or {}, after.get("code") or {}, ".")
    found = [*code]
    if before.get("packages") and after.get("packages"):
        found += package_changes(before["packages"], after["packages"])
    if before.get("data") and after.get("data"):
        found += data_changes(before["data"], after["data"])
    named = {"model": ("identity",), "hardware": ("machine", "threads", "gpus", "ranks"), "dpo_path": ("path", "row_tokens")}
    for part, names in named.items():
        then, now = before.get(part) or {}, after.get(part) or {}
        pairs = [(name, then.get(name), now.get(name)) for name in names]
        found += [Change(f"{part} {name}", _value(a), _value(b)) for name, a, b in pairs if a != b and then and now]
    return [change.sentence for change in found]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
