"""What a container or a host process runs: torchrun with the right topology, its signals, and the run's exit code.

    python -m trainer.processes.entrypoint RUN_FOLDER | RECORD

RECORD is a file whose ``folder`` is the run's: the pods of a sweep differ in it alone.

Environment: DPO_NNODES and DPO_NPROC (nodes, and ranks to start on each, 1), on more than one node NODE_RANK (or
JOB_COMPLETION_INDEX), MASTER_ADDR and MASTER_PORT; DPO_GRACE (seconds between a request to stop and the end by force, 120),
DPO_SECRETS (a folder whose files are secrets by their names: only the ranks get them); in a pod DPO_CONFIG and
DPO_TERMINATION_LOG (see ``pod``), where the ranks' logs are copied to stdout too, and of a sweep's pod DPO_STOP (paths with ``:``
between them: a file there asks to stop, as SIGTERM does, and the pod exits with 49, which is not retried). Each rank leaves
``attempt-<n>/rank-<r>.exit.json``, as torchrun turns every code into 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from launcher.errors import STAYS_STOPPED, LauncherError, Stopped, UploadError
from launcher.job.topology import Node, torchrun
from launcher.redact import REDACTOR, learn_environment
from launcher.runs.processes import OWN_FOLDER, OWN_NAME
from launcher.runs.run_dir import RunDir

from .attempts import next_attempt, write_end, write_start
from .bucket import Bucket, has_own_runs
from .children import Children
from .disk import make_room, reserve
from .ending import how_it_failed
from .kills import Kills
from .pods.memory_note import MemoryNote
from .pods.pod import FirstNode, arrive, is_done, last_words, take_back
from .pods.rendezvous import meet, own_address
from .port import held_port
from .relay import Relay
from .verdict import Ending, exit_notes, judge
from .webhook.notify import HURRY, PATIENCE, notify_name, tell_end

# `python -m torch.distributed.run` without the garbage collector's walks while it imports torch: a quarter of its CPU time.
_TORCHRUN: Final = "import gc; gc.disable(); from torch.distributed.run import main; gc.freeze(); gc.enable(); main()"


def main(folder: Path) -> int:
    """Trains, in several attempts if memory runs out; returns the exit code. Leaves no process behind."""
    run = RunDir(folder)
    learn_environment(filter(None, [notify_name(run)]))
    children = Children(int(os.environ.get("DPO_GRACE", "120")), _stop_files(os.environ))
    try:
        ending = _train(folder, children)
    except LauncherError as error:
        ending = Ending("failed", error.exit_code, str(error))
        sys.stderr.writelines(f"error: {text}\n" for text in error.texts)
    except OSError as error:  # the disk is full, or the volume is gone
        ending = Ending("failed", *how_it_failed(error))
        sys.stderr.write(f"error: {ending.sentence}\n")
    _leave_words(ending)
    if ending.is_new and _is_first():
        notify(run, ending, patience=HURRY if children.stop_wanted else PATIENCE)
    return STAYS_STOPPED if ending.state == "stopped" and children.stays_stopped else ending.code


def _stop_files(env: Mapping[str, str]) -> tuple[Path, ...]:
    return tuple(Path(one) for one in env.get("DPO_STOP", "").split(os.pathsep) if one)


def _leave_words(ending: Ending) -> None:
    last_words(ending.code, ending.sentence, ending.state, is_consequence=ending.is_consequence)


def _is_first() -> bool:
    """Whether this is the run's first node; with one node, a pod's index is that of the sweep's point."""
    rank = os.environ.get("NODE_RANK", os.environ.get("JOB_COMPLETION_INDEX"))
    return os.environ.get("DPO_NNODES", "1") == "1" or rank == "0"


def _train(folder: Path, children: Children) -> Ending:
    nodes, nproc = int(os.environ.get("DPO_NNODES", "1")), int(os.environ.get("DPO_NPROC", "1"))
    node = Node.of(os.environ, nodes)
    run = RunDir(folder, node.rank)
    children.listen()
    config = os.environ.get("DPO_CONFIG")
    if config is not None:
        if children.look() and not is_done(run):
            return Ending("stopped", 143, "stopped on request; its pod started nothing", is_new=False)
        arrive(run, Path(config), children.look)
        if not run.record.exists():
            return Ending("stopped", 143, "stopped before the first step: nothing to resume")
        if is_done(run):
            return Ending("done", 0, "done by an earlier attempt", is_new=False)
        if run.adapter.exists():
            # Only its upload is left, which the first node does alone: the cluster does not restart a pod that succeeded.
            if node.rank > 0:
                return Ending("done", 0, "trained by an earlier attempt; the first node uploads the adapter")
            nodes, node = 1, Node()
    for path in (run.logs, run.tensorboard, run.data):
        path.mkdir(parents=True, exist_ok=True)
    bucket = Bucket.of(run, node.rank * nproc, children.look)
    if bucket is not None and (failed := _prepared(bucket, run)) is not None:
        return failed
    ending = _attempts(run, nodes, nproc, node, children, is_pod=config is not None)
    return ending if bucket is None else _kept(bucket, ending, children)


