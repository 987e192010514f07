import hashlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.pairs import Pairs, Source, read_pairs, write_processed
from launcher.data.prompt import Prompt
from launcher.data.tables.reading import Reading
from launcher.data.text.pair import Pair
from launcher.errors import DataError, ExperimentError, LauncherError, Warned
from launcher.experiment.schema import Experiment

PLAIN = "prompt,chosen,rejected\n"
PROMPTS = "name,system,user\n"


def read(root: Path, train: str, *, validation: str | None = None, prompts: str | None = None, **settings) -> Pairs:
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    names = {"training_data.csv": train, "validation.csv": validation, "prompt_data.csv": prompts}
    for name, text in names.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8", newline="")
    if validation is not None:
        settings["validation_filename"] = "validation.csv"
    return read_pairs(Experiment.parse({"model_name": "m", "datasets_path": "data", **settings}), Reading(root))


def mapping(**columns) -> dict:
    return {"dpo_column_mapping_config": columns}


def mistakes(root: Path, *args, kind: type[LauncherError] = DataError, **settings) -> str:
    with pytest.raises(kind) as caught:
        read(root, *args, **settings)
    return str(caught.value)


def test_without_a_prompt_table_the_prompt_column_is_the_user_message(tmp_path):
    train, validation = PLAIN + "Hi,good,bad\n", PLAIN + "Bye,yes,no\n"
    assert read(tmp_path, train, validation=validation) == Pairs(
        train=(Pair(None, "Hi", "good", "bad", 2),),
        validation=(Pair(None, "Bye", "yes", "no", 2),),
        sources=(
            Source("train", "data/training_data.csv", hashlib.sha256(train.encode()).hexdigest(), 1),
            Source("validation", "data/validation.csv", hashlib.sha256(validation.encode()).hexdigest(), 1),
        ),
        notices=(),
        prompt=Prompt(None, ("", "prompt", "")),
        mapped=("prompt", "chosen", "rejected"),
    )


def test_the_prompt_row_is_filled_from_the_mapped_columns(tmp_path):
    pairs = read(
        tmp_path,
        "question,context,good,bad\nWhy?,a note,x,y\n",
        prompts=PROMPTS + 'other,,{nothing}\nmine,Be brief.,"{{literal}} {query}\n{context}, {query}"\n',
        prompt_name="mine",
        **mapping(input_columns={"query": "question", "context": "context"}, chosen="good", rejected="bad"),
    )
    assert pairs.train == (Pair("Be brief.", "{literal} Why?\na note, Why?", "x", "y", 2),)
    assert [(s.role, s.rows) for s in pairs.sources] == [("train", 1), ("prompts", 2)]


def test_an_empty_system_cell_means_no_system_message(tmp_path):
    assert read(tmp_path, PLAIN + "Hi,a,b\n", prompts=PROMPTS + "prompt_default,,{prompt}\n").train[0].system is None


@given(cell=st.text(st.sampled_from("{}prompt!:0 a")).filter(str.strip))
def test_braces_in_a_cell_are_text(tmp_path_factory, cell):
    pairs = read(tmp_path_factory.mktemp("root"), f'{PLAIN}"{cell}",a,b\n', prompts=PROMPTS + "prompt_default,,<{prompt}>\n")
    assert pairs.train[0].user == f"<{cell}>"


@given(parts=st.lists(st.sampled_from(["{{", "}}", "{prompt}", "text", "'", " "])))
def test_a_template_means_what_it_means_to_str_format(tmp_path_factory, parts):
    template = "".join(["{prompt}", *parts])
    pairs = read(tmp_path_factory.mktemp("root"), PLAIN + "Hi,a,b\n", prompts=f'{PROMPTS}prompt_default,,"{template}"\n')
    assert pairs.train[0].user == template.format(prompt="Hi")


