"""What the columns of a table are taken for: layouts of public data sets, of annotation tools and of spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.data.checks.cells import check_rows
from launcher.data.columns.known_names import CHOSEN, PROMPTS, REJECTED, WINNERS
from launcher.data.columns.mapping import columns_from, missing_columns
from launcher.data.columns.proposed import Proposal, proposed
from launcher.data.findings import Findings
from launcher.data.pairs import prepared
from launcher.data.tables.formats import text_of
from launcher.data.tables.table import Row, Table
from launcher.errors import Mistake
from launcher.experiment.schema import Experiment

Cell = Any
ASKED = [f"How hot should oven number {n} be?" for n in range(12)]
GOOD = [f"It should be {200 + n} degrees, with steam for ten minutes." for n in range(12)]
BAD = [f"That depends on many things, such as {n}." for n in range(12)]


def talk(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


ASKED_TALKS = [[{"role": "user", "content": asked}] for asked in ASKED]
GOOD_TALKS = [talk(asked, answer) for asked, answer in zip(ASKED, GOOD, strict=True)]
BAD_TALKS = [talk(asked, answer) for asked, answer in zip(ASKED, BAD, strict=True)]


def table(**columns: Any) -> Table:
    names = [name.replace("__", " ") for name in columns]
    rows = zip(*(value if isinstance(value, list) else [value] * 12 for value in columns.values()), strict=True)
    cells = [dict(zip(names, map(text_of, row), strict=True)) for row in rows]
    return Table("data.csv", tuple(names), tuple(Row(line, one) for line, one in enumerate(cells, 2)), "")


def turn(*values: Cell) -> list[Cell]:
    return [values[n % len(values)] for n in range(12)]


TWO = {"response_a": GOOD, "response_b": BAD}
LAYOUTS: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("TRL", {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}, {"input": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    (
        "LLaMA-Factory",
        {"instruction": ASKED, "input": "", "chosen": GOOD, "rejected": BAD, "system": "You are a baker."},
        {"input": "instruction", "system": "system", "chosen": "chosen", "rejected": "rejected"},
    ),
    (
        "OpenAI",
        {"input": ASKED, "preferred_output": GOOD, "non_preferred_output": BAD},
        {"input": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"},
    ),
    (
        "UltraFeedback binarized",
        {
            "prompt": ASKED, "prompt_id": turn("x", "y"), "chosen": GOOD_TALKS, "rejected": BAD_TALKS, "messages": GOOD_TALKS,
            "score_chosen": 5, "score_rejected": 2,
        },
        {"input": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    ("hh-rlhf", {"chosen": GOOD_TALKS, "rejected": BAD_TALKS}, {"chosen": "chosen", "rejected": "rejected"}),
    (
        "LLaMA-Factory's ShareGPT",
        {"conversations": ASKED_TALKS, "chosen": GOOD, "rejected": BAD},
        {"input": "conversations", "chosen": "chosen", "rejected": "rejected"},
    ),
    (
        "a spreadsheet with other names",
        {"Question": ASKED, "Good__answer": GOOD, "Bad__answer": BAD, "rater": "me"},
        {"input": "Question", "chosen": "Good answer", "rejected": "Bad answer"},
    ),
    (
        "stack-exchange-paired",
        {"qid": list(range(12)), "question": ASKED, "response_j": GOOD, "response_k": BAD},
        {"input": "question", "chosen": "response_j", "rejected": "response_k"},
    ),
    (
        "LMSYS",
        {
            "question_id": turn("x", "y"), "model_a": "gpt", "model_b": "claude",
            "winner": turn("model_a", "model_b", "tie (bothbad)"),
            "conversation_a": GOOD_TALKS, "conversation_b": BAD_TALKS, "language": "English",
        },
        {"answers": ["conversation_a", "conversation_b"], "winner": "winner"},
    ),
    (
        "one column for each winner",
        {"prompt": ASKED, **TWO, "winner_model_a": turn(1, 0), "winner_model_b": turn(0, 1), "winner_tie": 0},
        {"input": "prompt", "answers": list(TWO), "ratings": ["winner_model_a", "winner_model_b"]},
    ),
    (
        "Label Studio",
        {"id": list(range(12)), "prompt": ASKED, "answer1": GOOD, "answer2": BAD, "preference": turn("left", "right")},
        {"input": "prompt", "answers": ["answer1", "answer2"], "winner": "preference"},
    ),
    (
        "PKU-SafeRLHF",
        {"prompt": ASKED, "response_0": GOOD, "response_1": BAD, "better_response_id": turn(0, 1)},
        {"input": "prompt", "answers": ["response_0", "response_1"], "winner": "better_response_id"},
    ),
    (
        "SHP, whose labels of 0 and 1 are not guessed",
        {"history": ASKED, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": turn(0, 1), "score_A": turn(3, 5), "score_B": 4},
        {"input": "history", "answers": ["human_ref_A", "human_ref_B"], "ratings": ["score_A", "score_B"]},
    ),
    (
        "a verdict by the better answer's text",
        {"prompt": ASKED, "model_a_reply": GOOD, "model_b_reply": BAD, "preferred_reply": GOOD},
        {"input": "prompt", "answers": ["model_a_reply", "model_b_reply"], "winner": "preferred_reply"},
    ),
    (
        "another language, by what the cells say",
        {"Frage": ASKED, "Antwort__A": GOOD, "Antwort__B": BAD, "Besser": turn("A", "B")},
        {"input": "Frage", "answers": ["Antwort A", "Antwort B"], "winner": "Besser"},
    ),
    (
        "Google Forms",
        {
            "Prompt__shown": ASKED, "Response__A": GOOD, "Response__B": BAD,
            "Which response is better?": turn("Response A", "Response B", "Both are equally good"), "Why?": "",
        },
        {
            "input": "Prompt shown", "answers": ["Response A", "Response B"], "winner": "Which response is better?",
        },
    ),
    (
        "short answers in another language",
        {"Frage": ASKED, "Antwort__1": turn("Ja", "Ja."), "Antwort__2": "Nein", "Urteil": turn("1 is better", "both good")},
        {"input": "Frage", "answers": ["Antwort 1", "Antwort 2"], "winner": "Urteil"},
    ),
    (
        "three answers with ranks",
        {"prompt": ASKED, "text_a": GOOD, "text_b": BAD, "text_c": GOOD, "rank_a": 1, "rank_b": 2, "rank_c": 3},
        {"input": "prompt", "answers": ["text_a", "text_b", "text_c"], "ranks": ["rank_a", "rank_b", "rank_c"]},
    ),
    (
        "KTO, one rated answer a row",
        {"prompt": turn("Why?", "How?"), "completion": GOOD, "label": turn("True", "False")},
        {"input": "prompt", "answers": "completion", "ratings": "label"},
    ),
    (
        "LLaMA-Factory's KTO, whole conversations",
        {"messages": turn(*GOOD_TALKS[:2], *BAD_TALKS[:2]), "label": turn("True", "True", "False", "False")},
        {"answers": "messages", "ratings": "label"},
    ),
    (
        "thumbs in a log",
        {"user_question": turn("Why?", "How?"), "bot_answer": GOOD, "feedback": turn("thumbs_up", "", "thumbs_down")},
        {"input": "user_question", "answers": "bot_answer", "ratings": "feedback"},
    ),
    (
        "a rank in each row",
        {"Question": turn("Why?", "How?"), "Answer": GOOD, "Rank": turn(1, 1, 2, 2), "Model": turn("a", "a", "b", "b")},
        {"input": "Question", "answers": "Answer", "ranks": "Rank"},
    ),
    (
        "OpenAI's preferences, whose prompt is inside an object",
        {
            "input": [{"messages": asked, "tools": [], "parallel_tool_calls": True} for asked in ASKED_TALKS],
            "preferred_output": [talk[1:] for talk in GOOD_TALKS], "non_preferred_output": [talk[1:] for talk in BAD_TALKS],
        },
        {"input": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"},
    ),
    (
        "Label Studio's JSON",
        {
            "id": list(range(12)),
            "data": [{"prompt": q, "answer1": a, "answer2": b} for q, a, b in zip(ASKED, GOOD, BAD, strict=True)],
            "annotations": turn(*([{"result": [{"value": {"selected": side}}]}] for side in ("left", "right"))),
        },
        {
            "input": "data.prompt", "answers": ["data.answer1", "data.answer2"],
            "winner": "annotations.0.result.0.value.selected",
        },
    ),
    (
        "lists of one text, as the arena's on Kaggle",
        {
            "prompt": [[asked] for asked in ASKED], "response_a": [[one] for one in GOOD], "response_b": [[one] for one in BAD],
            "winner_model_a": turn(1, 0), "winner_model_b": turn(0, 1),
        },
        {
            "input": "prompt.0", "answers": ["response_a.0", "response_b.0"],
            "ratings": ["winner_model_a", "winner_model_b"],
        },
    ),
    (
        "a list of two answers and a verdict",
        {"prompt": ASKED, "summaries": [[{"text": GOOD[0]}, {"text": BAD[0]}]] * 12, "choice": turn("A", "B")},
        {"input": "prompt", "answers": "summaries.text", "winner": "choice"},
    ),
    (
        "whole conversations beside turns in objects, which are no second part of the prompt",
        {
            "conversation": [[{"input": q, "output": a}] for q, a in zip(ASKED, GOOD, strict=True)], "prompt": ASKED,
            "chosen": GOOD_TALKS, "rejected": BAD_TALKS,
        },
        {"input": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    (
        "WebGPT",
        {
            "question": [{"id": "x", "full_text": asked} for asked in ASKED], "answer_0": GOOD, "score_0": 0.5,
            "answer_1": BAD, "score_1": -0.5,
        },
        {"input": "question.full_text", "answers": ["answer_0", "answer_1"], "ratings": ["score_0", "score_1"]},
    ),
    (
        "distilabel",
        {"instruction": ASKED, "generations": [[*pair] for pair in zip(GOOD, BAD, strict=True)], "ratings": [[4, 2]] * 12},
        {"input": "instruction", "answers": "generations", "ratings": "ratings"},
    ),
    (
        "UltraFeedback",
        {
            "source": "x", "instruction": ASKED,
            "completions": [[{"response": text, "overall_score": n} for n, text in enumerate((BAD[0], GOOD[0]))]] * 12,
        },
        {"input": "instruction", "answers": "completions.response", "ratings": "completions.overall_score"},
    ),
]  # fmt: skip


def flat(proposal: Proposal) -> dict[str, Any]:
    mapping = json.loads(json.dumps(dict(proposal.mapping)))
    inputs = mapping.pop("input_columns", {})
    return {**({"input": inputs["prompt"]} if inputs else {}), **mapping}


@pytest.mark.parametrize(("columns", "expected"), [layout[1:] for layout in LAYOUTS], ids=[layout[0] for layout in LAYOUTS])
def test_a_layout_is_recognised_by_names_and_cells(columns: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    found = proposed(table(**columns))
    assert (flat(found), found.missing, found.is_sft) == (expected, None, False)


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        ({"prompt": ASKED, **TWO}, "which column says which answer is better"),
        (
            {"prompt": ASKED, **TWO, "label": turn(0, 1)},
            "which answer is meant by 0, 1 in column 'label' (response_a, response_b or tie)",
        ),
        (
            {"Frage": ASKED, "Antwort__A": GOOD, "Antwort__B": BAD, "Besser": turn("A", "B", "weiß nicht")},
            "which answer is meant by weiß nicht in column 'Besser' (Antwort A, Antwort B or tie)",
        ),
        (
            {"prompt": ASKED, **TWO, "preference": turn("Gemini", "Claude")},
            "which answer is meant by Gemini, Claude in column 'preference' (response_a, response_b or tie)",
        ),
        (
            {"prompt": ASKED, "completion": GOOD, "label": "True"},
            "which columns are the better and the worse answers: each prompt has one answer, in 'completion', and DPO compares "
            "two",
        ),
        (
            {"prompt": turn("Why?", "How?"), "response": GOOD, "helpfulness": turn(1, 4), "correctness": turn(2, 3)},
            "which column rates the answers (helpfulness, correctness)",
        ),
        (
            {"prompt": ASKED, "summaries": [[{"text": GOOD[0]}, {"text": BAD[0]}]] * 12, "choice": turn(0, 1)},
            "which answer is meant by 0, 1 in column 'choice' (A, B or tie)",
        ),
        (
            {"prompt": ASKED, "response_1": GOOD, "response_2": BAD, "preference_strength": turn(-3, 2, 0)},
            "which answer is meant by -3, 2, 0 in column 'preference_strength' (response_1, response_2 or tie)",
        ),
        ({"messages": GOOD_TALKS, "rejected_message": BAD}, "which column has the better answers"),
        ({"prompt": ASKED, "gut": GOOD, "schlecht": BAD}, "which columns are the better and the worse answers"),
        ({"a": GOOD, "chosen": GOOD, "b": BAD, "rejected": BAD}, "which column is the prompt"),
        ({"id": 1, "when": 2}, "which column is the prompt and which columns are the better and the worse answers"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_not_guessed(columns: Mapping[str, Any], missing: str) -> None:
    assert proposed(table(**columns)).missing == missing


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"instruction": ASKED, "input": "", "output": GOOD}, {"input": "instruction", "chosen": "output"}),
        ({"messages": GOOD_TALKS}, {}),
    ],
)
def test_one_answer_to_each_prompt_is_data_for_sft(columns: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    found = proposed(table(**columns))
    assert (flat(found), found.missing, found.is_sft) == (expected, None, True)


def test_rated_answers_of_which_no_two_belong_to_one_prompt_are_told_what_to_add() -> None:
    found = proposed(table(prompt=ASKED, completion=GOOD, label=turn("True", "False")))
    assert found.instead == (
        "add rows with other answers to the same prompts; or keep the rows whose 'label' is good, delete that column, and learn "
        "the answers alone: launcher init --data then writes method: sft"
    )


@pytest.mark.parametrize("answers", [{"chosen": GOOD, "rejected": BAD}, {"output": GOOD}])
def test_a_second_part_of_the_prompt_belongs_to_it(answers: Mapping[str, Any]) -> None:
    found = proposed(table(instruction=ASKED, input=turn("For a small oven.", ""), **answers))
    assert found.mapping["input_columns"] == {"instruction": "instruction", "input": "input"}
    assert (found.roles["prompt"], "not read" in found.roles) == ("instruction and input", False)
    spelt = proposed(table(Question=ASKED, Context__text="A note.", **answers))
    assert spelt.mapping["input_columns"] == {"question": "Question", "context_text": "Context text"}


def test_nothing_is_added_to_a_prompt_of_messages() -> None:
    found = proposed(table(prompt=ASKED_TALKS, input="For a small oven.", chosen=GOOD, rejected=BAD))
    assert (found.mapping["input_columns"], found.roles["not read"]) == ({"prompt": "prompt"}, "input")


SIDES = ("response_a", "response_b", "score_a", "score_b", "rank_1", "rank_2", "answer_1", "answer_2", "left", "right", "A", "B")
NAMES = (
    *PROMPTS[:3],
    *CHOSEN[:2],
    *REJECTED[:2],
    *WINNERS[:2],
    *SIDES,
    "answers",
    "ratings",
    "completions",
    "messages",
    "system",
)
CELLS = [
    *("", "1", "0", "-1", "4,5", "nan", "A", "b", "tie", "left", "[]", "[1, 2]", '["x", "y"]', "['x', 'y'", "{}", '{"a": 1}'),
    *("[[1], [2]]", "[null, null]", '[{"response": "x", "score": 1}, {"response": "y", "score": 2}]'),
    *('[{"response": "x"}, {"score": 2}]', '[{"role": "user", "content": "Hi"}]', "\n\nHuman: Hi\n\nAssistant: Ho"),
    '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]',
    *("An answer of several words, which is long enough.", "Another answer of several words."),
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_a_table_holds_a_whole_proposal_can_be_read_or_its_rows_are_mistakes(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    rows = data.draw(st.lists(st.tuples(*(st.sampled_from(CELLS) for _ in names)), min_size=1, max_size=4))
    made = Table("data.csv", tuple(names), tuple(Row(n, dict(zip(names, row, strict=True))) for n, row in enumerate(rows, 2)), "")
    found = proposed(made)
    if found.missing is not None:
        return
    method = {"method": "sft"} if found.is_sft else {}
    experiment = Experiment.parse(
        {"model_name": "m", "datasets_path": "d", "dpo_column_mapping_config": dict(found.mapping), **method}
    )
    wrong: list[Mistake] = []
    read = prepared(made, experiment, wrong)
    mapping = columns_from(experiment, read)
    assert list(missing_columns(read, mapping, experiment)) == []
    check_rows(read, mapping, Findings(experiment.data_checks))
