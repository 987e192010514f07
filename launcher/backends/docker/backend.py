"""The Docker backend: a run is a container that outlives the launcher and is removed when its logs are in the run's folder."""

from __future__ import annotations

import getpass
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

from ...errors import LauncherError, labelled
from ...job.image import Image, image_for
from ...job.job import Job
from ...redact import REDACTOR
from ...runs.run_dir import RunDir
from ...runs.whole import write_whole
from .. import Status
from ..reading import InFolders, read_log
from ..session import Session, Work
from ..spec.environment import check_secrets
from ..spec.record import end_attempts, outcome, started
from . import spec as specs
from .attached import Attached
from .build import Say, ensure, find, of_another_version
from .container import Container, Person, Place, arguments, render_work
from .engine import address, check_near, connect, explained, is_rootless, translated
from .prepared import make_folders, secret_folder, secret_root, write_secrets
from .session import ContainerSession
from .spec import DockerSpec

_LOOK: Final = 0.5  # seconds between two requests to the engine
_END: Final = 20  # seconds that `stop --now` waits for the container's end
_START: Final = 120  # seconds after which an unfinished start counts as interrupted


@dataclass(frozen=True)
class Docker(InFolders):
    """An engine on this machine, connected to at the first use. ``caller``: the environment and ``.env``."""

    name: ClassVar[str] = "docker"

    cwd: Path
    caller: Mapping[str, str] = field(repr=False)

    @cached_property
    def client(self) -> Any:
        return connect(self.caller)

    def render(self, job: Job) -> DockerSpec:
        """The container of ``job``; raises ExperimentError or UsageError for unsupported settings. Asks no engine."""
        return specs.render(job, self._place(job, image_for(job.experiment, job.gpus, self.caller)))

    def render_work(self, job: Job, work: Work) -> Container:
        """The container of a process that works with trained weights; raises as ``render``."""
        return render_work(job, self._place(job, image_for(job.experiment, job.gpus, self.caller)), work)

    def _place(self, job: Job, image: Image) -> Place:
        caller, has_profile = self._with_profile(job)
        root = secret_root(self.caller)
        return Place(self.cwd, len(os.sched_getaffinity(0)), self._person(), image, root, caller, has_profile=has_profile)

    def _with_profile(self, job: Job) -> tuple[Mapping[str, str], bool]:
        from ...storage.client.profile import with_profile  # this module is loaded for runs on the host, too

        return with_profile(job.experiment, self.caller)

    def text(self, spec: DockerSpec, *, full: bool = True) -> str:
        return specs.text(spec, full=full)

    def notices(self, job: Job) -> list[str]:
        return [*specs.notices(job), *specs.lost(job, *self._with_profile(job))]

    def prepare(self, spec: Container, say: Say) -> None:
        """Builds or pulls the image if it is missing; raises LauncherError if that fails or the engine is on another machine."""
        check_near(address(self.caller))
        with translated(f"image {spec.image.reference}"):
            ensure(self.client, spec.image, self.caller, say)
            if (wrong := of_another_version(self.client, spec.image)) is not None:
                say(labelled(wrong))

    def has(self, image: str) -> str | None:
        """The id of an image, given by its id or its name; None if the engine does not have it."""
        with translated(f"image {image}"):
            return find(self.client, image)

    def submit(self, spec: DockerSpec, *, again: bool = False) -> RunDir:
        """Starts the run, whose image exists, and returns when its container runs.

        Raises UsageError if the run exists, CredentialError if a secret is missing, LauncherError with the engine's reason.
        """
        check_secrets(spec.secrets, self.caller, spec.record)
        client, run = self.client, spec.run_dir
        container = {"name": spec.name, "image": client.images.get(spec.image.reference).id, "secrets": str(spec.secret_dir)}
        record = {**spec.record, **started(self.caller), "container": container}
        if again:
            run.reopen(record)
        else:
            run.create(spec.files, record)
        try:
            self._start(spec, container)
        except BaseException as error:
            sentence = "the start was interrupted" if isinstance(error, KeyboardInterrupt) else str(error).splitlines()[0]
            self._discard(spec.name)
            shutil.rmtree(spec.secret_dir, ignore_errors=True)
            run.update_record(container=None, outcome=outcome("failed", 1, sentence))
            raise
        return run

    def open(self, spec: Container) -> Session:
        """Starts a process that works with trained weights, whose image exists. Closing removes its container."""
        check_secrets(spec.secrets, self.caller, {})
        make_folders(spec)
        write_secrets(spec, self.caller)
        return ContainerSession(self.client, spec)

    def attach(self, run: RunDir, command: Sequence[str], *, tty: bool) -> Attached:
        """A command in the container of ``run``, which is running."""
        return Attached(self.client, str((run.read_record().get("container") or {}).get("name")), command, tty=tty)

    def follow(self, run: RunDir, rank: int | None = 0, begin: int = 0) -> Iterator[str]:
        """The rank's log from byte ``begin``, in pieces, until the run is over; an empty piece every tenth of a second or so."""
        looked, over = 0.0, False

        def is_over() -> bool:
            nonlocal looked, over
            if not over and time.monotonic() - looked >= _LOOK:
                looked, over = time.monotonic(), self.status(run).is_over
            return over

        return read_log(run, rank, is_over, begin)

    def status(self, run: RunDir) -> Status:
        """The run's status: its container's state while it exists, then the record. A container that has ended is reaped."""
        container = run.read_record().get("container") or {}
        if not container.get("name"):
            return _said(run)
        try:
            found = self._find(container["name"])
        except LauncherError as error:
            said = _said(run)
            reason = str(error).splitlines()[0]
            return said if said.is_over else Status("unknown", None, f"{said.state} when last seen; {reason}")
        state = "gone" if found is None else found.attrs["State"]["Status"]
        if state in ("running", "paused", "restarting"):
            said = _said(run)
            return said if said.state == "starting" else Status("running")
        if state == "created" or (state == "gone" and "id" not in container):
            if _age(run) < _START:
                return Status("starting")
            self._discard(container["name"])
            return self._settled(run, Status("lost", 137, "its start was interrupted"))
        if found is None:
            return self._settled(
                run, Status("lost", 137, "its container disappeared without an exit code: it was removed by hand")
            )
        return self._reap(run, found)

    def stop(self, run: RunDir, *, now: bool = False) -> Status:
        """Asks the run to stop after a checkpoint and returns at once; ``now``: kills it and returns when it is gone."""
        before = self.status(run)
        if before.is_over:
            return before
        if before.state == "unknown":
            raise LauncherError(f"{run.name}: {before.sentence}")
        name = run.read_record()["container"]["name"]
        with translated(f"{run.name}: not stopped"):
            self._signal(name, "SIGKILL" if now else "SIGTERM")
        if not now:
            return before
        deadline = time.monotonic() + _END
        aborted = outcome("aborted", 130, "killed on request")
        run.update_record(attempts=end_attempts(run, aborted["ended"]), outcome=aborted)
        while not (after := self.status(run)).is_over:
            if time.monotonic() > deadline:
                raise LauncherError(f"{run.name}: container {name} cannot be killed; the kernel holds its processes")
            time.sleep(0.1)
        return after

    def folders(self) -> list[Path]:
        """The folders of this user's runs that have a container, anywhere on this machine."""
        wanted = ["app.kubernetes.io/name=dpo-launcher", f"dpo-launcher/user={os.getuid()}"]
        with translated("listing containers"):
            found = self.client.api.containers(all=True, filters={"label": wanted})
        return [Path(folder) for one in found if (folder := one["Labels"].get("dpo-launcher/folder"))]

    def _start(self, spec: DockerSpec, container: Mapping[str, Any]) -> None:
        make_folders(spec)
        write_secrets(spec, self.caller)
        with translated(f"{spec.name} did not start"):
            made = self.client.api.create_container(**arguments(spec, self.client.api))
            spec.run_dir.update_record(container={**container, "id": made["Id"]})
            self.client.api.start(made["Id"])

    def _signal(self, name: str, signal: str) -> None:
        from docker.errors import APIError

        try:
            self.client.api.kill(name, signal)
        except APIError as error:
            if error.status_code not in (404, 409):  # it has ended meanwhile
                raise

    def _find(self, name: str) -> Any:
        """The container, or None if the engine has none of that name."""
        from docker.errors import NotFound

        with translated("the Docker engine"):
            try:
                return self.client.containers.get(name)
            except NotFound:
                return None

    def _reap(self, run: RunDir, container: Any) -> Status:
        """Writes the container's log to the run's folder, completes the record, and removes the container.

        Two launchers may do this at once: the log is written in one piece, and both write the same outcome.
        """
        from docker.errors import APIError, NotFound

        state = container.attrs["State"]
        text = ""
        with suppress(NotFound, APIError):  # another launcher was faster
            text = container.logs().decode("utf-8", "replace")
            write_whole(run.logs / "container.log", REDACTOR.text(text))
        ended = self._settled(run, _ending(state, text, run.read_record()))
        with suppress(NotFound, APIError):
            container.remove(v=True)
        return ended

    def _settled(self, run: RunDir, ending: Status) -> Status:
        """``ending``, written to the record if it has no outcome by the entry, or a vaguer one."""
        said, record = _said(run), run.read_record()
        container = record.get("container") or {}
        secrets = Path(container.get("secrets") or "/")
        if secrets.parent.name == secret_folder():  # a record is a file that anybody may have edited
            shutil.rmtree(secrets, ignore_errors=True)
        is_vague = said.state == "failed" and said.exit_code == 137 and ending.exit_code == 137 and ending.sentence is not None
        fields: dict[str, Any] = {"container": {"id": container.get("id"), "image": container.get("image")}}
        if not said.is_over or is_vague:
            last = outcome(ending.state, ending.exit_code or 0, ending.sentence or "")
            fields |= {"outcome": last, "attempts": end_attempts(run, last["ended"])}
        run.update_record(**fields)
        return _said(run)

    def _discard(self, name: str) -> None:
        with suppress(LauncherError):
            container = self._find(name)
            if container is not None:
                container.remove(force=True, v=True)

    def _person(self) -> Person:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # the uid need not exist in passwd
            name = "dpo"
        home = Path(self.caller.get("HOME") or Path("/"))
        return Person(os.getuid(), os.getgid(), tuple(os.getgroups()), name, home, is_rootless(address(self.caller)))


