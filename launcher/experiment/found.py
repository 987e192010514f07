"""Found: an experiment before its values are checked, by key, id and place in a file; and the lookup by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExperimentError, Mistake, nearest
from .other_tools.method import SFT, refused
from .text.yaml_nodes import MappingNode, Place, ScalarNode


@dataclass(frozen=True)
class Found:
    """An unchecked experiment. ``id``: its ``experiment_id`` as text."""

    key: str
    id: str
    file: Path
    place: Place
    node: MappingNode

    def text(self, name: str) -> str | None:
        """The value of a top-level key, if it is a scalar."""
        entry = self.node.entries.get(name)
        value = entry.node.value if entry is not None and isinstance(entry.node, ScalarNode) else None
        return None if value is None else str(value)


@dataclass(frozen=True)
class Other:
    """An experiment of another kind. ``because``: the key that shows it, at ``place``."""

    found: Found
    kind: str
    because: str
    place: Place

    def json(self) -> dict[str, str]:
        return {"key": self.found.key, "kind": self.kind, "because": self.because, "place": self.place.label}

    def __str__(self) -> str:
        return f"{self.found.key}: not for this tool: {self.because} belongs to {self.kind}"

    def mistake(self) -> Mistake:
        what = f"{self.found.key} is not for this tool: {self.because} belongs to {self.kind}"
        hint = f"{kind} here is method: {kind}" if (kind := self.kind.lower()) == SFT else refused(kind)
        return self.place.mistake(what, "an experiment of DPO or SFT (method: dpo or sft)", hint=hint)


@dataclass(frozen=True)
class Contents:
    """What the files contain. ``mistakes``: in their text, by file. ``others``: experiments of other kinds."""

    files: tuple[Path, ...]
    found: tuple[Found, ...]
    mistakes: Mapping[Path, Sequence[Mistake]]
    blocks: Mapping[str, Place]
    warnings: tuple[str, ...]
    others: tuple[Other, ...] = ()


def the_one(name: str | None, contents: Contents) -> Found:
    if name is None:
        matches = list(contents.found)
    else:
        matches = [f for f in contents.found if f.key == name]
        matches = matches or [f for f in contents.found if _bare(f.id) == _bare(name)]
    if len(matches) == 1:
        return matches[0]
    other = _other(name, contents)
    if other is not None and not matches:
        raise ExperimentError(other.mistake())
    texts = [mistake for mistakes in contents.mistakes.values() for mistake in mistakes]
    if texts and not matches:  # the experiment may come after the mistake
        raise ExperimentError(texts)
    where = ", ".join(str(path) for path in contents.files)
    if not contents.found:
        hint = "an experiment is a mapping with an experiment_id, at the top level of the file"
        raise ExperimentError(Mistake(where, "no experiment found", hint=next(iter(contents.warnings), hint)))
    if name is None:
        raise ExperimentError(Mistake(where, "several experiments found; name one", "one of\n" + _listed(matches)))
    if matches:
        what = f"{name!r} matches {len(matches)} experiments"
        # Listed by key, unless several files have the same key.
        how = "use the key" if len({f.key for f in matches}) == len(matches) else "name the file with -f"
        raise ExperimentError(Mistake(where, what, "one of\n" + _listed(matches), hint=how))
    raise ExperimentError(_unknown(name, where, contents))


def _other(name: str | None, contents: Contents) -> Other | None:
    """The experiment of another kind that ``name`` means; None: the only one of all."""
    if name is None:
        return contents.others[0] if len(contents.others) == 1 and not contents.found else None
    fits = [one for one in contents.others if one.found.key == name]
    return next(iter(fits or [one for one in contents.others if _bare(one.found.id) == _bare(name)]), None)


def _unknown(name: str, where: str, contents: Contents) -> Mistake:
    hint = nearest(name, [*(f.key for f in contents.found), *(f.id for f in contents.found)])
    if name in contents.blocks:
        hint = f"{name} ({contents.blocks[name].label}) is a block: it has no experiment_id"
    likely = sorted(contents.found, key=lambda f: -max(_likeness(name, f.key), _likeness(name, f.id)))
    return Mistake(where, f"no experiment {name!r}", "one of\n" + _listed(likely), hint=hint)


def _likeness(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # needed only for an error

    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _bare(identity: str) -> str:
    return re.sub(r"^(exp|experiment)_", "", identity)


def _listed(found: Iterable[Found], most: int = 20) -> str:
    rows = list(found)
    wide = max(len(f.key) for f in rows)
    lines = [f"{' ' * 14}{f.key:<{wide}}  id {f.id}  {f.place.label}" for f in rows[:most]]
    return "\n".join(lines + [f"{' ' * 14}… and {len(rows) - most} more"] * (len(rows) > most))
