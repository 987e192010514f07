"""The verbs that generate text with trained weights: chat and generate."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Aborted
from .terminal import completion
from .terminal.options import json_option, tool_option
from .terminal.screen import LABEL, complain, say

if TYPE_CHECKING:
    from ..after.chat import Answer, Chat

_HELP = "/reset forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer"

target_argument = click.argument("name", metavar="RUN|PATH", shell_complete=completion.runs)
max_tokens_option = click.option(
    "--max-tokens", type=click.IntRange(min=1), default=512, metavar="N", help="Most tokens of an answer (default: 512)."
)
temperature_option = click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.0, metavar="T", help="Sample at temperature T (default: 0, greedy)."
)


@click.command("chat", short_help="Talk to the base model and the trained one.")
@target_argument
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="Answer TEXT and end; repeatable.")
@click.option("--base/--no-base", "base", default=True, help="Also answer with the base model (default), or do not.")
@max_tokens_option
@temperature_option
@tool_option
@json_option
def chat(
    name: str, prompts: tuple[str, ...], base: bool, max_tokens: int, temperature: float, backend: str | None, as_json: bool
) -> None:
    """Talk to the base model and the trained one, with the run's prompt, chat template and date.

    RUN|PATH is a run, the folder of a downloaded run, of an adapter or of a model. Base and trained model each keep their own
    history. Without a terminal, each line of standard input is a prompt. Prompts of --prompt and of standard input are separate
    conversations. Answers are greedy and repeat, unless --temperature is given.
    """
    from ..after.chat import Wish, open_chat

    with open_chat(name, Wish(base, max_tokens, temperature, backend), complain) as talk:
        for notice in talk.ready.notices:
            complain(notice)
        if not prompts and not as_json and _is_terminal():
            _converse(talk, max_tokens)
            return
        turns: list[tuple[str, Mapping[str, Answer]]] = []
        for text in prompts or _typed_lines():
            if not as_json:
                if turns:
                    say()
                say(f"{'prompt':<{LABEL}}{text}", indent=LABEL)
            turns.append((text, _turn(talk, text, max_tokens, shown=not as_json, alone=True)))
    if as_json:
        found = [
            {"prompt": text, "answers": {side: answer.json() for side, answer in answers.items()}} for text, answers in turns
        ]
        click.echo(json.dumps({"run": talk.ready.name, "turns": found}, indent=2, ensure_ascii=False))


@click.command("generate", short_help="Answer many prompts with a run's weights.")
@target_argument
@click.option("--data", "file", type=click.Path(path_type=Path), metavar="FILE", required=True, help="File with the prompts.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Write the answers (JSON lines)."
)
@click.option("--base/--no-base", "base", default=False, help="Also answer with the base model, or do not (default).")
@max_tokens_option
@temperature_option
@tool_option
@json_option
def generate(
    name: str, file: Path, output: Path, base: bool, max_tokens: int, temperature: float, backend: str | None, as_json: bool
) -> int:
    """Answer many prompts with a run's weights, in batches. After an interruption, the same command resumes.

    FILE is CSV with the run's input columns, .jsonl with the same keys or with "prompt", or .txt with one prompt a line. The
    output's lines have row, prompt, answer, tokens and finish (stop, or length where --max-tokens cut it); with --base also base.
    """
    from ..after.chat import Wish
    from ..after.generate import generate as answer_all

    try:
        found = answer_all(name, file, output, Wish(base, max_tokens, temperature, backend), complain)
    except KeyboardInterrupt:
        complain("interrupted; the same command resumes")
        if as_json:
            raise
        return Aborted.exit_code
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return 0
    kept = f" ({found.kept:,} from earlier)" if found.kept else ""
    cut = f"; {found.cut:,} cut at {max_tokens:,} tokens" if found.cut else ""
    say(f"{found.prompts:,} {'answer' if found.prompts == 1 else 'answers'} of {found.run}{kept}{cut}")
    say(f"written: {found.output}")
    return 0


def _converse(talk: Chat, max_tokens: int) -> None:
    """Reads messages from the terminal until the user ends the conversation."""
    import readline  # noqa: F401 - gives input() a history and its keys

    say(f"{talk.ready.name} on {talk.ready.device}: {' and '.join(talk.ready.sides)}. {_HELP}.")
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            say(_HELP)
            continue
        if text in ("/quit", "/exit", "/bye"):
            return
        if text:
            _handle(talk, text, max_tokens)
            click.echo()


def _handle(talk: Chat, text: str, max_tokens: int) -> None:
    """Handles a command or a message."""
    from ..after.chat import Refused

    if text == "/reset":
        talk.reset()
        say("The conversation is forgotten.")
    elif text.startswith("/") and " " not in text:
        say(_HELP if text in ("/help", "/?") else f"unknown command {text}; {_HELP}")
    else:
        try:
            _turn(talk, text, max_tokens, shown=True)
        except Refused as error:
            say(f"{error}. Forget the conversation with /reset.")


def _turn(talk: Chat, text: str, max_tokens: int, *, shown: bool, alone: bool = False) -> Mapping[str, Answer]:
    """Sends a message, and prints the answers while they are generated."""
    from .terminal.flow import Flow

    flows: dict[str, Flow] = {}

    def told(side: str, piece: str) -> None:
        if shown and side not in flows:
            if flows:
                [*flows.values()][-1].end()
            flows[side] = Flow(side)
        if shown:
            flows[side].add(piece)

    found = talk.ask(text, told, alone=alone)
    if not shown:
        return found
    if flows:
        [*flows.values()][-1].end()
    for side in found.keys() - flows.keys():
        say(f"{side:<{LABEL}}(an empty answer)")
    cut = [side for side, answer in found.items() if answer.finish == "length"]
    if cut:
        say(f"{'':<{LABEL}}({' and '.join(cut)}: cut at {max_tokens:,} tokens, see --max-tokens)", indent=LABEL)
    if any(answer.finish == "stopped" for answer in found.values()):
        say(f"{'':<{LABEL}}(stopped)")
    return found


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _typed_lines() -> Iterator[str]:
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


VERBS: tuple[click.Command, ...] = (chat, generate)
