"""Chats: rows -> the messages of their pairs, with what the rules find in each message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import Mistake
from ..columns.mapping import Columns, answer_of
from ..findings import Findings
from ..tables.table import Row, Table
from ..text.chat import Chat, Message, Messages
from ..text.faults import faults, is_blank
from ..text.messages import Spelling, Unreadable, read_tools

Tools = tuple[Mapping[str, Any], ...] | None


def check_chat(table: Table, row: Row, mapping: Columns, findings: Findings) -> Chat | None:
    """The messages of ``row``, None if they have mistakes; adds what the rules find to ``findings``."""
    messages, wrong = _read(table, row, mapping)
    for column, several in messages.items():
        _check(table, row, column, several, findings)
    for misplaced in wrong:
        findings.unreadable(table, row.line, misplaced.column, misplaced.why)
    if wrong:
        return None
    try:
        return _chat(row, mapping, messages, _tools(table, row, mapping))
    except _Misplaced as misplaced:
        findings.unreadable(table, row.line, misplaced.column, misplaced.why)
        return None


def chat_of(table: Table, row: Row, mapping: Columns) -> Chat:
    """The same of a row without mistakes. An empty prompt: it is a text, in its column."""
    messages, _ = _read(table, row, mapping)
    return _chat(row, mapping, messages, _tools(table, row, mapping))


def with_system(messages: Messages, cells: Mapping[str, Any], mapping: Columns) -> Messages:
    """``messages`` after their row's system message, unless they have their own."""
    text = cells.get(mapping.system) if mapping.system is not None else None
    if not isinstance(text, str) or is_blank(text) or messages[0]["role"] == "system":
        return messages
    return ({"role": "system", "content": text}, *messages)


def _read(table: Table, row: Row, mapping: Columns) -> tuple[Mapping[str, Messages], list[_Misplaced]]:
    """(column -> its messages, what cannot be read)."""
    found, wrong = dict[str, Messages](), list[_Misplaced]()
    for column in mapping.messages:
        try:
            found[column] = mapping.spelling.read(row.cells[column], no_nulls=table.has_types)
        except Unreadable as why:
            wrong.append(_Misplaced(column, why))
    return found, wrong


def _tools(table: Table, row: Row, mapping: Columns) -> Tools:
    """The tools of ``row``; a table need not have the column. Raises _Misplaced."""
    if mapping.tools is None or mapping.tools not in row.cells:
        return None
    try:
        return read_tools(row.cells[mapping.tools], no_nulls=table.has_types)
    except Unreadable as why:
        raise _Misplaced(mapping.tools, why) from None


class _Misplaced(Exception):
    """Messages in the wrong place: ``why``, and in which ``column``."""

    def __init__(self, column: str, why: Unreadable):
        self.column, self.why = column, why


def _check(table: Table, row: Row, column: str, messages: Messages, findings: Findings) -> None:
    """Adds what the rules find in the texts of ``messages``, each rule once."""
    seen: set[str] = set()
    for place, message in enumerate(messages):
        text = message["content"]
        for rule, found in faults(text) if text and not is_blank(text) else ():
            if rule not in seen:
                findings.of_message(rule, table, row.line, column, place, found)
                seen.add(rule)
    size = len(row.cells[column])
    if size > findings.threshold("huge_cell") * 1e6:
        findings.of_cell("huge_cell", table, row.line, column, f"{size / 1e6:.1f} million characters")


def read_prompt(where: str, column: str, cell: str, spelling: Spelling) -> Messages | Mistake:
    """The messages of a prompt without answers; ``where``: the place of its row."""
    try:
        messages = spelling.read(cell)
        _check_prompt(column, messages)
    except Unreadable as wrong:
        why = wrong
    except _Misplaced as misplaced:
        why = misplaced.why
    else:
        return messages
    return Mistake(f"{where}, {column}{why.inside}", why.what, why.expected, why.found, why.hint)


def _chat(row: Row, mapping: Columns, messages: Mapping[str, Messages], tools: Tools) -> Chat:
    """Prompt and answers of one row; raises _Misplaced."""
    asked = next((messages[column] for column in mapping.inputs.values() if column in messages), ())
    prompt_column = next(iter(mapping.inputs.values()))
    answers = {"chosen": mapping.chosen, **({} if mapping.rejected is None else {"rejected": mapping.rejected})}
    names = {name: answer if isinstance(answer, str) else name for name, answer in answers.items()}
    said = {name: _answer(row, answer, messages) for name, answer in answers.items()}
    if mapping.is_whole:
        _check_both_whole(names, messages)
        asked = _begun(prompt_column, names, said, () if prompt_column == mapping.chosen else asked)
        prompt_column = names["chosen"]
        offset = len(asked)
        said = {name: several[offset:] for name, several in said.items()}
    if asked:
        _check_prompt(prompt_column, asked)
    for name, several in said.items():
        _check_answer(names[name], several, len(asked) if mapping.is_whole else 0)
    return Chat(asked, said["chosen"], said.get("rejected"), tools)