def test_a_mapped_answer_is_a_json_object_whose_values_are_text(tmp_path):
    pairs = read(
        tmp_path,
        'prompt,score,why,bad_score,bad_why\nHi,3,"{""a"": [1]}",null,schön "so"\n',
        **mapping(chosen={"why": "why", "score": "score"}, rejected={"score": "bad_score", "why": "bad_why"}),
    )
    assert pairs.train[0].chosen == r'{"why": "{\"a\": [1]}", "score": "3"}'
    assert pairs.train[0].rejected == r'{"score": "null", "why": "schön \"so\""}'


def test_mistakes_of_prompts_training_and_validation_come_together(tmp_path):
    report = mistakes(
        tmp_path,
        PLAIN + 'Hi,same,same\n ,a,b\n"x\ny",a,\n,,\nHi,a,b\x07c\n',
        validation="prompt,choosen,rejected\nHi,a,b\n",
        prompts=PROMPTS + "prompt_defalt,,{prompt}\n",
    )
    assert report == (
        "data/prompt_data.csv: no prompt named 'prompt_default', which prompt_name sets\n"
        "    found:    prompt_defalt\n"
        "    hint:     did you mean 'prompt_defalt'?\n"
        "data/training_data.csv:2: chosen and rejected are equal\n"
        "    hint:     change or delete the row: it states no preference\n"
        "data/training_data.csv:3: empty cell in column 'prompt'\n"
        "data/training_data.csv:4: empty cell in column 'rejected'\n"
        "data/training_data.csv:6: empty row\n"
        "    hint:     delete it\n"
        "data/training_data.csv:7: control character in column 'rejected'\n"
        "    expected: text, line breaks and tabs\n"
        "    found:    U+0007 at character 2 of the cell\n"
        "data/validation.csv:1: missing column 'chosen'\n"
        "    found:    prompt, choosen, rejected\n"
        "    hint:     did you mean 'choosen'?"
    )


def test_a_table_with_other_column_names_is_one_mistake_with_the_setting_that_names_them(tmp_path):
    assert mistakes(tmp_path, "Frage;Gute Antwort;Schlechte Antwort\nHi;a;b\n") == (
        "data/training_data.csv:1: missing columns 'prompt', 'chosen', 'rejected'\n"
        "    found:    Frage, Gute Antwort, Schlechte Antwort\n"
        "    hint:     name your columns: "
        "dpo_column_mapping_config: {input_columns: {prompt: COLUMN}, chosen: COLUMN, rejected: COLUMN}"
    )
    assert mistakes(tmp_path, "prompt,better,worse\nHi,a,b\n") == (
        "data/training_data.csv:1: missing columns 'chosen', 'rejected'\n"
        "    found:    prompt, better, worse\n"
        "    hint:     name your columns: dpo_column_mapping_config: {chosen: better, rejected: worse}"
    )
    compared = "prompt,response_a,response_b,winner\nHi,a,b,A\nHo,a,b,tie\n"
    hint = "    hint:     name your columns: dpo_column_mapping_config: {answers: [response_a, response_b], winner: winner}"
    assert mistakes(tmp_path, compared).endswith(f"\n{hint}")
    assert len(read(tmp_path, compared, **yaml.safe_load(hint.partition("columns: ")[2])).train) == 1


def test_an_empty_row_is_one_mistake_though_an_equal_answer_beside_an_empty_prompt_is_two(tmp_path):
    assert mistakes(tmp_path, PLAIN + ",x,x\n,,\nHi,a,b\n") == (
        "data/training_data.csv:2: empty cell in column 'prompt'\n"
        "data/training_data.csv:2: chosen and rejected are equal\n"
        "    hint:     change or delete the row: it states no preference\n"
        "data/training_data.csv:3: empty row\n"
        "    hint:     delete it"
    )


def test_a_cell_that_is_not_mapped_may_hold_anything(tmp_path):
    assert read(tmp_path, "id,prompt,chosen,rejected\n\x07,Hi,a,b\n,Hi,a,c\n").train[1].rejected == "c"


