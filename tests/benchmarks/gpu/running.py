"""Runs the parts one after another, each as a process with a time limit; keeps what each has said so far."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from .parts import Part, Place

REPOSITORY = Path(__file__).parents[3]
MARK: Final = "measured "  # begins the lines of a worker that hold figures
LEAST: Final = 15.0  # seconds under which no part is started
SLOWER: Final = 4  # times as long a part may take on a CPU
SHOWN: Final = 100  # characters of a result in the table


@dataclass
class Clock:
    """The seconds of all parts together."""

    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)


@dataclass
class Result:
    """What a part has measured, as its JSON file holds it."""

    part: str
    title: str
    model: str
    status: str = "running"  # then done, failed, skipped, cut
    sentence: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, figures: dict[str, Any]) -> None:
        """Figures that come later replace earlier ones of the same name; ``status`` and ``sentence`` are the part's own."""
        self.status = figures.pop("status", self.status)
        self.sentence = figures.pop("sentence", self.sentence)
        self.figures |= figures

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{self.part}.json"
        aside.write_text(json.dumps(asdict(self), indent=2) + "\n")
        aside.replace(folder / f"{self.part}.json")


def command_of(part: Part, place: Place) -> list[str]:
    given = ["--worker", part.name, "--device", place.device, "--folder", str(place.folder)]
    return [sys.executable, "-m", "tests.benchmarks.gpu", *given, *(["--tiny"] if place.tiny else [])]


def perform(
    parts: Sequence[Part],
    place: Place,
    out: Path,
    clock: Clock,
    command: Callable[[Part, Place], list[str]] = command_of,
) -> list[Result]:
    """Runs ``parts`` in their order while the clock has time left; each prints its result as it ends."""
    results = []
    for part in parts:
        result = Result(part.name, part.title, part.model)
        if clock.left < LEAST:
            result.status, result.sentence = "skipped", "no time left"
        else:
            limit = min(part.limit * (1 if place.device == "cuda" else SLOWER), clock.left)
            print(f"{named(result)} … (at most {limit:.0f} s)", flush=True)
            run(command(part, place), result, out, limit)
        result.write(out)
        print(f"  {result.status} in {result.seconds:.0f} s: {result.sentence}", flush=True)
        results.append(result)
    return results


def run(command: Sequence[str], result: Result, out: Path, limit: float) -> None:
    """Runs one part to its end or to its limit; ``result`` and its file grow with each line of figures."""
    out.mkdir(parents=True, exist_ok=True)
    log, began = out / f"{result.part}.log", time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,  # its children end with it
        )
        assert process.stdout is not None, "it was asked for"
        reader = threading.Thread(target=_read, args=(process.stdout, result, out, file), daemon=True)
        reader.start()
        with suppress(subprocess.TimeoutExpired):
            process.wait(limit)
        is_cut = process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(10)
    result.seconds = round(time.monotonic() - began, 1)
    if is_cut:
        result.status = "cut"
        result.sentence = f"ended at its limit of {limit:.0f} s{f'; until then: {result.sentence}' if result.sentence else ''}"
    elif result.status == "running":
        result.status, result.sentence = ("done", result.sentence) if process.returncode == 0 else ("failed", _why(log))


def _read(lines: IO[str], result: Result, out: Path, log: IO[str]) -> None:
    for line in lines:
        if line.startswith(MARK):
            result.add(json.loads(line.removeprefix(MARK)))
            result.write(out)
        else:
            log.write(line)
            log.flush()


def _why(log: Path) -> str:
    """The last line of a log that is not empty."""
    said = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{said[-1] if said else 'it printed nothing'} (see {log})"


def named(result: Result) -> str:
    return f"{result.title}{f' ({result.model})' if result.model else ''}"


def summary(results: Sequence[Result]) -> str:
    """A table of all parts, and how much faster this project was than TRL."""
    rows = ["", "| part | model | | s | result |", "|---|---|---|---|---|"]
    for one in results:
        sentence = one.sentence if len(one.sentence) <= SHOWN else one.sentence[: SHOWN - 1] + "…"
        rows.append(f"| {one.title} | {one.model} | {one.status} | {one.seconds:.0f} | {sentence} |")
    return "\n".join([*rows, *_ratios(results)])


def _ratios(results: Sequence[Result]) -> list[str]:
    speeds = {result.part: result.figures.get("pairs_per_second") for result in results}
    lines = []
    for kind, other in (("", "trl"), ("", "trl-tuned"), ("4b-", "4b-trl-tuned")):
        found = [speeds.get(name) for name in (f"{kind}compiled" if kind else "ours-compiled", kind.rstrip("-") or "ours")]
        best = max((speed for speed in found if speed), default=None)
        if best and speeds.get(other):
            lines.append(f"{best / speeds[other]:.2f} times {other}")
    return ["", *lines] if lines else []
