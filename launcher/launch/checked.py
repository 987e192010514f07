"""``launcher check --tokens``: the trainer makes the tokens of what was read, in a process of its own, and answers in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import CredentialError, DataError, ExperimentError, LauncherError, Mistake, UnreachableError, Warned

if TYPE_CHECKING:
    from ..data.checked import Checked, CheckedData

_PACKAGES: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def check_tokens(found: Checked, *, root: Path = Path(), say: Callable[[str], None]) -> Checked:
    """``found`` with the tokens of every experiment without a mistake, or what is wrong with them.

    ``say`` is told what takes long. Raises LauncherError where the packages that training needs are not installed.
    """
    asked = [one for one in found.experiments if one.is_whole and one.pairs is not None]
    if not asked:
        return found
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise LauncherError(f"--tokens needs {', '.join(missing)}: pip install 'dpo-launcher[trainer]'")
    answers = dict(zip(map(id, asked), _answers(asked, root, say), strict=True))
    return replace(
        found, experiments=tuple(_with(one, answers[id(one)]) if id(one) in answers else one for one in found.experiments)
    )


def _answers(asked: Sequence[CheckedData], root: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    from ..data.sheets.spreadsheet import write_copy

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        questions = []
        for number, one in enumerate(asked):
            spreadsheet, copy = one.pairs.spreadsheet if one.pairs is not None else None, None
            if spreadsheet is not None:  # its cells are read once
                copy = folder / f"read-{number}"
                write_copy(copy, spreadsheet.files)
            questions.append(
                {"experiment": one.loaded.experiment.model_dump(mode="json"), "copy": None if copy is None else str(copy)}
            )
        (folder / "asked.json").write_text(json.dumps(questions), encoding="utf-8")
        return _asked(folder, root, say)


def _asked(folder: Path, root: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The trainer's answers to ``asked.json``; raises LauncherError where it ends without them."""
    answers, errors = folder / "answers.json", folder / "errors.txt"
    argv = [sys.executable, "-m", "trainer.check", str(folder / "asked.json"), str(answers)]
    with errors.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            argv, cwd=root, env=_environment(root), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
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
        raise LauncherError(f"the tokens cannot be checked (exit {code}):\n{last}")
    return list(json.loads(answers.read_text(encoding="utf-8")))


def _environment(root: Path) -> dict[str, str]:
    from ..experiment.files import read_env
    from ..runs.cache import cache_root

    caller = read_env(root)
    cache = cache_root(caller).absolute()
    own = {"DPO_CACHE_ROOT": str(cache), "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {"HF_HOME": str(cache / "huggingface"), **caller, **own}


def _with(one: CheckedData, answer: Mapping[str, Any]) -> CheckedData:
    from ..data.checked import CheckedTokens

    error = answer.get("error")
    if error is None:
        said = tuple(Warned(notice["text"]) if notice["is_warning"] else notice["text"] for notice in answer["notices"])
        return replace(one, tokens=CheckedTokens(answer["pairs"], answer["tokens"], answer["longest"], answer["cut"], said))
    try:
        with one.loaded.placed():
            raise _error(error["code"], error["text"], [Mistake(**mistake) for mistake in error["mistakes"]])
    except LauncherError as placed:
        return replace(one, error=placed)


def _error(code: int, text: str, mistakes: Sequence[Mistake]) -> LauncherError:
    if mistakes:
        return DataError(mistakes) if code == DataError.exit_code else ExperimentError(mistakes)
    others = {kind.exit_code: kind for kind in (CredentialError, UnreachableError)}
    return others.get(code, LauncherError)(text)