def test_prompt_names_are_listed_with_the_nearest_first(tmp_path):
    report = mistakes(tmp_path, PLAIN + "Hi,a,b\n", prompts=PROMPTS + "x,,\nshort,,\nlong_one,,\n", prompt_name="long_on")
    assert "found:    long_one, short, x\n    hint:     did you mean 'long_one'?" in report


def test_prompt_names_must_be_there_and_unique(tmp_path):
    prompts = PROMPTS + "prompt_default,,{prompt}\n,,{prompt}\nprompt_default,,{prompt}\n"
    assert mistakes(tmp_path, PLAIN + "Hi,a,b\n", prompts=prompts) == (
        "data/prompt_data.csv:3: the prompt has no name\n"
        "    expected: a name in column 'name'\n"
        "data/prompt_data.csv:4: duplicate prompt name 'prompt_default'\n"
        "    found:    first used on line 2"
    )


def test_a_prompt_table_needs_its_three_columns(tmp_path):
    assert mistakes(tmp_path, PLAIN + "Hi,a,b\n", prompts="name,sytem\nx,y\n") == (
        "data/prompt_data.csv:1: the prompt table has no column 'system'\n"
        "    hint:     did you mean 'sytem'?\n"
        "data/prompt_data.csv:1: the prompt table has no column 'user'"
    )


def test_placeholders_and_mapping_must_name_each_other(tmp_path):
    report = mistakes(
        tmp_path,
        "q,c,chosen,rejected\nx,y,a,b\n",
        prompts=PROMPTS + 'prompt_default,Use {query}.,"{querry} {query!r}"\n',
        **mapping(input_columns={"query": "q", "context": "c"}),
    )
    assert report == (
        "data/prompt_data.csv:2: system contains the placeholder {query}\n"
        "    expected: placeholders in user only\n"
        "    hint:     for a system message of each row name its column in dpo_column_mapping_config: system\n"
        "data/prompt_data.csv:2: {querry} in the user template has no column: "
        "add `querry: <column>` to input_columns (it has: query, context)\n"
        "    hint:     did you mean 'query'?\n"
        "data/prompt_data.csv:2: {query!r} in the user template has no column in input_columns (it has: query, context)\n"
        "    hint:     did you mean 'query'?\n"
        "data/prompt_data.csv:2: the user template does not use {query}, which input_columns maps to 'q'\n"
        "data/prompt_data.csv:2: the user template does not use {context}, which input_columns maps to 'c'"
    )


def test_an_unmatched_brace_in_the_template_is_shown_with_what_is_around_it(tmp_path):
    prompts = PROMPTS + 'other,,{\nprompt_default,,"{prompt} {{a} and {"\n'
    assert mistakes(tmp_path, PLAIN + "Hi,a,b\n", prompts=prompts) == (
        "data/prompt_data.csv:3: unmatched '}' in user\n"
        '    found:    "{prompt} {{a} and {"\n'
        "    hint:     write '}}' for a literal '}'\n"
        "data/prompt_data.csv:3: unmatched '{' in user\n"
        '    found:    "{prompt} {{a} and {"\n'
        "    hint:     write '{{' for a literal '{'"
    )


ALPACA = "instruction,input,chosen,rejected\nSort it.,c a b,x,y\nSay hello.,,x,z\n"
JOINED = mapping(input_columns={"instruction": "instruction", "input": "input"})


def test_several_input_columns_without_a_prompt_table_are_paragraphs_of_which_the_later_may_be_empty(tmp_path):
    pairs = read(tmp_path, ALPACA, **JOINED)
    assert [pair.user for pair in pairs.train] == ["Sort it.\n\nc a b", "Say hello."]
    assert pairs.notices == (
        "the prompt is instruction and input, with an empty line between them",
        "data/training_data.csv: 'input' is empty in 1 of 2 rows, whose prompts leave it out",
    )
    assert mistakes(tmp_path, ALPACA.replace("Say hello.", ""), **JOINED) == (
        "data/training_data.csv:3: empty cell in column 'instruction'"
    )


