"""``--set hyperparameters.learning_rate=1e-5``: changes one value of an experiment before it is checked.

Nodes on the path are copied, so that a block shared with other experiments does not change.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ExperimentError, Mistake, UsageError
from .yaml_nodes import BrokenNode, Entry, MappingNode, Node, Place, ScalarNode, Source
from .yaml_text import compose


def override(node: MappingNode, options: Sequence[str]) -> tuple[MappingNode, list[Mistake]]:
    """``node`` with all options applied in order, and the mistakes. Raises UsageError for an option without ``=``."""
    wrong: list[Mistake] = []
    for option in options:
        path, equals, text = option.partition("=")
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set {option!r}: expected KEY=VALUE, such as hyperparameters.learning_rate=1e-5")
        source = Source("--set", (option,), is_file=False, before=len(path) + 1)
        value, mistakes = compose(text, source)
        wrong += mistakes
        if value is None:
            value = BrokenNode(Place(source, 1, 1)) if mistakes else ScalarNode(Place(source, 1, len(path) + 2), None)
        try:
            node = _set(node, path.split("."), 0, value, source)
        except ExperimentError as error:
            wrong += error.mistakes
    return node, wrong


def _set(node: Node, path: Sequence[str], depth: int, value: Node, source: Source) -> MappingNode:
    """``node`` with ``value`` at the rest of ``path``; missing mappings are added."""
    column = sum(len(part) + 1 for part in path[:depth]) + 1
    key = Place(source, 1, column, len(path[depth]))
    empty = isinstance(node, BrokenNode) or (isinstance(node, ScalarNode) and node.value is None)
    if not isinstance(node, MappingNode):
        if not empty:
            name = ".".join(path[:depth])
            raise ExperimentError(key.mistake(f"{name} has no keys", "a mapping", _kind(node)))
        node = MappingNode(key, {})
    last = depth == len(path) - 1
    entry = node.entries.get(path[depth])
    below = value if last else _set(entry.node if entry is not None else MappingNode(key, {}), path, depth + 1, value, source)
    return node.plus(path[depth], Entry(key if last or entry is None else entry.key, below))


def _kind(node: Node) -> str:
    return str(node.value) if isinstance(node, ScalarNode) else "a list"
