"""Ranks watch each other during the training: a rank that dies ends the others, a rank that hangs is named.

A thread of each rank writes a heartbeat and the rank's place in the training into torchrun's store once a second, and reads those
of the others. After the death of a peer, NCCL would let this rank wait for minutes; here it ends within seconds.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from launcher.runs.processes import Process

BEAT: Final = 1.0  # seconds between two looks of up to 16 ranks; more ranks look less often, as one store serves all of them
STARTING: Final = "starting"  # no timeout: downloads, tokens and the reference's pass may take long
SILENT: Final = 60.0  # seconds without a heartbeat after which a rank of another machine counts as dead
PATIENCE: Final = 5.0  # seconds in which the training itself may fail with a better message


class Peers:
    """Watches the other ranks of this attempt until ``close``."""

    def __init__(self, store: Any, rank: int, world: int, *, timeout: float, end: Callable[[str], None]):
        """``store``: a connection of this thread's own to the store that torchrun keeps (``set``, ``check``, ``multi_get``).

        ``timeout``: seconds that a rank may stay in one place; ``end`` is called once with the reason why this rank
        cannot continue, and does not return.
        """
        self._store, self._rank, self._world, self._timeout, self._end = store, rank, world, timeout, end
        self._place: tuple[int, str] = (0, STARTING)
        self._beat = BEAT * max(1.0, world / 16)
        self._all_came = False
        self._began = time.monotonic()
        self._moved = self._began
        self._seen: dict[int, tuple[str, float]] = {}
        self._closed = threading.Event()
        self._writing = threading.Lock()  # no look that began earlier is noted after the end
        process = Process.of(os.getpid())
        self._process = None if process is None else process.record()
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def at(self, step: int, what: str) -> None:
        """Reports that this rank is at ``step`` and does ``what``."""
        self._place, self._moved = (step, what), time.monotonic()

    def close(self, code: int) -> None:
        """Reports that this rank ends with ``code``, so that no peer takes it for dead."""
        self._closed.set()
        self._thread.join(timeout=2 * self._beat)
        with self._writing:
            self._write({"ended": code})

    def callback(self) -> Any:
        """Tells ``at`` where the training is."""
        from transformers import TrainerCallback

        peers = self

        class Places(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                peers.at(state.global_step + 1, "computing")

            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                peers.at(state.global_step + 1, "updating")

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                peers.at(state.global_step, "done")

            def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                peers.at(state.global_step, "evaluating")

        return Places()

    def _watch(self) -> None:
        beat = 0
        while not self._closed.wait(self._beat):
            beat += 1
            step, what = self._place
            idle = time.monotonic() - self._moved
            try:
                with self._writing:
                    if self._closed.is_set():
                        return
                    self._write({"beat": beat, "step": step, "what": what, "idle": idle, "process": self._process})
                others = self._read()
            except RuntimeError as error:  # torch's store has no better one
                self._leave(f"the first node is gone: its store does not answer ({str(error).splitlines()[0]})")
                return
            if (why := self._lost(others) or self._hung(others, idle)) is not None:
                self._leave(why)
                return

    def _leave(self, why: str) -> None:
        if self._closed.wait(PATIENCE):
            return
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        self._end(why)

    def _write(self, note: dict[str, Any]) -> None:
        self._store.set(f"peer/{self._rank}", json.dumps(note))

    def _read(self) -> dict[int, dict[str, Any]]:
        others = [rank for rank in range(self._world) if rank != self._rank]
        self._all_came = self._all_came or self._store.check([f"peer/{rank}" for rank in others])
        ranks = others if self._all_came else [rank for rank in others if self._store.check([f"peer/{rank}"])]
        notes = self._store.multi_get([f"peer/{rank}" for rank in ranks]) if ranks else []
        return {rank: json.loads(note) for rank, note in zip(ranks, notes, strict=True)}

    def _lost(self, others: dict[int, dict[str, Any]]) -> str | None:
        now = time.monotonic()
        for rank, note in others.items():
            if note.get("ended"):
                return f"rank {rank} has ended with exit code {note['ended']}"
            if "ended" in note:
                continue
            process = Process.parse(note["process"])
            if process is not None and process.is_here and not process.alive:
                return f"rank {rank} is gone: its process {process.pid} was killed or has crashed"
            text, since = self._seen.get(rank, ("", now))
            if text != str(note["beat"]):
                self._seen[rank] = (str(note["beat"]), now)
            elif now - since > SILENT:
                return f"rank {rank} is gone: no heartbeat for {SILENT:.0f} s"
        return None

    def _hung(self, others: dict[int, dict[str, Any]], idle: float) -> str | None:
        """Why there is no progress: the ranks behind the others, once all stood still for the timeout."""
        alive = {rank: note for rank, note in others.items() if "ended" not in note}
        if not alive:  # no rank waits for this one: it uploads the adapter
            return None
        if idle < self._timeout or any(note["idle"] < self._timeout for note in alive.values()):
            return None
        places = {rank: (note["step"], note["what"]) for rank, note in alive.items()} | {self._rank: self._place}
        if any(what == STARTING for _, what in places.values()):
            return None
        behind = min(step for step, _ in places.values())
        hung = [f"rank {rank} ({what} step {step})" for rank, (step, what) in sorted(places.items()) if step == behind]
        return f"no progress for {self._timeout:.0f} s, waiting for {', '.join(hung)}: its stack trace is in its log"


def watch_peers(rank: int, world: int, timeout: float, end: Callable[[str], None]) -> Peers | None:
    """A watcher of the other ranks that torchrun started; None for a single rank."""
    if world == 1:
        return None
    from datetime import timedelta

    from torch.distributed import PrefixStore, TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=30))
    peers = Peers(PrefixStore("dpo", store), rank, world, timeout=timeout, end=end)
    peers.start()
    return peers