def test_an_optional_part_of_a_prompt_table_s_template_is_left_out_where_its_cell_is_empty(tmp_path):
    prompts = PROMPTS + 'prompt_default,,"{?Input: {input}\n}Task: {instruction}"\n'
    pairs = read(tmp_path, ALPACA, prompts=prompts, **JOINED)
    assert [pair.user for pair in pairs.train] == ["Input: c a b\nTask: Sort it.", "Task: Say hello."]
    assert pairs.notices == ("data/training_data.csv: 'input' is empty in 1 of 2 rows, whose prompts leave it out",)


def test_a_prompt_of_optional_parts_needs_one_of_them(tmp_path):
    prompts = PROMPTS + 'prompt_default,,"{?{instruction}}{? {input}}"\n'
    train = ALPACA + ",only this,x,y\n,,x,y\n"
    assert mistakes(tmp_path, train, prompts=prompts, **JOINED) == "data/training_data.csv:5: empty cell in column 'instruction'"


def test_no_column_is_added_to_a_prompt_of_messages(tmp_path):
    asked = '[{""role"": ""user"", ""content"": ""Hi""}]'
    train = f'instruction,input,chosen,rejected\n"{asked}",b,x,y\n'
    assert mistakes(tmp_path, train, kind=ExperimentError, **JOINED) == (
        "input_columns: column 'instruction' holds whole prompts, as messages: no other column can be added\n"
        "    expected: one input column\n"
        "    found:    instruction, input"
    )


def test_a_prompt_s_name_needs_a_prompt_table(tmp_path):
    assert mistakes(tmp_path, PLAIN + "1,3,4\n", kind=ExperimentError, prompt_name="mine") == (
        "prompt_name: no prompt table for the prompt 'mine'\n    hint:     set prompt_filename"
    )


def test_empty_mappings_are_the_experiment_s_mistake(tmp_path):
    report = mistakes(tmp_path, PLAIN + "Hi,a,b\n", kind=ExperimentError, **mapping(input_columns={}, chosen={}))
    assert report == (
        "input_columns: the mapping is empty\n"
        "    expected: placeholder: column\n"
        "chosen: the mapping is empty\n"
        "    expected: a column, or JSON key: column"
    )


def test_what_is_allowed_but_worth_a_look_is_noticed_with_counts(tmp_path):
    pairs = read(
        tmp_path,
        'id,prompt,chosen,rejected\n1,Hi,a,b\n2,Hi,a,b\n3,Ho,a b,"a  b"\n4,Hi,"c\n",b\n',
        validation=PLAIN + "Hi,a,b\nHe,a,b\n",
        prompts="name,note,system,user\nprompt_default,,Answer in {language}.,{prompt}\n",
    )
    assert pairs.notices == (
        "data/training_data.csv: 1 of 4 rows have answers that differ only in white space (line 4)",
        "data/training_data.csv: 1 of 4 cells in column 'chosen' begin or end with white space, which is kept (line 5)",
        "data/training_data.csv: 1 of 4 training pairs repeat an earlier one exactly (line 3)",
        "data/validation.csv: 1 of 2 validation pairs are also training pairs: evaluations look better than they are (line 2)",
        "data/training_data.csv: unused columns: id (1 of 4)",
        "data/prompt_data.csv: unused columns: note (1 of 4)",
        "prompt 'prompt_default': system contains {language}, which is not filled in (only user is); "
        "for a system message of each row add system: COLUMN to dpo_column_mapping_config",
    )
    assert [isinstance(notice, Warned) for notice in pairs.notices] == [True, False, False, True, False, False, True]
    assert pairs.train[3].chosen == "c\n"


