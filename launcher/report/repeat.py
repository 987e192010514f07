"""How to repeat a run: its experiment as a file, the command, the revision of the code, hashes, image and versions. Pure."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

import yaml

from ..errors import LauncherError
from ..experiment.schema import Experiment
from .reported import Reported


def again(run: Reported) -> str | None:
    """The command that repeats the run from its record; None for one that no experiment file has started."""
    return f"launcher again {shlex.quote(run.name)}" if run.record.get("backend") != "python" else None


def commands(run: Reported) -> list[str]:
    """The commands to run in a checkout, after saving ``experiment`` as the file that the last line names."""
    code = run.record.get("code") or {}
    found = [f"git checkout {code['revision']}"] if code.get("revision") else []
    key, backend = str(run.record.get("key") or "experiment"), run.record.get("backend")
    verb = "submit" if backend == "kubernetes" else "run"
    where = f" --backend {backend}" if backend in ("host", "docker") else ""
    data = f" --data-of {shlex.quote(run.name)}" if run.record.get("spreadsheet") else ""
    return [*found, f"launcher {verb} {shlex.quote(key)} -f {shlex.quote(file_name(run))}{where}{data}"]


def file_name(run: Reported) -> str:
    return f"{run.name}.yml"


def experiment(run: Reported) -> str:
    """The whole experiment as YAML without defaults; with every value if it has settings that this version does not know."""
    key, settings = given(run)
    return yaml.safe_dump({key: settings}, sort_keys=False, allow_unicode=True, width=120)


def given(run: Reported) -> tuple[str, dict[str, Any]]:
    """The run's key, and the settings of ``experiment``, with TRL's own fields under ``hyperparameters``."""
    found: dict[str, Any] = dict(run.experiment)
    with suppress(LauncherError, ValueError):
        found = Experiment.parse(found).model_dump(mode="json", exclude_defaults=True)
    hyperparameters = dict(found.get("hyperparameters") or {})
    hyperparameters |= hyperparameters.pop("trl", None) or {}
    told = {**found, **({"hyperparameters": hyperparameters} if hyperparameters else {})}
    return str(run.record.get("key") or "experiment"), told


def surroundings(run: Reported) -> dict[str, str]:
    """Code, image, versions and machine, each as one line."""
    code, hardware = run.record.get("code") or {}, run.record.get("hardware") or {}
    container = run.record.get("container") or {}
    revision = code.get("revision") or code.get("version")
    packages = ", ".join(f"{name} {version}" for name, version in (run.record.get("packages") or {}).items())
    gpus = hardware.get("gpus") or []
    ranks = hardware.get("ranks") or 1
    found = {
        "code": revision and revision + (", with changes that no commit has" if code.get("dirty") else ""),
        "image": " ".join(filter(None, (run.record.get("image"), container.get("image")))),
        "packages": packages,
        "machine": hardware.get("machine") and f"{hardware['machine']}, {hardware.get('cores')} cores",
        "devices": f"{ranks} × {gpus[0]}" if gpus else f"CPU, {ranks} process{'es' * (ranks != 1)}" if hardware else None,
        "path": (run.record.get("dpo_path") or {}).get("sentence"),
    }
    return {name: str(value) for name, value in found.items() if value}
