"""Tool: starts processes of ``trainer/after/`` on trained weights, on this machine or in a container of the run's image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.session import ProcessSession, Session, Work
from ..errors import ExperimentError, LauncherError
from ..experiment.files import read_env
from ..experiment.schema import Experiment, Launch
from ..job.exchange import decoded, encoded
from ..job.target import Target
from ..launch.ask_trainer import check_installed, environment, error_of
from ..packages import missing_packages, needs

if TYPE_CHECKING:
    from ..backends.docker.backend import Docker
    from ..job.job import Job
    from ..planning.weights.held import Held
    from ..planning.weights.use import Use

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tool:
    """Where the processes run. ``docker``: None to run on this machine. ``say``: receives the lines that they print."""

    target: Target
    say: Say
    cwd: Path
    docker: Docker | None
    job: Job | None
    caller: Mapping[str, str] = field(repr=False)

    def ask(
        self, module: str, args: Sequence[str] = (), *, what: str, reads: Sequence[str] = (), writes: Sequence[str] = ()
    ) -> Any:
        """The answer of ``python -m trainer.after.MODULE TARGET ARGS…``. ``what``: begins the error message, such as "cannot
        merge".

        ``reads`` and ``writes``: as in ``Work``. Raises the error that the process reports, LauncherError if it ends without an
        answer.
        """
        with self.open(module, args, reads=reads, writes=writes) as session:
            for event in events(session, self.say, what):
                if "answer" in event:
                    return event["answer"]
        raise AssertionError("events end with an answer or an error")

    def open(self, module: str, args: Sequence[str] = (), *, reads: Sequence[str] = (), writes: Sequence[str] = ()) -> Session:
        """A process that takes requests; ``events`` reads its lines. Raises LauncherError if it cannot be started."""
        work = self.work(module, args, reads, writes)
        if self.docker is None:
            session: Session = ProcessSession(work, self.cwd, environment(self.cwd))
        else:
            assert self.job is not None, "a container has a job's resources"
            spec = self.docker.render_work(self.job, work)
            self.docker.prepare(spec, self.say)
            session = self.docker.open(spec)
        session.send(encoded({"hello": True}))
        return session

    def work(self, module: str, args: Sequence[str], reads: Sequence[str] = (), writes: Sequence[str] = ()) -> Work:
        has_base = self.target.base != str(self.target.folder)
        return Work(f"trainer.after.{module}", self.target.folder, tuple(args), tuple(reads), tuple(writes), has_base)


def tool(target: Target, backend: str | None, verb: str, say: Say) -> Tool:
    """Where the processes for ``target`` run. ``backend``: host, docker, or None to use the run's own backend if possible.

    Raises LauncherError if this machine has neither the trainer's packages nor a container engine.
    """
    cwd = Path.cwd()
    caller = read_env(cwd)
    if _choose(target, backend, caller, verb) == "host":
        return Tool(target, say, cwd, None, None, caller)
    from ..backends.docker.backend import Docker

    return Tool(target, say, cwd, Docker(cwd, caller), job_of(target, verb, caller), caller)


def held(place: Tool) -> Held | None:
    """The weights in memory, on the machine or in the container of ``place``; None if the model's sizes are not on this disk."""
    from ..planning.weights.held_here import held_here

    limit = place.target.settings.launch.memory if place.docker is not None else None
    try:
        return held_here(place.target, place.caller, limit=limit)[0]
    except ExperimentError:
        return None


def tell(planned: Use, say: Say) -> None:
    """Prints memory and time before anything is loaded."""
    for label, fact in planned.facts.items():
        say(f"{label}: {fact}")


def events(session: Session, say: Say, what: str) -> Iterator[dict[str, Any]]:
    """The messages of a process, up to {"answer": …}. ``say``: receives its other lines.

    Raises the error that the process reports; LauncherError with its last error output if it ends without an answer.
    """
    for line in session.lines():
        event = decoded(line)
        if event is None:
            say(line)
        elif "line" in event:
            say(event["line"])
        elif "error" in event:
            raise error_of(event["error"])
        else:
            yield event
            if "answer" in event:
                return
    code, last = session.wait()
    if "No module named trainer.after" in last:
        raise LauncherError(f"{what}: the image is older than this launcher and cannot do it; build a new one from this version")
    why = ": killed, probably because memory ran out" if code in (137, -9) else f" (exit {code})"
    raise LauncherError(f"{what}{why}" + (f":\n{last}" if last else ""))


def job_of(target: Target, verb: str, caller: Mapping[str, str], gpus: int | None = None) -> Job:
    """A job for one process on this machine: the run's image, limits and settings, without its data and secrets.

    It gets one GPU if this machine has any. ``gpus``: another number, whatever this machine has.
    """
    from ..backends.host import gpus_there
    from ..job.job import plan
    from ..runs.names import new_run_name

    there = gpus_there(caller) if gpus is None else gpus
    alone = _alone(target.settings, min(1, there), caller)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", target.name)  # a folder's name may contain letters that a container's may not
    job = plan(alone, run=new_run_name(f"{verb}-{name}"[:70]), key=verb, gpus_there=there)
    return job if gpus is None else replace(job, topology=replace(job.topology, gpus=gpus))


def _alone(experiment: Experiment, gpus: int, caller: Mapping[str, str]) -> Experiment:
    launch = experiment.launch
    env = launch.env
    if not isinstance(env, Mapping):
        env = tuple(name for name in env if name in caller)
    else:
        env = {name: value for name, value in env.items() if value is not None or name in caller}
    given = {"gpus": gpus, "nodes": 1, "processes": None, "parallelism": "ddp", "secrets": (), "env": env}
    needs_bucket = experiment.model_name.startswith("s3://")
    return experiment.model_copy(
        update={
            "launch": Launch.model_construct(**{**vars(launch), **given}),
            "datasets_path": None,
            "spreadsheet_id": None,
            "notify": None,
            "storage_config": experiment.storage_config if needs_bucket else None,
        }
    )


def _choose(target: Target, wanted: str | None, caller: Mapping[str, str], verb: str) -> str:
    from ..backends.docker.engine import answers

    if wanted == "host":
        check_installed(verb)
    if wanted is not None:
        return wanted
    ran = None if target.run is None else target.run.read_record().get("backend")
    missing = missing_packages()
    if ran != "docker" and not missing:
        return "host"
    why = answers(caller)
    if why is None:
        return "docker"
    if not missing:
        return "host"
    raise LauncherError(f"{needs(verb, missing)}\n    in a container: --backend docker, which needs a Docker engine ({why})")
