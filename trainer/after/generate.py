"""Answers many prompts, for ``launcher generate``.

    python -m trainer.after.generate TARGET SETTINGS

SETTINGS is JSON: {"max_tokens", "temperature", "base", "source"}; the request is {"prompts": [[row, user message], …],
"chats": {row: {"messages", "tools"} of a prompt that is a conversation}}. Each batch is answered by {"answered": [{"row", side:
{"text", "tokens", "finish"}}, …]}; the last answer is how many there were.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import DataError, Mistake

from ..output import notices, stage
from ..processes.ranks.importing import quickly
from .exchange import Requests, serve, tell

Chat = Mapping[str, Any]

if TYPE_CHECKING:
    from ..evaluation.generation import Answer


def main(requests: Requests) -> int:
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    with stage("importing torch and transformers", after=0), quickly():
        from . import batches  # noqa: F401 - what takes long is imported here
    asked = next(iter(requests))
    chats = {int(row): chat for row, chat in asked.get("chats", {}).items()}
    return generated(folder, [(row, text) for row, text in asked["prompts"]], settings, Path(os.environ["DPO_CACHE_ROOT"]), chats)


def generated(
    folder: Path, prompts: list[tuple[int, str]], settings: dict[str, Any], cache: Path, chats: Mapping[int, Chat] | None = None
) -> int:
    """Answers the prompts as described above, and returns how many were answered."""
    from ..evaluation.generation import Wish
    from .batches import answered, check_lengths
    from .conversation import sides_of
    from .loaded import find
    from .prompted import Prompted

    found = find(folder, cache, with_start=settings["base"])
    prompted = Prompted.of(found)
    notices(prompted.notices)
    rows = [row for row, _ in prompts]
    with stage(f"tokenizing {len(prompts):,} prompts"):
        ids = [_ids(prompted, row, text, (chats or {}).get(row), settings["source"]) for row, text in prompts]
    loaded = found.load()
    check_lengths(ids, rows, loaded, settings["source"])
    wish = Wish(settings["max_tokens"], settings["temperature"], found.experiment.hyperparameters.seed)

    def told(batch: list[int], done: dict[str, list[Answer]]) -> None:
        lines = [
            {"row": rows[place], **{side: asdict(answers[number]) for side, answers in done.items()}}
            for number, place in enumerate(batch)
        ]
        tell({"answered": lines})

    tell({"began": True})
    answered(loaded, ids, wish, sides_of(loaded, with_base=settings["base"]), told)
    return len(prompts)


def _ids(prompted: Any, row: int, text: str, chat: Chat | None, source: str) -> list[int]:
    try:
        if chat is not None:
            return list(prompted.ids_of(chat["messages"], chat["tools"]))
        found: list[int] = prompted.ids([("user", text)])
    except DataError as error:
        (mistake,) = error.mistakes
        raise DataError(Mistake(f"{source}:{row}", mistake.what.replace("it", "this prompt"), found=mistake.found)) from None
    return found


if __name__ == "__main__":
    serve(main)
