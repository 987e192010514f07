from __future__ import annotations

import json
import locale
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from launcher.data.text.pair import Pair
from launcher.errors import DataError, ExperimentError, labelled
from launcher.experiment.schema import Experiment
from tests.trainer.inputs.tokens.chats import CHATML, DATED, NO_SYSTEM, PAIRS, tokenizer, with_system
from trainer.inputs.tokens.tokens import Tokens, tokenize

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Tokens]:
    def run(made: Any, pairs: tuple[Pair, ...] = PAIRS, **hyper: Any) -> Tokens:
        experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyper})
        place = "data/prompt_data.csv:2"
        return tokenize(pairs, made, experiment.hyperparameters, source="train.csv", cache=tmp_path, system=place)

    return run


def refusal(encode: Callable[..., Tokens], template: Any, pairs: tuple[Pair, ...] = PAIRS) -> str:
    with pytest.raises(ExperimentError) as caught:
        encode(tokenizer(template), pairs)
    assert caught.value.exit_code == 42
    return str(caught.value)


def test_the_date_is_that_of_the_setting_and_is_said(encode: Callable[..., Tokens]) -> None:
    made = tokenizer(DATED)
    tokens = encode(made, template_date="2024-07-26")
    assert made.decode(tokens.pairs[0].prompt).startswith("<|im_start|>system\nToday is 26 July 2024.<|im_end|>\n")
    assert tokens.notices == ("the chat template writes the date: 2024-07-26 (template_date)",)
    assert tokens.day == "2024-07-26"


def test_a_date_that_nobody_set_is_said_with_the_setting_that_keeps_it(encode: Callable[..., Tokens]) -> None:
    tokens = encode(tokenizer(DATED))
    (notice,) = tokens.notices
    assert labelled(notice) == (
        f"notice: the chat template writes the date: {tokens.day}, the day of the run's first start, which its resumes keep; "
        f"set `template_date: {tokens.day}` under hyperparameters to give later runs the same tokens and the cached reference"
    )


def test_a_template_without_a_date_says_nothing_of_it_and_ignores_the_day(encode: Callable[..., Tokens]) -> None:
    plain = encode(tokenizer())
    assert (plain.notices, plain.day) == ((), None)
    dated = encode(tokenizer(), template_date="2024-07-26")
    assert dated.pairs == plain.pairs
    assert [labelled(one) for one in dated.notices] == ["warning: template_date has no effect: the chat template writes no date"]


