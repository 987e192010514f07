"""Sample policies of the kinds that platform teams take off the shelf, in the form of Gatekeeper, evaluated by rego-cpp.

Each ``*.rego`` is a package ``policies.<name>`` whose ``violation`` holds what it refuses of ``input.review.object``, a Pod or a
Job; ``input.parameters`` are a constraint's. They are of this project: no policy of another one is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in _FOLDER.glob("*.rego")))


def refused(policy: str, obj: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> list[str]:
    """What the policy says against ``obj``, sorted; empty where it is admitted."""
    engine = _engine(policy)
    engine.set_input({"review": {"object": _plain(obj)}, "parameters": dict(parameters or {})})
    answer = engine.query(f"data.policies.{policy}.violation")
    assert answer.ok(), f"{policy}: {answer}"
    (found,) = answer.results[0].expressions
    return sorted(one["msg"] for one in found)


def _plain(value: Any) -> Any:
    """Mappings of any class as dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


@cache
def _engine(policy: str) -> Any:
    from regopy import Interpreter

    engine = Interpreter()
    engine.add_module(policy, (_FOLDER / f"{policy}.rego").read_text(encoding="utf-8"))
    return engine
