"""The host backend: a run is a process of this machine, in a session of its own, that outlives the launcher."""

from __future__ import annotations

import codecs
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ..errors import CredentialError, ExperimentError, LauncherError, Mistake
from ..job import Job
from ..processes import MARK, Process, kill, members
from ..run_dir import RunDir
from . import Status

GRACE: Final = 120  # seconds between the request to stop and the end by force
_TICK: Final = 0.1  # seconds between two looks at a log
_NO_EFFECT: Final = ("image", "memory", "shm_size", "max_restarts", "kubernetes")


@dataclass(frozen=True)
class HostSpec:
    """A process to start, the files it reads, and what its run's record says from the first moment."""

    run_dir: RunDir
    comments: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    cwd: Path
    files: Mapping[Path, str]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Host:
    """This machine, as far as rendering needs to know it; ``Host.here`` looks."""

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
        run = RunDir.of(self.cwd, h.model_output_dir, job.experiment.experiment_id, job.experiment.model_folder, job.run)
        experiment = job.experiment.model_dump_json(indent=2) + "\n"
        return HostSpec(
            run_dir=run,
            comments=(f"{job.run}: experiment {job.key} on {job.devices} of this machine", f"a step: {job.batch}", *notices(job)),
            argv=(self.python, *job.command[1:], str(run.path)),
            env=MappingProxyType(self._environment(job, run)),
            secrets=job.secrets,
            cwd=self.cwd,
            files=MappingProxyType({run.experiment: experiment}),
            record=MappingProxyType(
                {
                    "run": job.run,
                    "key": job.key,
                    "experiment_id": job.experiment.experiment_id,
                    "topic": job.experiment.topic,
                    "model_name": job.experiment.model_name,
                    "backend": "host",
                    "folder": str(run.path),
                    "origin": job.origin,
                    "experiment": job.experiment.model_dump(mode="json"),
                }
            ),
        )

    def text(self, spec: HostSpec) -> str:
        """A shell script that does what ``submit`` does, but for the record of who started it."""
        lines = [f"# {comment}" for comment in spec.comments]
        if spec.secrets:
            lines.append(f"# taken from your environment, unseen: {', '.join(spec.secrets)}")
        for path, content in spec.files.items():
            quoted = shlex.quote(str(path))
            lines += ["", f"mkdir -p {shlex.quote(str(path.parent))}", f"cat > {quoted} <<'END'", content + "END"]
        lines += ["", f"cd {shlex.quote(str(spec.cwd))}", "env \\"]
        lines += [f"  {name}={shlex.quote(value)} \\" for name, value in sorted(spec.env.items())]
        return "\n".join([*lines, f"  {shlex.join(spec.argv)}"]) + "\n"

    def submit(self, spec: HostSpec) -> RunDir:
        """Starts the run and returns when its entry has said who it is.

        Raises UsageError if the run exists, CredentialError if a secret is missing, LauncherError if the entry does not start.
        """
        missing = [name for name in spec.secrets if not self.caller.get(name)]
        if missing:
            raise CredentialError(f"launch.secrets: {', '.join(missing)} is neither in your environment nor in .env")
        run, starter = spec.run_dir, Process.of(os.getpid())
        assert starter is not None, "this process lives"
        record = {
            **spec.record,
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "code": code_revision(),
            "process": starter.record(),  # until the entry takes over: a start that is cut off is seen as lost
            "attempts": [],
            "outcome": {"state": "starting"},
        }
        run.create(spec.files[run.experiment], record)
        try:
            self._start(spec)
        except BaseException as error:
            kill(str(run.path))
            sentence = "the start was interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            run.update_record(process=None, outcome=_outcome("failed", 1, sentence))
            raise
        return run

    def follow(self, run: RunDir, rank: int = 0) -> Iterator[str]:
        """The rank's log from its first byte, in pieces, until the run is over; an empty piece every tenth of a second or so."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in _grown(run, rank):
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)

    def status(self, run: RunDir) -> Status:
        return status(run)

    def stop(self, run: RunDir, *, now: bool = False) -> Status:
        return _abort(run) if now else _ask(run)

    def _environment(self, job: Job, run: RunDir) -> dict[str, str]:
        missing = [name for name in job.env_names if name not in self.caller]
        if missing:
            raise ExperimentError(
                [Mistake("launch.env", f"{name} is not set", "a variable of your environment or .env", name) for name in missing]
            )
        cache = _cache_root(self.caller)
        cores = min(self.cores, job.resources.cpus or self.cores)
        env = {
            MARK: str(run.path),
            "DPO_RUN": job.run,
            "DPO_RUN_ROOT": str(self.cwd),
            "DPO_DATA_ROOT": str(self.cwd),
            "DPO_CACHE_ROOT": str(cache),
            "DPO_NPROC": str(job.nproc),
            "DPO_GRACE": str(GRACE),
            "HF_HOME": self.caller.get("HF_HOME") or str(cache / "huggingface"),
            "OMP_NUM_THREADS": str(max(1, int(cores) // job.nproc)),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if job.gpus == 0:
            env |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
        return env | dict(job.env) | {name: self.caller[name] for name in job.env_names}

    def _start(self, spec: HostSpec) -> None:
        with spec.run_dir.entry_log.open("ab") as log:
            try:
                entry = subprocess.Popen(
                    spec.argv,
                    cwd=spec.cwd,
                    env={**self.caller, **spec.env},
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


def status(run: RunDir) -> Status:
    """How a run is: what its record says, believed only as far as its process bears it out."""
    said, process = _said(run)
    if process is not None and not process.is_here:
        return said if said.is_over else Status("unknown", None, f"{said.state} on {process.host} when last heard of")
    if process is not None and process.alive:
        return Status("running") if said.is_over else said  # its entry has said its last word, and is about to go
    if not said.is_over:
        said, _ = _said(run)  # it may have ended between the two looks
    if said.state in ("starting", "running"):
        return Status("lost", 137, "its process is gone without a word: killed, or the machine went down")
    return said


def _said(run: RunDir) -> tuple[Status, Process | None]:
    """What the record says, unchecked."""
    record = run.read_record()
    outcome = record.get("outcome") or {}
    said = Status(outcome.get("state", "unknown"), outcome.get("exit_code"), outcome.get("sentence"))
    return said, Process.parse(record.get("process"))


def notices(job: Job) -> list[str]:
    """Settings of ``launch`` that were written and have no effect on this backend, each in a sentence."""
    given = job.experiment.launch.model_fields_set
    return [f"launch.{name} has no effect on the host backend" for name in _NO_EFFECT if name in given]


def gpus_there(caller: Mapping[str, str]) -> int:
    """The GPUs of this machine that the caller may see, counted without torch."""
    visible = caller.get("CUDA_VISIBLE_DEVICES")
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False).stdout
        count = sum(line.startswith("GPU ") for line in listed.splitlines())
    except (OSError, subprocess.TimeoutExpired):
        folder = Path("/proc/driver/nvidia/gpus")
        count = len(list(folder.iterdir())) if folder.is_dir() else 0
    if visible is None:
        return count
    # CUDA reads the list up to the first entry that is no device.
    names = [name.strip() for name in visible.split(",")]
    until = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
    return min(count, until)


def _cache_root(caller: Mapping[str, str]) -> Path:
    """Where models and token ids are kept; raises LauncherError where the caller neither says so nor has a home directory."""
    if caller.get("DPO_CACHE_ROOT"):
        return Path(caller["DPO_CACHE_ROOT"])
    if caller.get("XDG_CACHE_HOME"):
        return Path(caller["XDG_CACHE_HOME"], "dpo-launcher")
    try:
        home = Path(caller.get("HOME") or Path.home())
    except RuntimeError:  # a container may run as a user whom no passwd file knows
        raise LauncherError("this user has no home directory for the cache: set DPO_CACHE_ROOT or HOME") from None
    return home / ".cache" / "dpo-launcher"


def code_revision() -> dict[str, Any]:
    """The git revision of the checkout that this code is, and whether it was changed; else the distribution's version."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    if (root / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            run = {"capture_output": True, "text": True, "timeout": 20, "check": True}
            revision = subprocess.run([*git, "rev-parse", "HEAD"], **run).stdout.strip()  # type: ignore[call-overload]
            changes = subprocess.run([*git, "status", "--porcelain"], **run).stdout  # type: ignore[call-overload]
            return {"revision": revision, "dirty": bool(changes.strip())}
    from importlib.metadata import version

    return {"version": version("dpo-launcher")}