def _age(run: RunDir) -> float:
    """Seconds since the run was started."""
    record = run.read_record()
    created = record.get("started", record.get("created"))
    return (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds() if isinstance(created, str) else math.inf


def _said(run: RunDir) -> Status:
    """The status in the record."""
    last = run.read_record().get("outcome") or {}
    said = Status(last.get("state", "unknown"), last.get("exit_code"), last.get("sentence"))
    has_container = (run.read_record().get("container") or {}).get("name")
    if not said.is_over and not has_container:
        return Status("lost", 137, "its container disappeared without an exit code")
    return said


def _ending(state: Mapping[str, Any], words: str, record: Mapping[str, Any]) -> Status:
    """How a container ended whose entry wrote no outcome."""
    code = int(state["ExitCode"])
    limit = ((record.get("experiment") or {}).get("launch") or {}).get("memory")
    if state.get("OOMKilled"):
        whose = f"the memory of launch.memory ({limit})" if limit else "the machine's memory"
        return Status("failed", 137, f"the kernel killed it: {whose} ran out")
    if code == 143:
        return Status("stopped", 143, "stopped before the first step: nothing to resume")
    if code == 135:
        return Status("failed", 135, BUS_ERROR)
    if code == 137:
        return Status("failed", 137)
    meaning = explained(words) or explained(str(state.get("Error") or ""))
    return Status("failed", code or 1, meaning or f"the container ended with exit code {code}; see logs/container.log")


BUS_ERROR: Final = "a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size"
