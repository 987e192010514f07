"""The packages of ``dpo-launcher[trainer]``: which are missing here, and the commands that add them to this installation."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

TRAINING: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tensorboard")
_CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
_FROM_UV: Final = "--torch-backend cpu"


def missing_packages(names: Iterable[str] = TRAINING) -> list[str]:
    """Those of ``names`` that this Python cannot import."""
    return [name for name in names if find_spec(name) is None]


@dataclass(frozen=True)
class Install:
    """The commands that add the packages for training: ``cpu`` with torch's CPU build, ``cuda`` for NVIDIA GPUs."""

    cpu: str
    cuda: str

    def __str__(self) -> str:
        """Both as the lines of a hint."""
        return f"    without a GPU:  {self.cpu}\n    with a GPU:     {self.cuda}"


def needs(what: str, missing: Iterable[str]) -> str:
    """The text of an error: ``what`` needs the packages ``missing``; with the commands of this installation."""
    return f"{what} needs {', '.join(missing)}, which dpo-launcher[trainer] installs\n{installation()}"


def installation(prefix: Path | None = None, package: Path | None = None) -> Install:
    """The commands for the environment ``prefix`` (this one) with the launcher in the folder ``package`` (this one).

    An environment of ``uv tool``, ``uvx`` or pipx is changed by its own tool; in a checkout the checkout is installed.
    """
    prefix, package = prefix or Path(sys.prefix), package or Path(__file__).parent
    root = package.parent
    if (root / "pyproject.toml").is_file():
        where = "." if Path.cwd() == root else str(root)
        return _by_pip(prefix, f"-e {shlex.quote(where + '[trainer]')}", f"-e {shlex.quote(where + '[trainer,cuda]')}")
    cpu, cuda = "'dpo-launcher[trainer]'", "'dpo-launcher[trainer,cuda]'"
    if (prefix / "uv-receipt.toml").is_file():
        return Install(f"uv tool install {_FROM_UV} {cpu}", f"uv tool install {cuda}")
    if "archive-v0" in prefix.parts:  # the cache in which `uvx` makes its environments
        return Install(f"uvx {_FROM_UV} --from {cpu} launcher {_arguments()}", f"uvx --from {cuda} launcher {_arguments()}")
    if (prefix / "pipx_metadata.json").is_file():
        return Install(f"pipx install --force --pip-args='--extra-index-url {_CPU_INDEX}' {cpu}", f"pipx install --force {cuda}")
    return _by_pip(prefix, cpu, cuda)


def _by_pip(prefix: Path, cpu: str, cuda: str) -> Install:
    if not (prefix / "bin" / "pip").exists() and _is_of_uv(prefix):
        python = f"--python {shlex.quote(str(prefix))}"
        return Install(f"uv pip install {python} {_FROM_UV} {cpu}", f"uv pip install {python} {cuda}")
    is_first = shutil.which("pip") == str(prefix / "bin" / "pip")
    pip = "pip" if is_first else f"{shlex.quote(sys.executable)} -m pip"
    return Install(f"{pip} install {cpu} --extra-index-url {_CPU_INDEX}", f"{pip} install {cuda}")


def _is_of_uv(prefix: Path) -> bool:
    try:
        return any(line.startswith("uv = ") for line in (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines())
    except OSError:
        return False


def _arguments() -> str:
    """What was typed after ``launcher``."""
    return shlex.join(sys.argv[1:])
