"""Imports the heavy libraries in our own processes, without parts that cost seconds and serve no run."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

_HIDDEN: Final = ("wandb", "mlflow", "trackio", "deepspeed")
DEEPSPEED: Final = "ACCELERATE_DEEPSPEED_CONFIG_FILE"  # the environment of a run whose ranks share the model


@contextmanager
def quickly(trackers: Iterable[str] = ()) -> Iterator[None]:
    """Wraps the first import of torch, transformers and TRL; ``trackers``: those that the run reports to.

    Imports leave a million objects that stay. The garbage collector would walk them again and again, for a fifth of the CPU time
    of the imports: it is off meanwhile and never looks at them later. What is installed but serves other runs is hidden, because
    libraries import it wherever they find it: TRL the trackers, accelerate DeepSpeed, and DeepSpeed MLflow (5 s of CPU time
    together).
    """
    used = {*trackers, "deepspeed"} if DEEPSPEED in os.environ else set(trackers)
    for name in set(_HIDDEN) - used:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # Python's way to refuse an import
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def reveal(*names: str) -> None:
    """Makes ``names`` (default: all) importable again that ``quickly`` has hidden."""
    for name in names or _HIDDEN:
        if sys.modules.get(name, ...) is None:
            del sys.modules[name]