def test_a_column_whose_labels_group_the_validation_pairs_is_used(tmp_path):
    rows = (
        "a,Hi,x,y,Be kind to everybody.,{0}\na,He,x,y,Be kind to everybody.,{1}\nb,Ho,x,y,Be brief.,{2}\nb,Hu,x,y,Be brief.,{3}\n"
    )
    head = "topic,prompt,chosen,rejected,tone,id\n"
    train, validation = head + rows.format(1, 2, 3, 4), head + rows.replace("x,", "z,").format(5, 6, 7, 8)
    assert read(tmp_path, train, validation=validation).notices == (
        "data/training_data.csv: unused columns: tone, id (2 of 6)",
        "data/validation.csv: unused columns: tone, id (2 of 6)",
    )
    assert read(tmp_path, train).notices == ("data/training_data.csv: unused columns: topic, tone, id (3 of 6)",)


def test_a_column_that_other_tools_make_a_part_of_the_prompt_is_no_label_but_a_warning(tmp_path):
    rows = "prompt,chosen,rejected,system,history,id\nHi,a,b,Be brief.,,1\nHo,a,b,Be brief.,,2\n"
    pairs = read(tmp_path, rows)
    assert pairs.notices == (
        "data/training_data.csv: column 'system' is in no prompt; "
        "to put it before each prompt, add system: system to dpo_column_mapping_config",
        "data/training_data.csv: unused columns: history, id (2 of 6)",
    )
    assert [isinstance(notice, Warned) for notice in pairs.notices] == [True, False]


@pytest.mark.parametrize("name", ["sys", "System prompt", "sys_msg", "persona"])
def test_an_unread_column_of_system_messages_is_told_the_setting_that_reads_it(tmp_path, name):
    rows = f"prompt,chosen,rejected,{name}\nHi,a,b,Be brief.\nHo,a,c,Be brief.\n"
    (warning,) = read(tmp_path, rows).notices
    assert isinstance(warning, Warned)
    assert warning.endswith(f"is in no prompt; to put it before each prompt, add system: {name} to dpo_column_mapping_config")
    assert len(read(tmp_path, rows, **mapping(system=name)).notices) == 1


def test_an_unread_second_part_of_the_prompt_is_told_the_setting_that_reads_it(tmp_path):
    rows = "prompt,chosen,rejected,input,context\nHi,a,b,3,x\n"
    warning, notice = read(tmp_path, rows).notices
    assert warning == (
        "data/training_data.csv: column 'input' is in no prompt; "
        "to put it behind each prompt, write input_columns: {prompt: prompt, input: input}"
    )
    assert (isinstance(warning, Warned), notice) == (True, "data/training_data.csv: unused columns: context (1 of 5)")
    setting = yaml.safe_load(warning.partition("write ")[2])
    assert read(tmp_path, rows, **mapping(**setting)).train[0].user == "Hi\n\n3"


def test_a_system_message_may_hold_json(tmp_path):
    system = '{"role": "judge"}'
    prompts = PROMPTS + 'prompt_default,"{""role"": ""judge""}",{prompt}\n'
    pairs = read(tmp_path, PLAIN + "Hi,a,b\n", prompts=prompts)
    assert (pairs.train[0].system, pairs.notices) == (system, ())


def test_processed_pairs_are_written_one_a_line_and_leave_no_older_file(tmp_path):
    pairs = read(tmp_path, PLAIN + 'Hi,"ä\nb",c\n')
    folder = tmp_path / "out" / "dataset"
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_text("an older run's")
    assert write_processed(pairs, folder) == (folder / "train.jsonl",)
    assert [p.name for p in folder.iterdir()] == ["train.jsonl"]
    text = (folder / "train.jsonl").read_text(encoding="utf-8")
    assert text == '{"system": null, "user": "Hi", "chosen": "ä\\nb", "rejected": "c", "line": 2}\n'


