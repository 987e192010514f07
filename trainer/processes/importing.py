"""Importing: the heavy libraries in a process that is ours, without what costs seconds and serves no run."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def quickly(trackers: Iterable[str]) -> Iterator[None]:
    """Around the first import of torch, transformers and TRL; ``trackers``: those that the run reports to.

    Imports leave a million objects that stay. The garbage collector would walk them again and again, for a fifth of the imports'
    CPU time: it is off meanwhile and never looks at them later. TRL imports wandb wherever it is installed (0.7 s): from here on,
    wandb is not installed for a run that does not report to it.
    """
    if "wandb" not in trackers:
        sys.modules.setdefault("wandb", None)  # type: ignore[arg-type] # the language's own way to say that it cannot be imported
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
