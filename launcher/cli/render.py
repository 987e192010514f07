"""The verbs that show what would be started, and the one way from a name to a job that all verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..redact import REDACTOR
from .options import backend_option, experiment_argument, file_option, name_option, set_option

if TYPE_CHECKING:
    from ..config import Loaded
    from ..job import Job
    from .backends import AnyBackend


@click.command("render")
@experiment_argument()
@backend_option
@set_option
@name_option
@file_option
def render(experiment: str, backend: str | None, overrides: tuple[str, ...], run_name: str | None, file: Path | None) -> None:
    """Print what `launcher run EXP` would start."""
    where, job, loaded, _ = rendered(experiment, backend, overrides, run_name, file)
    with loaded.placed():
        spec: Any = where.render(job)
    click.echo(where.text(spec), nl=False)


def rendered(
    name: str, backend: str | None, overrides: tuple[str, ...], run_name: str | None, file: Path | None
) -> tuple[AnyBackend, Job, Loaded, str | None]:
    """The backend, the job and its experiment, and why the backend is the host where nobody said so."""
    from ..backends.host import gpus_there
    from ..config import load, read_env
    from ..job import plan
    from ..run_dir import check_run_name, new_run_name
    from ..topology import Node
    from .backends import choose_backend
    from .parallelism import choose_parallelism

    caller = read_env(Path.cwd())
    loaded = load(name, root=Path(), file=file, overrides=overrides)
    called = new_run_name(loaded.key) if run_name is None else check_run_name(run_name)
    if run_name is None and loaded.experiment.launch.nodes > 1:
        raise UsageError(f"a run over {loaded.experiment.launch.nodes} nodes is started on each of them with one --name")
    where, why = choose_backend(backend, Path.cwd(), caller, loaded.experiment.launch.image)
    with loaded.placed():
        e, there = loaded.experiment, gpus_there(caller)
        REDACTOR.learn(caller, e.launch.secrets)
        shared, node = choose_parallelism(e, Path.cwd(), there, caller), Node.of(caller, e.launch.nodes)
        job = plan(e, run=called, key=loaded.key, gpus_there=there, parallelism=shared, node=node, origin=str(loaded.file))
        return where, job, loaded, why


VERBS: tuple[click.Command, ...] = (render,)
