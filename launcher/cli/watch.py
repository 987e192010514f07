"""Following a run to its end, while Ctrl-C means that it should stop and not that the launcher should die."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import click

from ..backends import Run, Runs
from ..errors import Aborted, UsageError
from ..runs.follow import Reader, Text, parse, short
from ..runs.run_dir import RunDir
from .learned import learned, this_launcher
from .screen import Plain, screen


class Interrupts:
    """Counts requests to stop (Ctrl-C, SIGTERM) instead of dying of them; before the run is watched the second one kills."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.is_watching = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count, self.last = self.count + 1, number
        if self.count > 1 and not self.is_watching:
            raise KeyboardInterrupt


def watch(backend: Runs[Run], run: Run, interrupts: Interrupts, *, pairs_a_step: int | None, begin: int = 0) -> int:
    """Draws a run until it is over and returns its exit code, or 0 if it is left alone. ``begin``: what its backend's mark said.

    One interrupt stops it after a checkpoint, or asks first where a person is there to answer; a second one kills it.
    """
    reader, drawn, heeded = Reader(pairs_a_step), screen(), 0
    interrupts.is_watching = True
    try:
        for piece in backend.follow(run, begin=begin):
            for event in reader.feed(piece):
                drawn.show(event)
            if interrupts.count > 1:
                backend.stop(run, now=True)
            elif interrupts.count > heeded:
                heeded = 1
                if interrupts.last == signal.SIGINT and _is_terminal():
                    drawn.close()
                    answer = _stop_or_detach(interrupts)
                    drawn = screen()
                    if answer == "detach":
                        drawn.show(Text(f"{run.name} goes on: {this_launcher()} logs -f {run.name}"))
                        return 0
                    if answer == "kill":
                        continue
                drawn.show(Text(f"stopping after a checkpoint (Ctrl-C again: at once); the run's name is {run.name}"))
                backend.stop(run)
        for event in reader.close():
            drawn.show(event)
    finally:
        drawn.close()
    return conclude(backend, run)


def _is_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _stop_or_detach(interrupts: Interrupts) -> str:
    """What a person wants of a run that goes on meanwhile: ``stop``, ``detach``, or by a second Ctrl-C ``kill``."""
    interrupts.is_watching = False
    try:
        while True:
            click.echo("\nstop or detach? [s/d] (Ctrl-C again: kill it at once) ", nl=False)
            answer = _line()
            word = answer.strip().lower()
            if not answer or (word and "detach".startswith(word)):  # the terminal is gone: nobody has said stop
                return "detach"
            if word and "stop".startswith(word):
                return "stop"
    except KeyboardInterrupt:
        return "kill"
    finally:
        interrupts.is_watching = True


def _line() -> str:
    """A line of standard input. Python looks for a signal before it begins to read: one that comes in between would wait for
    the line's end, so it rings a bell that is waited for, too.
    """
    ear, bell = os.pipe()
    os.set_blocking(bell, False)
    before = signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    try:
        select.select([sys.stdin, ear], [], [])
        return sys.stdin.readline()
    finally:
        signal.set_wakeup_fd(before)
        os.close(ear)
        os.close(bell)


def conclude(backend: Runs[Run], run: Run) -> int:
    """Says how a run has ended; returns its exit code."""
    now = backend.status(run)
    if now.state != "done" and (words := backend.words(run)):
        click.echo(words, err=True)
    if now.state == "done":
        click.echo(f"done: {backend.place(run)}")
        click.echo("\n".join(learned(backend.place(run), backend.record(run), backend.next_steps(run))))
        return 0
    sentence = (now.sentence or "it did not say why").splitlines()[0]
    click.echo(f"{now.state} (exit {now.exit_code}): {sentence}", err=True)
    if backend.checkpoints(run):
        click.echo(f"to go on: {this_launcher()} resume {run.name}", err=True)
    else:
        # Of a run on a cluster the folder lies on its claim, where nobody looks.
        logs = f"{backend.place(run)}/logs" if isinstance(run, RunDir) else f"{this_launcher()} logs {run.name}"
        click.echo(f"its logs: {logs}", err=True)
    return 1 if now.exit_code is None else now.exit_code


def show_log(backend: Runs[Run], run: Run, *, rank: int | None, follow: bool) -> int:
    """Prints a rank's log so far, or to the run's end; None: that of all ranks. Ctrl-C leaves the run alone."""
    is_over = backend.status(run).is_over
    there = backend.ranks(run)
    if rank is not None and rank not in there and (is_over or not follow):
        if there:
            raise UsageError(f"--rank {rank}: {run.name} has logs of ranks {', '.join(map(str, there))}")
        click.echo(backend.words(run))
        return 0
    if not follow:
        _print(backend.read(run, rank))
        return 0
    with Interrupts() as interrupts:
        interrupts.is_watching = True
        _print(_until_interrupted(backend.follow(run, rank), interrupts))
    if interrupts.count:
        click.echo(f"{run.name} goes on" if not backend.status(run).is_over else f"{run.name} is over", err=True)
        return Aborted.exit_code
    return 0


def _until_interrupted(pieces: Iterable[str], interrupts: Interrupts) -> Iterator[str]:
    """A line that is being printed is printed whole; then an interrupt counts."""
    for piece in pieces:
        yield piece
        if interrupts.count:
            return


def _print(pieces: Iterable[str]) -> None:
    reader, drawn = Reader(), Plain(thin=False)
    for piece in pieces:
        for event in reader.feed(piece):
            drawn.show(_of_a_rank(event) if isinstance(event, Text) else event)
    for event in reader.close():
        drawn.show(event)
    drawn.close()


def _of_a_rank(text: Text) -> Text:
    """A line with the prefix of its rank, short if it is a metric."""
    prefix, _, rest = text.line.partition("] ")
    metric = parse(rest) if prefix.startswith("[rank ") else None
    return text if metric is None else Text(f"{prefix}] {short(metric)}")


def stop_and_wait(backend: Runs[Run], run: Run, *, now: bool) -> int:
    """Stops a run from outside and waits for its end; 0 if it is over then, whatever its own exit code."""
    before = backend.stop(run, now=now)
    if before.is_over and not now:
        click.echo(f"{run.name} is over already: {before.state}")
        return 0
    if not now:
        most = f"at most {backend.grace(run)} s (stop --now kills it at once)"
        click.echo(f"{run.name}: waiting for its step and a checkpoint, {most}")
        backend.wait(run, lambda words: click.echo(words, err=True))
    after = backend.status(run)
    click.echo(f"{run.name}: {after.state}" + ("" if after.exit_code is None else f" (exit {after.exit_code})"))
    return 0