def test_processed_validation_pairs_lie_beside_those_of_the_training(tmp_path):
    pairs = read(tmp_path, PLAIN + "Hi,a,b\n", validation=PLAIN + "Ho,a,b\n")
    paths = write_processed(pairs, tmp_path / "out")
    assert [json.loads(p.read_text())["user"] for p in paths] == ["Hi", "Ho"]


def test_columns_whose_names_contradict_the_mapping_are_a_warning_unless_the_health_rule_is_off(tmp_path):
    text = "prompt,Good answer,Bad answer\nHi,a,b\n"
    mapped = mapping(chosen="Bad answer", rejected="Good answer")
    (warning,) = read(tmp_path, text, **mapped).notices
    assert isinstance(warning, Warned)
    assert warning == (
        "the chosen answers come from column 'Bad answer' and the rejected ones from 'Good answer': they look swapped; "
        "check chosen and rejected in dpo_column_mapping_config"
    )
    assert read(tmp_path, text, **mapped, health={"swapped_columns": "off"}).notices == ()
    assert read(tmp_path, text, **mapping(chosen="Good answer", rejected="Bad answer")).notices == ()


def test_an_answer_that_most_rows_share_is_a_warning(tmp_path):
    def rows(same: int, of: int) -> str:
        return PLAIN + "".join(f"Q{n},good {n},{'I do not know.' if n < same else f'bad {n}'}\n" for n in range(of))

    (warning,) = read(tmp_path, rows(15, 24)).notices
    assert isinstance(warning, Warned)
    assert warning == (
        "data/training_data.csv: 15 of 24 rejected answers are the same text: the model learns that text, and not what makes an "
        "answer better (lines 2, 3, 4 …); give each prompt an answer of its own"
    )
    assert read(tmp_path, rows(12, 24)).notices == ()
    assert read(tmp_path, rows(15, 24), data_checks={"shared_answer": {"action": "warn", "threshold": 0.7}}).notices == ()
    assert read(tmp_path, rows(15, 24), data_checks={"shared_answer": "off"}).notices == ()
    assert read(tmp_path, rows(19, 19)).notices == (), "a few rows"
    report = mistakes(tmp_path, rows(24, 24), data_checks={"shared_answer": "error"})
    assert report.startswith("data/training_data.csv:2: rejected: the same answer as in many other rows\n")


def test_chosen_answers_that_are_mostly_far_longer_than_the_rejected_ones_are_a_warning(tmp_path):
    long, short = "The oven should be at 230 degrees and full of steam", "Hot enough at 230 degrees"

    def rows(longer: int, of: int) -> str:
        lines = (f"Q{n},{long} {n},{short} {n}" for n in range(longer))
        return PLAIN + "".join(f"{line}\n" for line in [*lines, *(f"R{n},ab {n},ba {n}" for n in range(of - longer))])

    (warning,) = read(tmp_path, rows(13, 24)).notices
    assert isinstance(warning, Warned)
    assert warning == (
        "data/training_data.csv: 13 of 24 training pairs have a chosen answer at least 1.5 times as long as the rejected one: "
        "the model may learn length in place of content (lines 2, 3, 4 …); balance the lengths, or set hyperparameters.ld_alpha "
        "below 1"
    )
    assert read(tmp_path, rows(12, 24)).notices == ()
    assert read(tmp_path, rows(19, 19)).notices == (), "a few rows"
    assert read(tmp_path, rows(24, 24), data_checks={"longer_chosen": {"action": "warn", "threshold": 2}}).notices == ()
    assert read(tmp_path, rows(24, 24), data_checks={"longer_chosen": "off"}).notices == ()
    mixed = rows(20, 20) + "".join(f"S{n},{short} {n},{long} {n}\n" for n in range(16))
    assert read(tmp_path, mixed).notices == (), "others lean to the other side"
    words = PLAIN + "".join(f"Q{n},yes {n},no {n}\n" for n in range(24))
    assert read(tmp_path, words).notices == (), "a few characters are no length"


