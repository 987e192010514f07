"""The packages of the launcher's extras: which are missing here, and the commands that add them to this installation."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

TRAINING: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tensorboard")
EXTRAS: Final = {
    "trainer": TRAINING,
    "cuda": ("bitsandbytes",),
    "trackers": ("mlflow", "trackio", "wandb"),
}  # what shows that one is there
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
    where = Path(prefix or sys.prefix), package or Path(__file__).parent
    return Install(_command(["trainer"], [], *where, on_cpu=True), _command(["trainer", "cuda"], [], *where, on_cpu=False))


def adding(*names: str, prefix: Path | None = None, package: Path | None = None) -> str:
    """The command that adds ``names`` to this environment: extras of the launcher, and packages that are in none.

    uv and pipx make a tool's environment anew: the extras that are there are named, too.
    """
    prefix, package = Path(prefix or sys.prefix), package or Path(__file__).parent
    others = [name for name in names if name not in EXTRAS]
    kept = _is_of_a_tool(prefix) and not (others and _is_of_pipx(prefix))
    extras = [name for name in EXTRAS if name in names or (kept and not missing_packages(EXTRAS[name]))]
    return _command(extras, others, prefix, package, on_cpu=kept and "trainer" in extras and _has_torch_of_the_cpu())


def _command(extras: Sequence[str], others: Sequence[str], prefix: Path, package: Path, *, on_cpu: bool) -> str:
    root, listed = package.parent, f"[{','.join(extras)}]" if extras else ""
    if (root / "pyproject.toml").is_file():
        where = "." if Path.cwd() == root else str(root)
        return _by_pip(prefix, [*([f"-e {shlex.quote(where + listed)}"] if extras else ()), *others], on_cpu=on_cpu)
    ours, cpu = shlex.quote(f"dpo-launcher{listed}"), f"{_FROM_UV} " if on_cpu else ""
    beside = [f"--with {one}" for one in others]
    if _is_of_uv_tool(prefix):
        return " ".join([f"uv tool install {cpu}{ours}", *beside])
    if _is_of_uvx(prefix):
        return " ".join([f"uvx {cpu}--from {ours}", *beside, "launcher", _arguments()])
    if _is_of_pipx(prefix):
        index = f"--pip-args='--extra-index-url {_CPU_INDEX}' " if on_cpu else ""
        return f"pipx inject dpo-launcher {' '.join(others)}" if others else f"pipx install --force {index}{ours}"
    return _by_pip(prefix, [*([ours] if extras else ()), *others], on_cpu=on_cpu)


def _is_of_a_tool(prefix: Path) -> bool:
    return _is_of_uv_tool(prefix) or _is_of_uvx(prefix) or _is_of_pipx(prefix)


def _is_of_uv_tool(prefix: Path) -> bool:
    return (prefix / "uv-receipt.toml").is_file()


def _is_of_uvx(prefix: Path) -> bool:
    return "archive-v0" in prefix.parts  # the cache in which `uvx` makes its environments


def _is_of_pipx(prefix: Path) -> bool:
    return (prefix / "pipx_metadata.json").is_file()


def _has_torch_of_the_cpu() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _by_pip(prefix: Path, what: Sequence[str], *, on_cpu: bool) -> str:
    wanted = " ".join(what)
    if not (prefix / "bin" / "pip").exists() and _is_of_uv(prefix):
        cpu = f"{_FROM_UV} " if on_cpu else ""
        return f"uv pip install --python {shlex.quote(str(prefix))} {cpu}{wanted}"
    is_first = shutil.which("pip") == str(prefix / "bin" / "pip")
    pip = "pip" if is_first else f"{shlex.quote(sys.executable)} -m pip"
    return f"{pip} install {wanted}" + (f" --extra-index-url {_CPU_INDEX}" if on_cpu else "")


def _is_of_uv(prefix: Path) -> bool:
    try:
        return any(line.startswith("uv = ") for line in (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines())
    except OSError:
        return False


def _arguments() -> str:
    """What was typed after ``launcher``; a training process does not know it."""
    return "…" if Path(sys.argv[0]).parent.name == "trainer" else shlex.join(sys.argv[1:])
