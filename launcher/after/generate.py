"""``launcher generate``: answers of trained weights to the prompts of a file, in batches. An interrupted call can be resumed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..data.prompt import ALONE, kept_prompt
from ..data.prompts import Prompts, read_prompts
from ..errors import UsageError
from ..job.exchange import encoded
from ..job.target import Target
from ..planning.weights import uses
from ..planning.weights.use import Use
from ..runs.known import duration
from ..runs.whole import write_whole
from .chat import Wish
from .target import target
from .tool import Say, Tool, events, held, tell, tool

_EVERY: Final = 5.0  # seconds between two lines about the progress
_HASHED: Final = 1 << 30  # bytes: larger weight files are identified by size and time, not by content


@dataclass(frozen=True)
class Generated:
    """``prompts``: prompts in the file. ``kept``: answers of an earlier call. ``cut``: answers that reached the token limit."""

    run: str
    file: str
    output: Path
    prompts: int
    kept: int
    cut: int

    def json(self) -> dict[str, Any]:
        return {**vars(self), "output": str(self.output)}


def generate(name: str, file: Path, output: Path, wish: Wish, say: Say) -> Generated:
    """Writes one JSON object per prompt of ``file`` to ``output``, in the file's order.

    Answers in ``output`` are kept. ``say``: receives progress lines. Raises UsageError if they were generated with other
    settings, DataError for mistakes in ``file``, and the errors of the process.
    """
    found = target(name)
    prompt = ALONE if found.run is None else kept_prompt(found.run) or ALONE
    prompts = read_prompts(file, found.settings, prompt)
    answers = Answers(output, made_of(found, prompts, wish))
    done = answers.begin()
    waiting = [(row, text) for row, text in prompts.messages if row not in done]
    if done:
        say(f"{output}: {len(done):,} of {len(prompts.messages):,} prompts are answered" + (", resuming" if waiting else ""))
    if waiting:
        place = tool(found, wish.backend, "generate", say)
        _check_room(found, place, waiting, wish, say)
        _ask(place, waiting, prompts, wish, answers, say)
    cut = answers.finish([row for row, _ in prompts.messages])
    return Generated(found.name, prompts.name, output, len(prompts.messages), len(done), cut)


class Answers:
    """The file of answers, and a file beside it with the settings that they were generated with."""

    def __init__(self, output: Path, made_of: Mapping[str, Any]):
        self._output, self._made_of = output, made_of
        self._settings = output.with_name(f"{output.name}.settings.json")

    def begin(self) -> set[int]:
        """The rows that have an answer. Removes an incomplete last line. Raises UsageError if the settings differ."""
        if not self._output.absolute().parent.is_dir():
            raise UsageError(f"cannot write {self._output}: folder {self._output.absolute().parent} not found")
        if not self._output.exists():
            write_whole(self._settings, json.dumps(self._made_of, indent=2) + "\n")
            return set()
        self._check()
        written = self._output.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]  # the cut may be inside a UTF-8 character
        if whole != written:
            write_whole(self._output, whole.decode())
        return set(self._lines())

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        with self._output.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def finish(self, rows: Sequence[int]) -> int:
        """Sorts the lines like ``rows``; returns the number of answers that reached the token limit."""
        lines = self._lines()
        if list(lines) != list(rows):
            write_whole(self._output, "".join(json.dumps(lines[row], ensure_ascii=False) + "\n" for row in rows))
        return sum(line["finish"] == "length" for line in lines.values())

    def _lines(self) -> dict[int, dict[str, Any]]:
        """The complete lines, by row."""
        found = {}
        for number, line in enumerate(self._output.read_text(encoding="utf-8").split("\n")[:-1], start=1):
            try:
                one = json.loads(line)
                found[int(one["row"])] = one
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{self._output}:{number}: not an answer of launcher generate; remove the line") from None
        return found

    def _check(self) -> None:
        if not self._settings.is_file():
            raise UsageError(f"{self._output} exists without {self._settings.name}, which records its settings; use another file")
        before = json.loads(self._settings.read_text(encoding="utf-8"))
        other = [
            f"{name} {before.get(name)!r}, now {value!r}" if name not in ("data", "weights") else f"other {name}"
            for name, value in self._made_of.items()
            if before.get(name) != value
        ]
        if other:
            raise UsageError(
                f"{self._output} was made with other settings: {'; '.join(other)}\n"
                f"    hint:     use another file, or remove {self._output} and answer every prompt again"
            )


def made_of(found: Target, prompts: Prompts, wish: Wish) -> dict[str, Any]:
    """What the answers depend on. ``data`` and ``weights`` are hashes."""
    settings = {"max_tokens": wish.max_tokens, "temperature": wish.temperature, "base": wish.base}
    return {"run": found.name, "weights": _hash_of(found.weights), "data": prompts.sha256, **settings}


def _hash_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for kind in ("safetensors", "bin") for path in folder.glob(f"*.{kind}")):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        digest.update(file.read_bytes() if size <= _HASHED else str(file.stat().st_mtime_ns).encode())
    return digest.hexdigest()


def _check_room(found: Target, place: Tool, waiting: Sequence[tuple[int, str]], wish: Wish, say: Say) -> None:
    """Reports memory and time. Raises MemoryShortage if not even one sequence fits."""
    count = f"{len(waiting):,} {'prompt' if len(waiting) == 1 else 'prompts'}"
    say(f"{count}, at most {len(waiting) * wish.max_tokens * (1 + wish.base):,} tokens to generate")
    weights = held(place)
    if weights is None:
        return
    sides = 1 + (wish.base and found.adapter is not None)

    def planned(texts: Sequence[str]) -> Use:
        return uses.generate(weights, uses.Prompts.of([len(text.encode()) for text in texts]), wish.max_tokens, sides)

    tell(planned([text for _, text in waiting]), say)
    planned([""]).check()


def _ask(place: Tool, waiting: Sequence[tuple[int, str]], prompts: Prompts, wish: Wish, answers: Answers, say: Say) -> None:
    texts, chats, source = dict(waiting), prompts.chats, prompts.name
    done, began, last = 0, 0.0, time.monotonic()
    with place.open("generate", [wish.settings(source=source)]) as session:
        session.send(encoded({"prompts": list(waiting), "chats": {row: chats[row] for row, _ in waiting if row in chats}}))
        for event in events(session, say, f"{source}: not all prompts are answered; the same command continues"):
            if "began" in event:
                began = time.monotonic()
            if "answered" not in event:
                continue
            answers.add([_line(one, texts[one["row"]], chats.get(one["row"])) for one in event["answered"]])
            done, now = done + len(event["answered"]), time.monotonic()
            if now - last >= _EVERY and done < len(waiting):
                left = (now - began) / done * (len(waiting) - done)
                say(f"{done:,} of {len(waiting):,} prompts; about {duration(max(1, left))} left")
                last = now


def _line(one: Mapping[str, Any], prompt: str, chat: Mapping[str, Any] | None) -> dict[str, Any]:
    """One line of the output. ``chat``: the messages, if the prompt is a conversation."""
    sides = {side: answer for side, answer in one.items() if side != "row"}
    *_, trained = sides.values()
    base = {"base": sides["base"]["text"]} if "base" in sides and len(sides) > 1 else {}
    answer = {"answer": trained["text"], **base, "tokens": trained["tokens"], "finish": trained["finish"]}
    messages = {} if chat is None else {"messages": chat["messages"]}
    return {"row": one["row"], "prompt": prompt, **messages, **answer}
