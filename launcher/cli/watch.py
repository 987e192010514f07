"""Follows a run to its end. Ctrl-C stops the run, not the launcher."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import click

from ..backends import Run, Runs
from ..backends.status.state import Ended, ended
from ..errors import Aborted, LauncherError, UsageError
from ..runs.follow import Metric, Reader, Text, parse, short
from .health import drawn
from .learned import draw
from .terminal.live import Plain, Screen, screen
from .terminal.screen import complain, say, typed

_CODE: Final = re.compile(r"^\S+ ended with exit code \d+: ")


class Interrupts:
    """Counts requests to stop (Ctrl-C, SIGTERM) instead of ending the process. Before a run is followed, the second one ends
    it.
    """

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
    """Shows a run until it is over. Returns its exit code, or 0 if it keeps running. ``begin``: a position from its backend's
    ``mark``.

    The first interrupt stops the run after a checkpoint; a terminal asks first. The second one kills it.
    """
    reader, drawn, heeded, has_stepped = Reader(pairs_a_step), screen(), 0, False
    interrupts.is_watching = True
    try:
        for piece in backend.follow(run, begin=begin):
            for event in reader.feed(piece):
                drawn.show(event)
                has_stepped = has_stepped or (isinstance(event, Metric) and event.kind == "train")
            if not piece:
                drawn.tick()
            if interrupts.count > 1:
                backend.stop(run, now=True)
            elif interrupts.count > heeded:
                heeded = 1
                answer = _answer(drawn, interrupts)
                if answer == "detach":
                    drawn.show(Text(typed(f"{run.name} continues. Follow it with: launcher logs -f {run.name}")))
                    return 0
                if answer == "stop":
                    after = " after a checkpoint" if has_stepped else ""
                    drawn.show(Text(f"stopping {run.name}{after} (Ctrl-C again kills it at once)"))
                    backend.stop(run)
        for event in reader.close():
            drawn.show(event)
    finally:
        drawn.close()
    return conclude(ended(backend, run))


def _answer(drawn: Screen, interrupts: Interrupts) -> str:
    """``stop``, ``detach`` or ``kill``; always ``stop`` without a terminal."""
    if interrupts.last != signal.SIGINT or not is_terminal():
        return "stop"
    drawn.close()
    try:
        return stop_or_detach(interrupts)
    finally:
        drawn.open()


def is_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def stop_or_detach(interrupts: Interrupts) -> str:
    """Asks what to do while the run continues: ``stop``, ``detach``, or ``kill`` after a second Ctrl-C."""
    interrupts.is_watching = False
    try:
        while True:
            click.echo("\nstop or detach? [s/d] (Ctrl-C again kills it at once) ", nl=False)
            answer = _line()
            word = answer.strip().lower()
            if not answer or (word and "detach".startswith(word)):  # the terminal was closed, nobody asked to stop
                return "detach"
            if word and "stop".startswith(word):
                return "stop"
    except KeyboardInterrupt:
        click.echo()  # start a new line
        return "kill"
    finally:
        interrupts.is_watching = True


def _line() -> str:
    """Reads a line from stdin. Python handles signals before it starts to read, so one that arrives in between would wait for
    the end of the line. Signals therefore also write to a pipe, which is waited for together with stdin.
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


def conclude(found: Ended, *, err: bool = True) -> int:
    """Prints how a run ended and returns its exit code. ``err``: on stderr, unless it is done."""
    if found.learned is not None:
        say(f"done: {found.place}")
        draw(found.learned)
        drawn(found.health)
        return 0
    if found.words:
        click.echo(found.words, err=err)
    sentence = "it printed no reason" if found.why is None else found.why.sentence
    said = _CODE.sub("", sentence.splitlines()[0])  # the exit code is already printed before it
    say(f"{found.status.state} (exit {found.status.exit_code}): {said}", err=err)
    if found.why is not None:
        say(f"what to do: {typed(found.why.suggestion)}", indent=4, err=err)
    if found.status.state in ("failed", "lost"):
        say(f"logs: {typed(found.logs)}", err=err)
    return found.code


def show_log(backend: Runs[Run], run: Run, *, rank: int | None, follow: bool) -> int:
    """Prints the log of a rank (None: of all ranks) so far, or with ``follow`` to the run's end. Ctrl-C does not stop the run."""
    is_over = backend.status(run).is_over
    there = backend.ranks(run)
    if rank is not None and rank not in there and (is_over or not follow):
        if there:
            raise UsageError(f"--rank {rank}: {run.name} has the logs of ranks {', '.join(map(str, there))}")
        click.echo(backend.words(run))
        return 0
    if not follow:
        if not _print(backend.read(run, rank)):
            _complain_of_silence(backend, run, rank)
        return 0
    with Interrupts() as interrupts:
        interrupts.is_watching = True
        has_lines = _print(_until_interrupted(backend.follow(run, rank), interrupts))
    if interrupts.count:
        complain(f"{run.name} is over" if backend.status(run).is_over else f"{run.name} continues")
        return Aborted.exit_code
    if not has_lines:
        _complain_of_silence(backend, run, rank)
    return 0


def _complain_of_silence(backend: Runs[Run], run: Run, rank: int | None) -> None:
    """Reports that the log is empty, and which ranks have one."""
    if rank is None:
        complain(f"notice: {run.name} has printed nothing")
        return
    text = ""
    with suppress(LauncherError):
        text = "".join(backend.read(run, None))
    found = sorted({int(one) for one in re.findall(r"^\[rank (\d+)\] ", text, re.MULTILINE)})
    others = f"ranks with lines: {', '.join(map(str, found))}" if found else "no rank has any line"
    complain(f"notice: rank {rank} of {run.name} has printed nothing; {others}")


def _until_interrupted(pieces: Iterable[str], interrupts: Interrupts) -> Iterator[str]:
    """Yields until an interrupt; a line that has begun is printed to its end."""
    for piece in pieces:
        yield piece
        if interrupts.count:
            return


def _print(pieces: Iterable[str]) -> bool:
    """Returns whether anything was printed."""
    reader, drawn, has_lines = Reader(), Plain(thin=False), False
    for piece in pieces:
        has_lines = has_lines or bool(piece)
        for event in reader.feed(piece):
            drawn.show(_of_a_rank(event) if isinstance(event, Text) else event)
    for event in reader.close():
        drawn.show(event)
    drawn.close()
    return has_lines


def _of_a_rank(text: Text) -> Text:
    """A line with the prefix of its rank; metrics in short form."""
    prefix, _, rest = text.line.partition("] ")
    metric = parse(rest) if prefix.startswith("[rank ") else None
    return text if metric is None else Text(f"{prefix}] {short(metric)}")
