"""Talks with base and trained model, for ``launcher chat``.

    python -m trainer.after.chat TARGET SETTINGS

SETTINGS is JSON: {"max_tokens", "temperature", "base"}. The first answer is {"ready": {"sides", "notices", …}}. A request is
{"ask": text, "alone": true for a conversation of its own} or {"reset": true}. A turn is answered by {"side", "text"} for each
piece, and at its end by {"turn": {side: {"text", "tokens", "finish"}}}, or by {"refused": why}.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher.errors import ExperimentError, LauncherError, Warned, labelled

from ..output import stage
from ..processes.ranks.importing import quickly
from .exchange import Requests, serve, tell


def main(requests: Requests) -> None:
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    with stage("importing torch and transformers", after=0), quickly():
        from . import conversation  # noqa: F401 - what takes long is imported here
    talk(requests, folder, settings, Path(os.environ["DPO_CACHE_ROOT"]))


def talk(requests: Requests, folder: Path, settings: dict[str, Any], cache: Path) -> None:
    """Answers requests until the launcher disconnects."""
    from ..evaluation.generation import Wish
    from .conversation import Conversation, sides_of
    from .loaded import find
    from .prompted import Prompted

    with_base, lost = settings["base"], list[str]()
    try:
        found = find(folder, cache, with_start=with_base)
    except ExperimentError as error:  # also for a run trained elsewhere, with that machine's paths
        found, with_base = find(folder, cache), False
        lost = [Warned(f"no base model beside the trained one: {error.mistakes[0].what}")]
    prompted = Prompted.of(found)
    loaded = found.load()
    wish = Wish(settings["max_tokens"], settings["temperature"], found.experiment.hyperparameters.seed)
    chat = Conversation(loaded, prompted, wish, sides_of(loaded, with_base=with_base))
    if prompted.prompt.has_own:
        lost.append(Warned("the data have system messages, but this conversation has none"))
    notices = [labelled(notice) for notice in (*lost, *prompted.notices)]
    tell({"ready": {"sides": chat.sides, "has_base": loaded.has_base, "device": str(loaded.device), "notices": notices}})
    for asked in requests:
        if "reset" in asked or asked.get("alone"):
            chat.reset()
        if "ask" in asked:
            requests.stop.clear()
            _turn(chat, asked["ask"], requests)


def _turn(chat: Any, text: str, requests: Requests) -> None:
    import torch

    try:
        done = chat.ask(text, lambda side, piece: tell({"side": side, "text": piece}), requests.stop.is_set)
    except LauncherError as error:  # the next turn may work
        tell({"refused": str(error)})
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        tell({"refused": f"out of memory: {str(error).splitlines()[0]}"})
    else:
        tell({"turn": {side: asdict(answer) for side, answer in done.items()}})


if __name__ == "__main__":
    serve(main)
