"""A shell, or any command, inside a run: in its container, in the pod of one of its nodes, or in its folder on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..errors import LauncherError, UsageError
from ..runs.run_dir import RunDir
from . import Runs
from .docker.backend import Docker
from .status.finding import on_cluster
from .terminal import Wire, has_terminal, join

_SHELL: Final = ("sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")


def shell(where: Runs[Any], run: Any, node: int, command: Sequence[str], say: Callable[[str], None]) -> int:
    """Runs ``command`` (empty: a shell) inside ``run`` with this terminal; returns its exit code.

    ``node``: which of the run's nodes. Raises UsageError for a node that the run does not have, LauncherError where its container
    does not run or the cluster denies it.
    """
    tty, words = has_terminal(), list(command) or list(_SHELL)
    there = on_cluster(where, run)
    if there is not None:
        kubernetes, on = there
        return join(kubernetes.attach(on, node, words, tty=tty), tty=tty)
    if node:
        raise UsageError(f"--node {node}: {run.name} is a run of this machine and has only node 0")
    if isinstance(where, Docker):
        return join(_container(where, run, words, tty), tty=tty)
    say(f"{run.name} has no container: this is a shell of this machine in the run's folder")
    return _here(run, command)


def _container(where: Docker, run: RunDir, words: Sequence[str], tty: bool) -> Wire:
    now = where.status(run)
    if now.is_over:
        raise LauncherError(f"{run.name} is {now.state}: its container is gone\n    hint:     its files are in {run.path}")
    return where.attach(run, words, tty=tty)


def _here(run: RunDir, command: Sequence[str]) -> int:
    words = list(command) or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        return subprocess.run(words, cwd=run.path, check=False).returncode
    except OSError as error:
        raise LauncherError(f"cannot run {words[0]}: {(error.strerror or str(error)).lower()}") from error
