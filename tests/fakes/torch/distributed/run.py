"""Plays torchrun and its ranks for tests of what starts it: put this folder's root first on PYTHONPATH.

FAKE_RANKS    one word a rank, as "42" or "0,1": the exit code that the rank notes, or
              "killed" (SIGKILLs itself), "bus" (SIGBUS), "silent" (ends without a note), "deaf" (ignores SIGTERM),
              "survivor" (notes 1, as a consequence, when another rank has noted its end or is gone), "short" (out of memory
              until the micro-batch was halved twice)
FAKE_STEPS    how many metric lines rank 0 prints first (5); it sleeps FAKE_PAUSE seconds (0.01) after each
FAKE_SAVES    after how many steps rank 0 writes a checkpoint, which takes FAKE_PAUSE seconds, too (never)
FAKE_ADAPTER  the adapter that rank 0 writes in the end, which takes as long (none); {run} is the run's name
FAKE_STILL    a step and the beginnings of runs' names, as "3 stopped killed": after that step their first attempt stands still
              until it is ended (none)
FAKE_WRITE    likewise, as "2 killed": the seconds that a write takes in their first attempt (FAKE_PAUSE)
FAKE_WAIT     seconds that each rank sleeps after that (0)
FAKE_HOLD     a file in the run's folder, as "attempt-2/go": after its steps rank 0 waits for it where that folder exists (none)
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def torchrun(folder: str, nproc: int) -> int:
    words = (os.environ.get("FAKE_RANKS") or ",".join("0" * nproc)).split(",")
    assert len(words) == nproc, f"{len(words)} words in FAKE_RANKS for {nproc} ranks"
    ranks: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: [rank.terminate() for rank in ranks])
    for number, word in enumerate(words):
        ranks.append(subprocess.Popen([sys.executable, __file__, "rank", folder, str(number), word]))
    print(f"torchrun: {' '.join(sys.argv[1:])}", flush=True)  # noqa: T201
    codes = [rank.wait() for rank in ranks]
    if any(codes):
        # The cause of failure is the rank that ended first: here the one that a signal has ended, if there is one.
        print(f"  exitcode  : {min(codes) if min(codes) < 0 else next(filter(None, codes))} (pid: 1)", flush=True)  # noqa: T201
    return int(any(codes))


def rank(folder: Path, number: int, word: str) -> int:
    if word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: end(folder, number, 143, "stopped after a checkpoint"))
    pause, saves = float(os.environ.get("FAKE_PAUSE", "0.01")), int(os.environ.get("FAKE_SAVES", "0"))
    if number == 0:
        for name in (".saving", ".adapter"):  # of an attempt that was killed
            shutil.rmtree(folder / name, ignore_errors=True)
        steps, still = int(os.environ.get("FAKE_STEPS", "5")), of_first_attempt("FAKE_STILL", folder)
        write_pause = of_first_attempt("FAKE_WRITE", folder)
        write_pause = pause if write_pause is None else write_pause
        with (folder / "logs" / "rank-0.log").open("a") as log, (folder / "logs" / "dpo_train_steps.jsonl").open("a") as metrics:
            print("loading the model", file=log, flush=True)
            for step in range(1, steps + 1):
                line = {"type": "train", "step": step, "total_steps": steps, "loss": 0.7 - 0.1 * step / steps}
                line |= {"rewards/margins": 0.5 * step / steps, "rewards/accuracies": 0.75, "seconds": step * 0.5}
                for file in (log, metrics):
                    print(json.dumps(line), file=file, flush=True)
                time.sleep(600 if step == still else pause)
                if saves and step % saves == 0:
                    write(folder / ".saving" / f"checkpoint-{step}", folder / f"checkpoint-{step}", write_pause)
        gate = folder / os.environ.get("FAKE_HOLD", "")
        while gate.parent.is_dir() and not gate.exists():
            time.sleep(0.02)
        if "FAKE_ADAPTER" in os.environ:
            (folder / ".adapter").mkdir()
            (folder / ".adapter" / "w.safetensors").write_text(os.environ["FAKE_ADAPTER"].format(run=folder.name))
            write(folder / ".adapter", folder / "adapter", write_pause)
    time.sleep(600 if word == "deaf" else float(os.environ.get("FAKE_WAIT", "0")))
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "bus":
        os.kill(os.getpid(), signal.SIGBUS)
    if word == "silent":
        return 1
    if word == "short":
        short = int(os.environ["DPO_SPLITS"]) < 2
        return end(folder, number, 45 if short else 0, "out of memory" if short else "done", can_split=short)
    if word == "survivor":
        until = time.monotonic() + 1
        while not list(attempt(folder).glob("rank-*.exit.json")) and time.monotonic() < until:
            time.sleep(0.01)
        return end(folder, number, 1, "a peer is gone", is_consequence=True)
    return end(folder, number, int(word), "done" if word == "0" else f"rank {number} says {word}")


def of_first_attempt(name: str, folder: Path) -> float | None:
    number, *runs = os.environ.get(name, "").split() or [""]
    is_meant = os.environ["DPO_ATTEMPT"] == "1" and folder.name.startswith(tuple(runs))
    return float(number) if is_meant else None


def write(aside: Path, final: Path, pause: float) -> None:
    aside.mkdir(parents=True, exist_ok=True)
    time.sleep(pause)
    if final.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(final)


def end(folder: Path, number: int, code: int, sentence: str, **more: bool) -> int:
    note = {"code": code, "sentence": sentence, "time": time.time(), **more}
    file = attempt(folder) / f"rank-{number}.exit.json"
    file.with_suffix(".aside").write_text(json.dumps(note))
    file.with_suffix(".aside").rename(file)
    sys.exit(code)


def attempt(folder: Path) -> Path:
    return folder / f"attempt-{os.environ['DPO_ATTEMPT']}"


def main() -> None:
    processes = next(int(arg.split("=")[1]) for arg in sys.argv if arg.startswith("--nproc-per-node="))
    sys.exit(torchrun(sys.argv[-1], processes))


if __name__ == "__main__":
    sys.exit(rank(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
