"""The host backend: a run is a process on this machine, in its own session, which outlives the launcher."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ..errors import LauncherError
from ..experiment.explain.effects import idle_given
from ..experiment.variables import not_needed
from ..job.job import Job
from ..packages import missing_packages, needs
from ..runs.cache import cache_root
from ..runs.processes import Process, kill, members
from ..runs.run_dir import RunDir
from . import Status
from .reading import InFolders, read_log, tail
from .spec.environment import check_secrets, chosen, environment, facts, files, script
from .spec.record import end_attempts, first_record, outcome, started
from .spec.trust import bundle_of, trusting


@dataclass(frozen=True)
class HostSpec:
    """A process to start, the files it reads, and what its run's record says from the first moment.

    ``left_out``: secrets of the caller's environment that the process does not get.
    """

    run_dir: RunDir
    comments: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    left_out: tuple[str, ...]
    cwd: Path
    files: Mapping[Path, str]
    record: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        return {
            "folder": str(self.run_dir.path),
            "command": list(self.argv),
            "environment": dict(self.env),
            "secrets": list(self.secrets),
            "left_out": list(self.left_out),
            "working_directory": str(self.cwd),
            "files": {str(path): text for path, text in self.files.items()},
        }


@dataclass(frozen=True)
class Host(InFolders):
    """What rendering needs to know of this machine; ``Host.here`` looks it up."""

    name: ClassVar[str] = "host"

    cwd: Path
    python: str
    cores: int
    caller: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def here(cls, cwd: Path, caller: Mapping[str, str]) -> Host:
        """``caller`` is the environment that a run inherits (``.env`` included)."""
        return cls(cwd, sys.executable, len(os.sched_getaffinity(0)), MappingProxyType(dict(caller)))

    def render(self, job: Job) -> HostSpec:
        """The process of ``job``; raises ExperimentError if a name under launch.env is not in the caller's environment."""
        h = job.experiment.hyperparameters
        run = RunDir.of(
            self.cwd, h.model_output_dir, job.experiment.experiment_id, job.experiment.model_folder, job.run, job.node.rank
        )
        return HostSpec(
            run_dir=run,
            comments=(f"{job.run}: experiment {job.key} on this machine: {job.devices}", *facts(job), *notices(job)),
            argv=(self.python, *job.command[1:], str(run.path)),
            env=MappingProxyType(self._environment(job, run)),
            secrets=job.secrets,
            left_out=tuple(not_needed(job.experiment, self.caller, (*job.secrets, *job.env_names))),
            cwd=self.cwd,
            files=MappingProxyType(files(job, run)),
            record=MappingProxyType(first_record(job, run, self.name)),
        )

    def text(self, spec: HostSpec, *, full: bool = True) -> str:
        """A shell script that does what ``submit`` does, without the record of who started it; ``full``: with its files."""
        comments = [*spec.comments]
        if spec.secrets:
            comments.append(f"needs {', '.join(spec.secrets)} in your environment (values are never shown)")
        env = [f"  {name}={shlex.quote(value)} \\" for name, value in sorted(spec.env.items())]
        unset = [f"  --unset={shlex.quote(name)} \\" for name in spec.left_out]
        command = [f"cd {shlex.quote(str(spec.cwd))}", "env \\", *unset, *env, f"  {shlex.join(spec.argv)}"]
        return script(comments, spec.files, command, full=full)

    def notices(self, job: Job) -> list[str]:
        return notices(job)

    def prepare(self, spec: HostSpec, say: Callable[[str], None]) -> None:
        """Raises LauncherError if the packages that training needs are not installed."""
        require_packages()

    def submit(self, spec: HostSpec, *, again: bool = False) -> RunDir:
        """Starts the run and returns when its entry has noted its process in the record.

        Raises UsageError if the run exists, CredentialError if a secret is missing, LauncherError if the entry does not start.
        """
        check_secrets(spec.secrets, self.caller, spec.record)
        run, starter = spec.run_dir, Process.of(os.getpid())
        assert starter is not None, "this process is alive"
        # Until the entry takes over the process is the starter: an interrupted start counts as lost.
        record = {**spec.record, **started(self.caller), "process": starter.record()}
        if again:
            run.reopen(record)
        else:
            run.create(spec.files, record)
        try:
            self._start(spec)
        except BaseException as error:
            kill(str(run.path))
            sentence = "the start was interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            run.update_record(process=None, outcome=outcome("failed", 1, sentence))
            raise
        return run

    def follow(self, run: RunDir, rank: int | None = 0, begin: int = 0) -> Iterator[str]:
        return read_log(run, rank, lambda: status(run).is_over, begin)

    def status(self, run: RunDir) -> Status:
        return status(run)

    def stop(self, run: RunDir, *, now: bool = False) -> Status:
        return _abort(run) if now else _ask(run)

    def _environment(self, job: Job, run: RunDir) -> dict[str, str]:
        roots = {"RUN": str(self.cwd), "DATA": str(self.cwd), "CACHE": str(cache_root(self.caller))}
        env = environment(job, self.caller, roots, str(run.path), self.cores)
        bundle = bundle_of(job.experiment, self.cwd)
        env |= {} if bundle is None else trusting(str(bundle))
        return env | ({"HF_HOME": self.caller["HF_HOME"]} if self.caller.get("HF_HOME") else {}) | chosen(job, self.caller)

    def _start(self, spec: HostSpec) -> None:
        with spec.run_dir.entry_log.open("ab") as log:
            try:
                entry = subprocess.Popen(
                    spec.argv,
                    cwd=spec.cwd,
                    env={**{name: value for name, value in self.caller.items() if name not in spec.left_out}, **spec.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise LauncherError(f"the run did not start: {error}") from error
        while True:
            has_ended = entry.poll() is not None
            if (spec.run_dir.read_record().get("process") or {}).get("pid") == entry.pid:
                return
            if has_ended:
                raise LauncherError(f"the run did not start (exit {entry.returncode}):\n{tail(spec.run_dir.entry_log, 15)}")
            time.sleep(0.01)


def require_packages() -> None:
    """Raises LauncherError if the packages that training needs are not installed, with the commands that install them."""
    missing = missing_packages()
    if missing:
        raise LauncherError(needs("training on this machine", missing))


def status(run: RunDir) -> Status:
    """The run's status: its record, checked against its process."""
    said, process = _said(run)
    if process is not None and not process.is_here:
        return said if said.is_over else Status("unknown", None, f"{said.state} on {process.host} when last seen")
    if process is not None and process.alive:
        return Status("running") if said.is_over else said  # its entry has written the outcome and is about to exit
    if not said.is_over:
        said, _ = _said(run)  # it may have ended between the two looks
    if said.state in ("starting", "running"):
        gone = "killed, or the machine went down"
        if os.statvfs(run.path).f_flag & os.ST_RDONLY:  # then it had no place to record its end
            gone = f"{run.path} is on a file system that is read-only now"
        return Status("lost", 137, f"its process disappeared without an exit code: {gone}")
    return said


def _said(run: RunDir) -> tuple[Status, Process | None]:
    """The record, unchecked."""
    record = run.read_record()
    outcome = record.get("outcome") or {}
    said = Status(outcome.get("state", "unknown"), outcome.get("exit_code"), outcome.get("sentence"))
    return said, Process.parse(record.get("process"))


def notices(job: Job) -> list[str]:
    """Settings of ``launch`` without effect on this backend, each as a sentence."""
    return [f"launch.{name} has no effect on the host backend" for name in idle_given(job.experiment.launch, "host")]


def gpus_there(caller: Mapping[str, str]) -> int:
    """The number of GPUs of this machine that are visible to the caller, counted without torch."""
    visible = caller.get("CUDA_VISIBLE_DEVICES")
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False).stdout
        count = sum(line.startswith("GPU ") for line in listed.splitlines())
    except (OSError, subprocess.TimeoutExpired):
        folder = Path("/proc/driver/nvidia/gpus")
        count = len(list(folder.iterdir())) if folder.is_dir() else 0
    if visible is None:
        return count
    # CUDA reads the list up to the first entry that is not a device.
    names = [name.strip() for name in visible.split(",")]
    until = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
    return min(count, until)


def _ask(run: RunDir) -> Status:
    """Asks the entry to stop, after checking that the process is the entry and not another one with its pid."""
    process = Process.parse(run.read_record().get("process"))
    now = status(run)
    if process is not None and not now.is_over:
        process.send(signal.SIGTERM)
    return now


def _abort(run: RunDir) -> Status:
    """Kills every process of a run and notes that in its record."""
    before = status(run)
    if before.state == "unknown":
        raise LauncherError(f"{run.name}: {before.sentence or 'state unknown'}; stop it there")
    record = run.read_record()
    process, folder = Process.parse(record.get("process")), str(record.get("folder"))
    root = process.pid if process is not None and process.alive and process.pid != os.getpid() else None
    if before.is_over and not members(folder):
        return before
    left = kill(folder, root)
    if left:
        raise LauncherError(f"{run.name}: processes {', '.join(map(str, left))} cannot be killed; the kernel holds them")
    after = status(run)
    if after.state not in ("starting", "running", "lost"):
        return after
    aborted = outcome("aborted", 130, "killed on request")
    run.update_record(attempts=end_attempts(run, aborted["ended"]), outcome=aborted)
    return status(run)