def _answer(row: Row, answer: Any, messages: Mapping[str, Messages]) -> Messages:
    if isinstance(answer, str) and answer in messages:
        return messages[answer]
    return ({"role": "assistant", "content": answer_of(row, answer)},)


def _check_both_whole(names: Mapping[str, str], messages: Mapping[str, Messages]) -> None:
    text = next((column for column in names.values() if column not in messages), None)
    if text is not None:
        what = f"text where {next(iter(messages))!r} has a whole conversation"
        raise _Misplaced(text, Unreadable("", what, "both answers as conversations"))


def _begun(column: str, names: Mapping[str, str], whole: Mapping[str, Messages], prompt: Messages) -> Messages:
    """The messages before the answers of ``whole`` conversations: ``prompt``, what both share, or all up to the last question."""
    chosen, rejected = whole["chosen"], whole.get("rejected")
    if prompt:
        for name, several in whole.items():
            if several[: len(prompt)] != prompt:
                place = next(place for place in range(len(prompt)) if several[place : place + 1] != prompt[place : place + 1])
                what, expected = "a conversation that does not begin with the prompt", f"the message of {column}[{place}]"
                raise _Misplaced(names[name], Unreadable(f"[{place}]", what, expected, _shown(several, place)))
        return prompt
    if rejected is None or chosen == rejected:
        last = max((place for place, one in enumerate(chosen) if one["role"] == "user"), default=-1)
        shared = last + 1
    else:
        pairs = enumerate(zip(chosen, rejected, strict=False))
        shared = next((place for place, (one, other) in pairs if one != other), min(len(chosen), len(rejected)))
        _check_answers_begin(names["chosen"], chosen, rejected, shared)
    if not shared:
        what = "the conversation has no question" if rejected is None else "chosen and rejected share no message"
        expected = "a message of the user" if rejected is None else "two conversations with the same prompt"
        raise _Misplaced(names["chosen"], Unreadable("[0]", what, expected, _shown(chosen, 0)))
    return chosen[:shared]


def _check_answers_begin(column: str, chosen: Messages, rejected: Messages, shared: int) -> None:
    """Whole conversations must share their questions: the message that differs at ``shared`` must be the assistant's."""
    others = [several[shared]["role"] for several in (chosen, rejected) if shared < len(several)]
    role = next((role for role in others if role != "assistant"), None)
    if shared and role is not None:
        what = f"chosen and rejected already differ in a message of the {role}"
        found = f"{_shown(chosen, shared)} ≠ {_shown(rejected, shared)}"
        raise _Misplaced(column, Unreadable(f"[{shared}]", what, "two conversations with the same prompt", found))


def _check_prompt(column: str, prompt: Messages) -> None:
    last = len(prompt) - 1
    if prompt[last]["role"] not in ("user", "tool"):
        hint = "leave it out, or move it to the beginning of the answers" if prompt[last]["role"] == "assistant" else None
        what = f"the prompt ends with a message of the {prompt[last]['role']}"
        raise _Misplaced(column, Unreadable(f"[{last}].role", what, "user or tool last", _shown(prompt, last), hint))


def _check_answer(column: str, answer: Messages, begin: int) -> None:
    """``begin``: the place of the answer's first message in its cell."""
    if not answer:
        raise _Misplaced(column, Unreadable(f"[{begin}]", "no answer after the prompt", "a message of the assistant"))
    for place, what in ((0, "begins"), (len(answer) - 1, "ends")):
        role = answer[place]["role"]
        if role != "assistant":
            said = f"an answer that {what} with a message of the {role}"
            raise _Misplaced(column, Unreadable(f"[{begin + place}].role", said, "assistant", _shown(answer, place)))


def _shown(messages: Messages, place: int) -> str | None:
    if place >= len(messages):
        return "no such message"
    one: Message = messages[place]
    text = str(one["content"])
    return f"{one['role']}: {text if len(text) <= 50 else text[:49] + '…'}"
