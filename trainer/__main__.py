"""One rank: ``python -m trainer RUN_FOLDER``, started by torchrun.

Everything that this process prints goes to ``logs/rank-<r>.log``. How it ended is in its exit note, because torchrun turns every
worker's exit code into 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launcher.errors import ExperimentError, LauncherError, Mistake, Warned
from launcher.published import VERSION
from launcher.redact import REDACTOR, learn_environment, redact_output
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from .output import notices, say, stage
from .processes.disk import make_room
from .processes.ending import explained, how_it_failed, is_of_a_peer
from .processes.ranks.roll_call import ended, started
from .processes.webhook.notify import HURRY, OUTBOX

if TYPE_CHECKING:
    from launcher.experiment.schema import Experiment

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    run, rank = RunDir(Path(sys.argv[1])), int(os.environ.get("RANK", "0"))
    attempt = int(os.environ.get("DPO_ATTEMPT", "1"))
    learn_environment()
    prepare_compilers()
    _print_to(run.rank_log(rank))
    # A torchrun that is killed leaves its workers alive; this one then stops as on request, after a checkpoint.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    started()
    ending = _rank(run, rank, attempt)
    _note(run, rank, attempt, ending)
    with suppress(OSError):  # the log's disk is full
        ended(ending.code)
    if not OUTBOX.wait(HURRY):
        notices([Warned(f"notification not sent: no answer within {HURRY:.0f} s")])
    # Not the interpreter's own end: a process group whose peer is gone may wait for it there.
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(ending.code)


def prepare_compilers() -> None:
    """Where torch and Triton keep what they compile, and with how many processes: both read it from the environment.

    In the cache's folder other runs find it, and no user name is needed, as for their own default. Each rank would start up to
    32 compiling processes.
    """
    if cache := os.environ.get("DPO_CACHE_ROOT"):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache, "kernels", "inductor")))
        os.environ.setdefault("TRITON_CACHE_DIR", str(Path(cache, "kernels", "triton")))
    threads = os.environ.get("OMP_NUM_THREADS", "")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(8, int(threads))) if threads.isdigit() else "8")


@dataclass(frozen=True)
class RankEnding:
    """How a rank ended: its exit code, the sentence, whether another rank's end is the cause, and whether smaller micro-batches
    may help.
    """

    code: int
    sentence: str
    is_consequence: bool = False
    can_split: bool = False


def _note(run: RunDir, rank: int, attempt: int, ending: RankEnding) -> None:
    note = run.exit_note(attempt, rank)
    note.parent.mkdir(exist_ok=True)
    write_whole(note, json.dumps(REDACTOR.value({**asdict(ending), "time": time.time()})))


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stdout.reconfigure(line_buffering=True, encoding="utf-8")
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    redact_output()


def _rank(run: RunDir, rank: int, attempt: int) -> RankEnding:
    from .processes.ranks.importing import quickly
    from .processes.ranks.quiet import ignore_deprecations
    from .processes.stop import StopRequest

    ignore_deprecations()
    warnings.filterwarnings("ignore", message=r"barrier\(\): using the device")  # each rank's current one is its own
    stop = StopRequest()
    stop.listen()  # before the heavy imports: a stop while they run must not kill the process half-way

    def leave(why: str) -> None:
        say(f"error: {why}")
        _note(run, rank, attempt, RankEnding(1, why, is_consequence=True))
        ended(1)
        os._exit(1)

    peers = None
    try:
        experiment = _experiment(run)
        with stage("importing torch and transformers", after=0), quickly(experiment.hyperparameters.report_to):
            from .processes.ranks.join import patience
            from .processes.ranks.peers import watch_peers
            from .train import Roots, train

        peers = watch_peers(rank, int(os.environ.get("WORLD_SIZE", "1")), patience(experiment), leave)
        train(run, experiment, Roots.from_environment(), stop, attempt=attempt, peers=peers)
        ending = RankEnding(0, "done")
    except Exception as error:
        make_room(run.attempt(attempt))
        ending = _failed(error)
    if peers is not None:
        peers.close(ending.code)
    return ending


def _experiment(run: RunDir) -> Experiment:
    from pydantic import ValidationError

    from launcher.experiment.schema import Experiment

    try:
        experiment = Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))
    except ValidationError as error:  # the launcher that wrote it has checked it
        names = ", ".join(".".join(map(str, one["loc"])) for one in error.errors()[:3])
        what = f"dpo-launcher {VERSION}, which trains here, does not know {names}"
        hint = "it was written by a launcher of another version: use the image of that version (launch.image)"
        raise ExperimentError(Mistake(str(run.experiment), what, hint=hint)) from error
    learn_environment(experiment.named_secrets)  # before the libraries print anything
    return experiment


def _failed(error: Exception) -> RankEnding:
    """Prints the sentence of ``error``; the traceback too, where its cause is not known."""
    if isinstance(error, LauncherError):
        for text in error.texts:
            say(f"error: {text}" if error.exit_code != 143 else text)
        return RankEnding(error.exit_code, str(error), can_split=getattr(error, "can_split", False))
    code, sentence = how_it_failed(error)
    with suppress(OSError):  # the log's disk is full: the note must not be lost with the lines
        if explained(error) is None:
            traceback.print_exc()
        say(f"error: {sentence}")
    return RankEnding(code, sentence, is_consequence=is_of_a_peer(error))


if __name__ == "__main__":
    main()