def test_no_clock_zone_locale_variable_or_hash_seed_reaches_the_tokens(
    encode: Callable[..., Tokens], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import chat_template_utils

    template = DATED.replace("'%d %B %Y'", "'%c %Z %s %x %p %A'")
    here = encode(tokenizer(template), template_date="2024-07-26").pairs

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls(2031, 1, 2, 3, 4, 5)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setenv("TZ", "Etc/GMT-14")
    time.tzset()
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"):
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                continue
            assert encode(tokenizer(template), template_date="2024-07-26").pairs == here
    finally:
        locale.setlocale(locale.LC_ALL, before)
        os.environ.pop("TZ")
        time.tzset()
    code = (
        "import sys, json, pathlib, locale\n"
        "locale.setlocale(locale.LC_ALL, '')\n"
        "from launcher.experiment.schema import Experiment\n"
        "from tests.trainer.inputs.tokens.chats import PAIRS, tokenizer\n"
        "from trainer.inputs.tokens.tokens import tokenize\n"
        "h = Experiment.parse({'model_name': 'm', 'datasets_path': 'd', 'hyperparameters': {'template_date': '2024-07-26'}})\n"
        "cache = pathlib.Path(sys.argv[2]) / 'other'\n"
        "found = tokenize(PAIRS, tokenizer(sys.argv[1]), h.hyperparameters, source='a', cache=cache)\n"
        "print(json.dumps([[p.prompt, p.chosen, p.rejected] for p in found.pairs]))"
    )
    env = {**os.environ, "TZ": "Etc/GMT+12", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "7", "PYTHONPATH": str(REPOSITORY)}
    there = subprocess.run(
        [sys.executable, "-c", code, template, str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout.splitlines()[-1]) == [[p.prompt, p.chosen, p.rejected] for p in here]


@pytest.mark.parametrize("drawn", ["{{ [1, 2, 3] | random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_random_numbers_is_refused(encode: Callable[..., Tokens], drawn: str) -> None:
    assert "it draws random numbers, and every run and rank would train on other tokens" in refusal(encode, CHATML + drawn)


def test_the_template_s_own_clock_and_filters_are_left_as_they_were(encode: Callable[..., Tokens]) -> None:
    made = tokenizer(DATED + "{{ [7] | random if messages | length > 9 }}")
    encode(made, template_date="2024-07-26")
    chat = [{"role": "user", "content": "Hi"}]
    assert f"{datetime.now():%Y}" in made.apply_chat_template(chat, tokenize=False)
    assert made.apply_chat_template(chat * 10, tokenize=False).endswith("7")


def test_a_refused_system_message_is_a_mistake_at_the_prompt_s_row(encode: Callable[..., Tokens]) -> None:
    assert refusal(encode, NO_SYSTEM, with_system("You answer as a clerk.")) == (
        "data/prompt_data.csv:2: the model's chat template takes no system message\n"
        "    expected: no system message\n"
        "    found:    'You answer as a clerk.' (the template's error: System role not supported)\n"
        "    hint:     leave system empty, or put its text into user"
    )
    assert encode(tokenizer(NO_SYSTEM)).notices == ()


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{% for m in messages %}", "Unexpected end of template."),
        (CHATML + "{{ nothing.at.all }}", "'nothing' is undefined"),
        (CHATML + "{{ 1 + 'a' }}", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
        (CHATML + "{{ raise_exception('No.\nNever.') }}", "No. Never."),
        (CHATML.replace("m['content']", "m['text']"), "it leaves out the user's text: '<|im_start|>user\\n<|im_end|>\\n"),
        (
            CHATML + "{{ joiner() }}",
            "it writes an object's memory address, which differs in every process: <jinja2.utils.Joiner",
        ),
        ({"tool_use": CHATML, "rag": CHATML}, "ValueError: This model has multiple chat templates with no default"),
    ],
)
def test_a_template_that_cannot_be_used_is_named_without_a_traceback(
    encode: Callable[..., Tokens], template: Any, found: str
) -> None:
    said = refusal(encode, template)
    assert said.startswith("model_name: the model's chat template cannot be used\n")
    assert f"found:    {found}" in said


def test_a_pair_that_the_template_refuses_is_a_mistake_at_its_row(encode: Callable[..., Tokens]) -> None:
    picky = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if 'many' in m['content'] %}{{ raise_exception('no numbers') }}{% endif %}",
    )
    with pytest.raises(DataError) as caught:
        encode(tokenizer(picky))
    assert str(caught.value) == (
        "train.csv:3: the model's chat template refuses this pair\n    found:    'How many?' (the template's error: no numbers)"
    )


def test_the_template_called_default_is_taken_and_its_variables_are_known(encode: Callable[..., Tokens]) -> None:
    named = tokenizer({"default": CHATML + "{# enable_thinking #}", "rag": "{{ enable_thinking }}"})
    tokens = encode(named, enable_thinking=True, thinking_mode="fast", add_generation_prompt=True)
    assert tokens.pairs == encode(tokenizer()).pairs
    assert tokens.notices == (
        "enable_thinking has no effect: the chat template does not use it",
        "thinking_mode has no effect: the chat template does not use it",
    )


def test_plain_text_ends_with_one_end_token_whatever_cell_and_tokenizer_add(encode: Callable[..., Tokens]) -> None:
    ended = tuple(Pair(None, pair.user, pair.chosen + "</s>", pair.rejected, pair.line) for pair in PAIRS)
    for adds in (None, "<s> $A", "<s> $A </s>"):
        made = tokenizer(None, eos="</s>", adds=adds)
        for pairs in (PAIRS, ended):
            tokens = encode(made, pairs)
            begin = "" if adds is None else "<s>"
            assert made.decode(tokens.pairs[0].prompt) == f"{begin}Where is it?\n\n"
            assert made.decode(tokens.pairs[0].chosen) == "At Linden Square.</s>"
            assert made.decode(tokens.pairs[0].rejected) == "Somewhere.</s>"
            assert not any("merges" in notice or "two end tokens" in notice for notice in tokens.notices)
    assert tokens.notices[0] == (
        "train.csv: 2 of 4 answers end with '</s>' already: no second one is added, first the chosen answer at train.csv:2: "
        "'At Linden Square.</s>' → 'Where is it?\\n\\nAt Linden Square.'"
    )