@pytest.mark.parametrize(
    ("name", "cells", "is_verdict"),
    [
        ("preference", ("A", "B", "A", "tie"), True),
        ("winner", ("model_a", "model_b", "tie", "model_a"), True),
        ("Better response", ("1", "2", "2", ""), True),
        ("preference", ("A", "A", "A", "A"), False),
        ("label", ("billing", "shipping", "billing", "shipping"), False),
        ("part", ("A", "B", "A", "B"), False),
        ("preference_score", ("1", "2", "2", "1"), False),
        ("label", ("4", "5", "4", "5"), False),
        ("label", ("0", "1", "1", "0"), True),
        ("choice", ("The second response is better", "response_a", "both are good", "A"), True),
    ],
)
def test_a_column_that_says_which_answer_is_better_is_a_warning_also_beside_validation_data(tmp_path, name, cells, is_verdict):
    rows = [f"Q{n},x{n},y{n},{cell}\n" for n, cell in enumerate(cells)]
    head = f"prompt,response_a,response_b,{name}\n"
    mapped = mapping(chosen="response_a", rejected="response_b")
    other = "".join(row.replace("Q", "V") for row in rows)
    for validation in (None, head + other):
        notices = read(tmp_path, head + "".join(rows), validation=validation, **mapped).notices
        found = [notice for notice in notices if isinstance(notice, Warned)]
        assert len(found) == is_verdict * (1 if validation is None else 2)
        assert all(f"column {name!r} (" in notice and "chosen always comes from response_a" in notice for notice in found)
        keys = f"answers: [response_a, response_b], winner: {name}"
        assert all(f"write {keys} in place of chosen and rejected" in notice for notice in found)


def test_the_setting_that_the_warning_of_an_unread_verdict_writes_reads_it(tmp_path):
    text = "prompt,response_a,response_b,winner\nQ1,x1,y1,A\nQ2,x2,y2,B\n"
    [warning] = read(tmp_path, text, **mapping(chosen="response_a", rejected="response_b")).notices
    keys = warning.partition("write ")[2].partition(" in place of")[0]
    pairs = read(tmp_path, text, dpo_column_mapping_config=yaml.safe_load(f"{{{keys}}}"))
    assert [pair.chosen for pair in pairs.train] == ["x1", "y2"]


def test_answers_of_two_forms_are_noticed(tmp_path):
    pairs = read(tmp_path, PLAIN + "Hi,good,bad\n", **mapping(chosen={"answer": "chosen"}, rejected="rejected"))
    assert pairs.train[0].chosen == '{"answer": "good"}'
    assert pairs.notices == ("chosen is a JSON object and rejected is plain text: the model learns the format first",)


def test_chosen_and_rejected_on_one_column_are_one_mistake_of_the_mapping(tmp_path):
    text = mistakes(tmp_path, PLAIN + "Hi,a,b\nBye,c,d\n", kind=ExperimentError, **mapping(chosen="chosen", rejected="chosen"))
    assert text == (
        "rejected: the same column as chosen: no pair states a preference\n    expected: another column\n    found:    chosen"
    )


def test_json_answers_with_other_keys_get_a_notice(tmp_path):
    pairs = read(tmp_path, PLAIN + "Hi,a,b\n", **mapping(chosen={"answer": "chosen"}, rejected={"reply": "rejected"}))
    assert pairs.notices == (
        "the JSON answers have different keys (chosen: answer; rejected: reply): the model learns the format first",
    )


def test_short_columns_of_the_validation_rows_that_are_not_mapped_can_name_groups(tmp_path):
    header = "prompt,chosen,rejected,topic,note,empty\n"
    rows = f"Hi,a,b,bread,{'x' * 81},\nBye,c,d,tea,short,\n"
    assert read(tmp_path, header + rows, validation=header + rows).columns == {"topic": ("bread", "tea")}