def tail(path: Path, lines: int) -> str:
    """The last lines of a log, empty if there is none."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _ask(run: RunDir) -> Status:
    """Asks the entry to stop; its process is checked first, so no stranger with its pid is hit."""
    process = Process.parse(run.read_record().get("process"))
    now = status(run)
    if process is not None and not now.is_over:
        process.send(signal.SIGTERM)
    return now


def _abort(run: RunDir) -> Status:
    """Kills every process of a run, and says so in its record."""
    before = status(run)
    if before.state == "unknown":
        raise LauncherError(f"{run.name}: {before.sentence or 'nothing is known about it'}; stop it there")
    record = run.read_record()
    process, folder = Process.parse(record.get("process")), str(record.get("folder"))
    root = process.pid if process is not None and process.alive and process.pid != os.getpid() else None
    if before.is_over and not members(folder):
        return before
    left = kill(folder, root)
    if left:
        raise LauncherError(f"{run.name}: processes {', '.join(map(str, left))} do not die; the kernel holds them")
    after = status(run)
    if after.state not in ("starting", "running", "lost"):
        return after
    outcome = _outcome("aborted", 130, "killed at once on request")
    attempts = [{**a, "ended": a.get("ended") or outcome["ended"]} for a in run.read_record().get("attempts", [])]
    run.update_record(attempts=attempts, outcome=outcome)
    return status(run)


def _grown(run: RunDir, rank: int) -> Iterator[bytes]:
    """What a rank's log gains until its run is over; empty while it gains nothing."""
    path, read = run.rank_log(rank), 0
    while True:
        is_over = status(run).is_over  # before the look at the log, so that the last look sees all of it
        if path.is_file():
            with path.open("rb") as file:
                file.seek(read)
                while chunk := file.read(1 << 16):
                    read += len(chunk)
                    yield chunk
        if is_over:
            return
        yield b""
        time.sleep(_TICK)


def _outcome(state: str, exit_code: int, sentence: str) -> dict[str, Any]:
    return {"state": state, "exit_code": exit_code, "sentence": sentence, "ended": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
