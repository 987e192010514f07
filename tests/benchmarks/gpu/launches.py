"""What a step of this project makes the GPU do: the kernels' share of its time, launches, and waits for the device."""

from __future__ import annotations

import statistics
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .parts import Place
from .speed import card, losses, rates, sentence
from .training import WARM, batch_of, experiment_of, trained
from .watch import Watch

REPOSITORY = Path(__file__).parents[3]
SHOWN: Final = 8  # kernels, and places of waits
# Calls of CUDA's runtime and driver that give the GPU work.
LAUNCHES: Final = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")


def launches(place: Place, model: str) -> Iterator[dict[str, Any]]:
    """First the steps as they are, then one in which a wait for the device is an error, then one under the profiler."""
    warm, steps = min(WARM, batch_of(place).steps), batch_of(place).steps
    experiment = experiment_of(place, model, "short prompt", warm + steps + 2, compile="off")
    watch, looked = Watch(place.device, warm), Look(place.device, warm + steps)
    trainer, said = trained(place, experiment, "launches", watch, looked)
    step = statistics.median(watch.seconds[:steps])
    pairs = trainer.fast.train.pairs if trainer.path == "fast" else None
    if pairs is not None:
        found = rates(experiment, trainer.model.config, pairs, watch.seconds[:steps], batch_of(place).pairs, is_packed=True)
        yield {**found, "losses": losses(trainer), "said": said.about("path", "row"), "sentence": sentence(found)}
    yield {"waits": looked.waits, "sentence": looked.about_waits()}
    yield {**looked.profile, "step_seconds": step, "gpu": card()[0], "sentence": looked.in_words(step)}


class Look(Watch):
    """In step ``number`` (counted from 0) looks for waits, in the next one for kernels."""

    def __init__(self, device: str, number: int):
        super().__init__(device, 0)
        self._number, self._profiler = number, None
        self.waits: dict[str, int] = {}  # place -> how often
        self.profile: dict[str, Any] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import torch

        if state.global_step == self._number and self._cuda:
            self._look_for_waits()
        if state.global_step == self._number + 1:
            kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if self._cuda else [])]
            self._profiler = torch.profiler.profile(activities=kinds)
            self._profiler.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import torch

        if self._profiler is not None and not self.profile:
            if self._cuda:
                torch.cuda.synchronize()
            self._profiler.__exit__(None, None, None)
            self.profile = counted(self._profiler.profiler.kineto_results.events(), "CUDA" if self._cuda else "CPU")

    def _look_for_waits(self) -> None:
        """The next call of ``training_step`` (the rows' copies, forward and backward passes) is made where a wait is an error;
        where one is found, once more, to list all of them.
        """
        step = self.trainer.training_step

        def looked(*args: Any, **kwargs: Any) -> Any:
            del self.trainer.training_step
            try:
                with mode("error"):
                    return step(*args, **kwargs)
            except RuntimeError as error:
                if "synchroniz" not in str(error):
                    raise
                self.waits = {place_of(traceback.extract_tb(error.__traceback__)): 1}
            self.trainer.model.zero_grad()
            with mode("warn"), listed() as places:
                total = step(*args, **kwargs)
            self.waits = dict(places) or self.waits
            return total

        self.trainer.training_step = looked

    def about_waits(self) -> str:
        if not self._cuda:
            return "waits for the device: not known on a CPU"
        if not self.waits:
            return "no wait for the device in a step's rows"
        return f"{sum(self.waits.values())} waits for the device in a step's rows: {', '.join(list(self.waits)[:SHOWN])}"

    def in_words(self, step: float) -> str:
        kernels, launched = self.profile["kernel_seconds"], self.profile["launches"]
        if not self._cuda:
            return f"{self.profile['events']:,} operations on a CPU; no kernels; {self.about_waits()}"
        share = f"kernels {kernels / step:.0%} of a step ({1000 * kernels:.1f} of {1000 * step:.1f} ms)"
        return f"{share}, {launched:,} launches; {self.about_waits()}"


@contextmanager
def mode(name: str) -> Iterator[None]:
    import torch

    torch.cuda.set_sync_debug_mode(name)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def listed() -> Iterator[Counter[str]]:
    """Counts torch's warnings about waits by the place that made them."""
    found: Counter[str] = Counter()

    def note(message: Any, category: Any, filename: str, number: int, *args: Any, **kwargs: Any) -> None:
        if "synchroniz" in str(message):
            found[place_of(traceback.extract_stack()[:-1])] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield found


def place_of(frames: Any) -> str:
    """``trainer/step/packed.py:80 in __call__``: the innermost frame of this project, and after it where torch's caller was."""
    every = [frame for frame in frames if "warnings.py" not in frame.filename and "/gpu/launches.py" not in frame.filename]
    own = [frame for frame in every if str(REPOSITORY / "trainer") in frame.filename]
    last = every[-1] if every else None
    named = [f"{short(frame.filename)}:{frame.lineno} in {frame.name}" for frame in (own[-1:] or every[-1:])]
    if own and last is not None and last != own[-1]:
        named.append(f"({short(last.filename)}:{last.lineno} in {last.name})")
    return " ".join(named)


def short(file: str) -> str:
    return file.removeprefix(f"{REPOSITORY}/").rpartition("site-packages/")[2]


def counted(events: Any, device: str) -> dict[str, Any]:
    """Kernels, their seconds (together, where they overlap once), the slowest of them, and launches."""
    spans, names, launched, every = [], Counter[str](), 0, 0
    for event in events:
        every += 1
        name = event.name()
        launched += name.startswith(LAUNCHES)
        is_kernel = str(event.device_type()).endswith("CUDA") and not name.startswith(("Memcpy", "Memset"))
        if is_kernel and not is_annotation(event):
            begin = event.start_ns()
            spans.append((begin, begin + event.duration_ns()))
            names[name] += event.duration_ns()
    slowest = [{"name": name[:120], "ms": spent / 1e6} for name, spent in names.most_common(SHOWN)]
    return {
        "device": device,
        "events": every,
        "launches": launched,
        "kernels": len(spans),
        "kernel_seconds": covered(spans) / 1e9,
        "slowest": slowest,
    }


def is_annotation(event: Any) -> bool:
    """Whether it is a mark of the program, which covers the kernels below it."""
    marked = getattr(event, "is_user_annotation", None)
    return bool(marked()) if callable(marked) else event.name().startswith(("Optimizer.", "ProfilerStep"))


def covered(spans: list[tuple[int, int]]) -> int:
    """The length of the union of ``spans``."""
    total, until = 0, 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, until))
        until = max(until, end)
    return total