def _prepared(bucket: Bucket, run: RunDir) -> Ending | None:
    """How the run ends if its place in the bucket cannot be used; None if it can."""
    try:
        bucket.prepare()
        return None
    except LauncherError as error:
        has_checkpoint = next(reversed(run.checkpoints()), None)
        then = f"resumes from {has_checkpoint.name}" if has_checkpoint else "nothing to resume"
        sentence = f"{error}: {then}" if isinstance(error, Stopped) else str(error)
        ending = Ending("stopped" if isinstance(error, Stopped) else "failed", error.exit_code, sentence)
    number = next_attempt(run)
    write_start(run, number)
    write_end(run, ending)
    sys.stdout.write(f"{run.name}: attempt {number}: {ending.state}, exit {ending.code}: {ending.sentence}\n")
    return ending


def _kept(bucket: Bucket, ending: Ending, children: Children) -> Ending:
    """Uploads the record, the logs and the adapter; nodes that share no folder have them nowhere else."""
    if bucket.run.node:
        return ending
    try:
        bucket.keep(is_done=ending.state == "done", is_brief=children.stop_wanted)
    except LauncherError as error:
        if ending.code or not has_own_runs():
            sys.stderr.write(f"warning: record and logs are not in {bucket.place.uri}: {error}\n")
            return ending
        ending = Ending("failed", UploadError.exit_code, f"trained, but not uploaded to {bucket.place.uri}: {error}")
        write_end(bucket.run, ending)
    return ending


def _attempts(run: RunDir, nodes: int, nproc: int, node: Node, children: Children, *, is_pod: bool) -> Ending:
    """Repeats attempts until one ends for another reason than memory."""
    splits = 0
    while True:
        # In a pod the ranks' output goes to the pod's output, too, where the cluster keeps it.
        ranks = range(node.rank * nproc, (node.rank + 1) * nproc)
        ending = _attempt(run, nodes, nproc, node, children, splits, Relay(run, ranks) if is_pod else None)
        if not ending.can_split or children.stop_wanted:
            write_report(run)
            return ending
        take_back()  # a kill in the next attempt must not leave this attempt's ending
        splits += 1


def _attempt(run: RunDir, nodes: int, nproc: int, node: Node, children: Children, splits: int, relay: Relay | None) -> Ending:
    number = next_attempt(run, own_address() if relay is not None else "")
    write_start(run, number)
    if relay is not None and nodes > 1:
        node = meet(run, number, node, children.look)
    begin = run.entry_log.stat().st_size if run.entry_log.exists() else 0
    env = {"DPO_ATTEMPT": str(number), "DPO_SPLITS": str(splits)}
    before = Kills.now()
    reserve(run.attempt(number))
    first, memory = FirstNode(run, number), MemoryNote(run, number)

    def meanwhile() -> None:
        memory.look()
        children.look()
        if relay is not None:
            relay.copy()
        if first.is_lost() and not children.stop_wanted:
            children.give_up()

    with held_port() as port:
        command = _torchrun(run, torchrun(nodes, nproc, node, port))
        code = children.run(command, log=run.entry_log, env=env, meanwhile=None if relay is None else meanwhile)
    make_room(run.attempt(number))
    notes, words = exit_notes(run, number), _since(run.entry_log, begin)
    ending = judge(notes, nproc, code, children, words, before)
    _leave_words(ending)  # before anything that may still fail or wait: this decides whether the cluster retries
    try:
        write_end(run, ending)
    except OSError as error:
        sys.stderr.write(f"error: cannot write {run.record}: {(error.strerror or str(error)).lower()}\n")
    if relay is not None:
        relay.finish()
        if ending.code and not notes:
            sys.stdout.write("".join(f"{line}\n" for line in REDACTOR.text(words).splitlines()[-20:]))
    sys.stdout.write(f"{run.name}: attempt {number}: {ending.state}, exit {ending.code}: {ending.sentence}\n")
    sys.stdout.flush()
    return ending


def _torchrun(run: RunDir, options: list[str]) -> list[str]:
    # Without a folder for its logs torchrun makes one under /tmp and leaves it there.
    return [sys.executable, "-c", _TORCHRUN, *options, f"--log-dir={os.devnull}", "-m", "trainer", str(run.path)]


def _since(log: Path, begin: int) -> str:
    if not log.exists():  # asked to stop before torchrun was started
        return ""
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode("utf-8", "replace")


def write_report(run: RunDir) -> None:
    """Writes the finished run's report, on the first node; if that fails, it warns."""
    if run.node:
        return
    try:
        from launcher.report.page import write_own

        sentence = write_own(run)
    except Exception as error:  # a checkout that was changed while the run trained
        sentence = f"cannot write the run's report: {type(error).__name__}: {error}"
    if sentence is not None:
        sys.stderr.write(f"warning: {sentence}\n")


def notify(run: RunDir, ending: Ending, env: Mapping[str, str] | None = None, *, patience: float = PATIENCE) -> None:
    """Sends the experiment's webhook how the run ended; if that fails, it warns. See ``tell_end``."""
    try:
        sentence: str | None = tell_end(run, ending, env, patience=patience)
    except Exception as error:  # as in write_report
        sentence = f"notification not sent: {type(error).__name__}"
    if sentence is not None:
        sys.stderr.write(f"warning: {sentence}\n")


def folder_of(argument: Path) -> Path:
    """The run's folder, named by itself or by the file of its first record; then the environment learns which run this is."""
    if not argument.is_file():
        return argument
    record = json.loads(argument.read_text(encoding="utf-8"))
    for name, value in list(os.environ.items()):
        os.environ[name] = value.replace(OWN_FOLDER, record["folder"]).replace(OWN_NAME, record["run"])
    return Path(record["folder"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m trainer.processes.entrypoint RUN_FOLDER | RECORD")
    sys.exit(main(folder_of(Path(sys.argv[1]))))
