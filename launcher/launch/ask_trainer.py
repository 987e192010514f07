"""Runs a module of the trainer in its own process, which prints lines and answers in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CredentialError, DataError, ExperimentError, LauncherError, Mistake, UnreachableError
from ..packages import missing_packages, needs


def check_installed(what: str) -> None:
    """Raises LauncherError if the packages for training are not installed. ``what``: what needs them."""
    missing = missing_packages()
    if missing:
        raise LauncherError(needs(what, missing))


def ask(module: str, args: Sequence[str], folder: Path, *, root: Path, say: Callable[[str], None], what: str) -> Any:
    """The answer of ``python -m MODULE ARGS… ANSWERS`` in ``root``. Raises LauncherError if it ends without one.

    ``folder``: for files of the process. ``say``: receives its lines. ``what``: begins the error message.
    """
    answers, errors = folder / "answers.json", folder / "errors.txt"
    argv = [sys.executable, "-m", module, *args, str(answers)]
    with errors.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            argv, cwd=root, env=environment(root), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                say(line.rstrip("\n"))
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if not answers.is_file():
        last = "\n".join(errors.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise LauncherError(f"{what} (exit {code}):\n{last}")
    return json.loads(answers.read_text(encoding="utf-8"))


def error_of(answer: Mapping[str, Any]) -> LauncherError:
    """The error described by an answer's ``error``: {"code", "text", "mistakes"}."""
    code, mistakes = answer["code"], [Mistake(**mistake) for mistake in answer["mistakes"]]
    if mistakes:
        return DataError(mistakes) if code == DataError.exit_code else ExperimentError(mistakes)
    others = {kind.exit_code: kind for kind in (CredentialError, UnreachableError)}
    return others.get(code, LauncherError)(answer["text"])


def environment(root: Path) -> dict[str, str]:
    """The environment of a trainer process in ``root`` that is not a run."""
    from ..experiment.files import read_env
    from ..runs.cache import cache_root

    caller = read_env(root)
    cache = cache_root(caller).absolute()
    own = {"DPO_CACHE_ROOT": str(cache), "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {"HF_HOME": str(cache / "huggingface"), **caller, **own}
