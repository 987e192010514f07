from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values, load_dotenv

from launcher.errors import ExperimentError, Mistake, UsageError
from launcher.experiment.files import check_files, load, read_env, read_files
from launcher.experiment.loaded import Loaded

GOOD = """\
e:
  experiment_id: 1
  model_name: m
  datasets_path: d
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Makes a working directory with the given file and goes there."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "configs/a.yml") -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


def said(text: str | bytes, write: Write) -> str:
    """The whole report about a file."""
    write(text)
    return "\n".join(map(str, check_files().mistakes))


def refusal(name: str | None = "e", **options: object) -> str:
    with pytest.raises(ExperimentError) as caught:
        load(name, **options)
    return str(caught.value)


# --- what is read


def test_a_file_becomes_an_experiment_with_the_place_of_every_value(write: Write) -> None:
    write("conf: &conf\n  r: 8\n  target_modules: [q_proj, v_proj]\n" + GOOD + "  hyperparameters: *conf\n")
    loaded = load("e")
    assert loaded.experiment.hyperparameters.r == 8
    assert (loaded.key, loaded.file) == ("e", Path("configs/a.yml"))
    assert loaded.origins == {
        ("experiment_id",): "configs/a.yml:5",
        ("model_name",): "configs/a.yml:6",
        ("datasets_path",): "configs/a.yml:7",
        ("hyperparameters", "r"): "configs/a.yml:2",
        ("hyperparameters", "target_modules", 0): "configs/a.yml:3",
        ("hyperparameters", "target_modules", 1): "configs/a.yml:3",
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5e-6", 5e-6),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("007", "007"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, meant: object, write: Write) -> None:
    from launcher.experiment.text.yaml_nodes import Source, data
    from launcher.experiment.text.yaml_text import compose

    text = f"a: {written}"
    node, mistakes = compose(text, Source.of("a.yml", text))
    assert mistakes == []
    assert node is not None
    value = data(node)["a"]
    assert (value, type(value)) == (meant, type(meant))


def test_words_that_yaml_1_1_would_read_as_false_mean_what_they_say(write: Write) -> None:
    write(GOOD + "  hyperparameters: {eval_strategy: no, load_in_4bit: yes}\n  health: {first_loss: off}\n")
    experiment = load("e").experiment
    assert experiment.hyperparameters.eval_strategy == "no"
    assert experiment.hyperparameters.load_in_4bit is True
    assert experiment.health.first_loss.action == "off"


def test_a_merge_key_takes_what_is_not_written_out_and_the_first_of_two_blocks(write: Write) -> None:
    write("a: &a {r: 1, beta: 0.5}\nb: &b {r: 2, seed: 3}\n" + GOOD + "  hyperparameters:\n    <<: [*a, *b]\n    beta: 0.2\n")
    loaded = load("e")
    h = loaded.experiment.hyperparameters
    assert (h.r, h.beta, h.seed) == (1, 0.2, 3)
    assert loaded.origins[("hyperparameters", "seed")] == "configs/a.yml:2"


def test_an_anchor_that_is_written_twice_means_its_latest_value(write: Write) -> None:
    write("a: &x {r: 1}\nb: &x {r: 2}\n" + GOOD + "  hyperparameters: *x\n")
    assert load("e").experiment.hyperparameters.r == 2


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(write: Write) -> None:
    write(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load("e").origins[("datasets_path",)] == "configs/a.yml:4"


def test_both_endings_are_read_in_order_and_subfolders_are_not(write: Write) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.yml", "d.json"):
        write(GOOD, f"configs/{name}")
    assert read_files().files == (Path("configs/a.yml"), Path("configs/b.yaml"))


def test_a_file_that_is_named_is_the_only_one_that_is_read(write: Write) -> None:
    write("broken: [", "configs/a.yml")
    write(GOOD, "mine.yml")
    assert load("e", file=Path("mine.yml")).file == Path("mine.yml")


# --- mistakes of the text


def test_where_there_are_only_configs_of_other_tools_the_command_that_takes_one_over_is_named(write: Write) -> None:
    write("base_model: m\nrl: dpo\n", "configs/axolotl.yml")
    with pytest.raises(ExperimentError) as refused:
        load("e")
    assert "no experiment found" in str(refused.value)
    assert "launcher init --from configs/axolotl.yml" in str(refused.value)


def test_a_tab_is_named_as_such(write: Write) -> None:
    assert said("a:\n\tb: 1\n\tc: 2\n", write) == (
        "configs/a.yml:2:1: a tab in the indentation\n"
        "    | \tb: 1\n"
        "    | ^\n"
        "    hint:     2 lines begin with a tab; replace the tabs with spaces"
    )


def test_a_duplicate_key_is_reported_at_its_second_place(write: Write) -> None:
    assert said(GOOD + "  topic: a\n  topic: b\n", write) == (
        "configs/a.yml:6:3: duplicate key 'topic'\n    |   topic: b\n    |   ^^^^^\n    hint:     first defined in line 5"
    )


def test_two_experiments_of_one_name_are_a_duplicate_key(write: Write) -> None:
    assert said(GOOD + GOOD, write).startswith("configs/a.yml:5:1: duplicate key 'e'")


@pytest.mark.parametrize("key", ["mode[_name", "beta(2)", "str", "none"])
def test_an_unknown_key_is_named_whatever_it_is(write, key):
    assert said(f"{GOOD}  {key}: 1\n", write).startswith(f"configs/a.yml:5:3: unknown key {key!r}")


def test_a_mapping_merges_once(write):
    text = GOOD + "a: &a {r: 1}\nb: &b {r: 2}\nc:\n  <<: *a\n  <<: *b\n"
    assert said(text, write) == (
        "configs/a.yml:9:3: duplicate key '<<'\n    |   <<: *b\n    |   ^^\n"
        "    hint:     first defined in line 8; merge several with <<: [*first, *second]"
    )


def test_an_undefined_alias_is_reported_with_the_nearest_anchor_and_causes_no_other_mistakes(write: Write) -> None:
    text = "conf: &conf {r: 1}\ne:\n  experiment_id: 1\n  datasets_path: d\n  model_name: *model\n  hyperparameters: *cnf\n"
    assert said(text, write) == (
        "configs/a.yml:5:15: alias *model has no anchor\n"
        "    |   model_name: *model\n"
        "    |               ^^^^^^\n"
        "    expected: &model above this line\n"
        "configs/a.yml:6:20: alias *cnf has no anchor\n"
        "    |   hyperparameters: *cnf\n"
        "    |                    ^^^^\n"
        "    expected: &cnf above this line\n"
        "    hint:     did you mean 'conf'?"
    )


def test_an_alias_above_its_anchor_is_told_where_the_anchor_is(write: Write) -> None:
    assert "hint:     &conf is defined below, in line 6; move it above" in said(
        GOOD + "  hyperparameters: *conf\nc: &conf {r: 1}\n", write
    )


def test_a_merge_of_an_undefined_alias_does_not_make_keys_missing(write: Write) -> None:
    text = "e:\n  <<: *base\n  experiment_id: 1\n"
    assert [line for line in said(text, write).splitlines() if line.startswith("configs")] == [
        "configs/a.yml:2:7: alias *base has no anchor"
    ]


def test_merging_something_that_is_no_mapping_is_a_mistake(write: Write) -> None:
    assert said(GOOD + "  <<: 3\n", write).startswith("configs/a.yml:5:3: << must merge a mapping")


def test_an_alias_inside_its_own_anchor_is_a_mistake(write: Write) -> None:
    assert said("a: &a [*a]\n", write) == (
        "configs/a.yml:1:8: alias *a is inside its own anchor\n    | a: &a [*a]\n    |        ^^"
    )


def test_an_alias_bomb_is_refused_before_it_is_expanded(write: Write) -> None:
    bomb = "x0: &x0 [1, 2]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}, *x{i - 1}]\n" for i in range(1, 60))
    assert "more than 10000 values (aliases expanded)" in said(bomb, write)  # expanded, it would not end


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a: " + "{a: " * 10_000, "- " * 5_000])
def test_deep_nesting_is_refused_without_a_crash(text: str, write: Write) -> None:
    report = said(text, write)
    assert "nested more than 50 levels deep" in report
    assert max(map(len, report.splitlines())) < 140  # the line is cut around its column


def test_all_mistakes_of_a_text_come_at_once_with_the_syntax_that_ends_it(write: Write) -> None:
    places = [line.split(": ")[0] for line in said("a: 1\na: 2\nb: *c\nd: !x 3\ne: 'open\n", write).splitlines() if "yml" in line]
    assert places == ["configs/a.yml:2:1", "configs/a.yml:3:4", "configs/a.yml:4:4", "configs/a.yml:5:4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: the file is empty"),
        ("# only a comment\n", "1:1: the file is empty"),
        ("- a\n", "1:1: the file is not a mapping"),
        ("word\n", "1:1: the file is not a mapping"),
        (b"a: 1\nb: \xc3\xa9\xff\n", "2:5: the file is not UTF-8"),
        ("a: 1\nb: \x1b[31m\n", "2:4: the character U+001B is not allowed in YAML"),
        (GOOD + "---\n" + GOOD, "5:1: second document in the file"),
        ("a: 'open\nb: 1\n", "1:4: this quote is not closed"),
        ("a: [1, 2\nb: 3\n", "1:4: this list is not closed, or a comma is missing"),
        ("a: {b: 1\n", "1:4: this mapping is not closed, or a comma is missing"),
        ("a: [\n", "1:4: the text ends inside an unclosed list or mapping"),
        ("a: [,]\n", "1:5: missing value"),
        ("a: b: c\n", "1:5: second ':' in this line"),
        ("a: @b\n", "1:4: a value cannot begin with '@'"),
        ("a:\n  b: 1\n c: 2\n", "3:2: the indentation does not match the lines above"),
        ("a: !!python/object:os.system x\n", "1:4: tag !!python/object:os.system is not supported"),
        ("a: !x {b: 1}\n", "1:4: tag !x is not supported"),
        ("? [a]\n: b\n", "1:3: a key must be text"),
    ],
)
def test_mistakes_of_the_text_are_in_plain_words_at_their_place(text: str | bytes, message: str, write: Write) -> None:
    report = said(text, write).splitlines()
    assert report[0] == f"configs/a.yml:{message}"
    assert "\x1b" not in "".join(report)


def test_a_file_that_is_not_there_is_a_mistake_with_the_nearest_name(write: Write) -> None:
    write(GOOD, "first.yml")
    assert refusal(file=Path("frst.yml")) == ("frst.yml: file not found\n    hint:     did you mean 'first.yml'?")


def test_no_file_at_all_points_to_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal() == (
        "configs: no experiment file found\n    expected: *.yml or *.yaml\n    hint:     write a first one: launcher init"
    )


def test_a_huge_file_is_refused(write: Write) -> None:
    assert said("a: " + "x" * 1_000_001, write).startswith("configs/a.yml: the file is too large")


# --- mistakes of the values


def test_every_value_that_is_wrong_is_marked_where_it_stands(write: Write) -> None:
    text = GOOD + (
        "  topic: 1.10\n"
        "  framewrk: trl\n"
        "  hyperparameters:\n"
        "    beta: &b much\n"
        "    learning_rat: 1e-4\n"
        "    target_modules: [a, 1.5]\n"
        "    max_length: 3\n"
    )
    assert said(text, write) == (
        "configs/a.yml:5:10: topic must be text (in e)\n"
        "    |   topic: 1.10\n"
        "    |          ^^^^\n"
        "    found:    1.1\n"
        '    hint:     quote it: "1.10"\n'
        "configs/a.yml:6:3: unknown key 'framewrk' (in e)\n"
        "    |   framewrk: trl\n"
        "    |   ^^^^^^^^\n"
        "    hint:     did you mean 'framework'?\n"
        "configs/a.yml:8:14: hyperparameters.beta must be a number (in e)\n"
        "    |     beta: &b much\n"
        "    |              ^^^^\n"
        '    found:    "much"\n'
        "configs/a.yml:9:5: unknown key 'learning_rat' (in e)\n"
        "    |     learning_rat: 1e-4\n"
        "    |     ^^^^^^^^^^^^\n"
        "    hint:     did you mean 'learning_rate'?\n"
        "configs/a.yml:10:25: hyperparameters.target_modules.1 must be text (in e)\n"
        "    |     target_modules: [a, 1.5]\n"
        "    |                         ^^^\n"
        "    found:    1.5\n"
        '    hint:     quote it: "1.5"\n'
        "configs/a.yml:11:5: use max_seq_length (this project's name for max_length) (in e)\n"
        "    |     max_length: 3\n"
        "    |     ^^^^^^^^^^"
    )


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("learning_rate: 1", "move it to hyperparameters"),
        ("adam_beta1: 0.9", "move it to hyperparameters"),
        ("gpus: 1", "move it to launch"),
        ("namespace: a", "move it to launch.kubernetes"),
        ("bucket_name: a", "move it to storage_config"),
        ("hyperparameters: {topic: a}", "move it to the top level of the experiment"),
        ("launch: {chosen: a}", "move it to dpo_column_mapping_config"),
    ],
)
def test_a_key_in_the_wrong_section_is_told_where_it_belongs(written: str, hint: str, write: Write) -> None:
    assert said(f"{GOOD}  {written}\n", write).endswith(f"\n    hint:     {hint}")


def test_a_setting_that_is_refused_later_is_placed_where_it_is_written(write: Write) -> None:
    write(GOOD + "  launch:\n    gpus: 9\n")
    with pytest.raises(ExperimentError) as refused, load("e").placed():
        raise ExperimentError([Mistake("launch.gpus", "too many"), Mistake("launch.nodes", "is nowhere")])
    assert str(refused.value) == (
        "configs/a.yml:6:11: launch.gpus: too many\n    |     gpus: 9\n    |           ^\nlaunch.nodes: is nowhere"
    )


def test_two_experiments_of_one_id_are_a_warning_of_check(write: Write) -> None:
    write(GOOD + GOOD.replace("e:", "f:", 1))
    (warning,) = check_files().warnings
    assert warning == "e (configs/a.yml:1), f (configs/a.yml:5) share experiment_id 1 and its output folder exp_1"


def test_a_folder_in_place_of_a_file_is_not_its_own_nearest_name(write: Write) -> None:
    Path("dir.yml").mkdir()
    assert refusal(file=Path("dir.yml")) == "dir.yml: cannot read the file: is a directory"


def test_a_missing_key_is_reported_at_the_name_of_the_experiment(write: Write) -> None:
    assert said("e:\n  experiment_id: 1\n  datasets_path: d\n", write) == (
        "configs/a.yml:1:1: model_name is missing (in e)\n    | e:\n    | ^\n    expected: hub id, a local folder, or s3://…"
    )


def test_a_mistake_in_a_block_of_two_experiments_is_reported_once_where_the_block_is(write: Write) -> None:
    text = "conf: &conf\n  r: x\n" + "".join(
        f"{key}:\n  experiment_id: {key}\n  model_name: m\n  datasets_path: d\n  hyperparameters: *conf\n" for key in ("e1", "e2")
    )
    assert said(text, write) == (
        'configs/a.yml:2:6: hyperparameters.r must be a whole number (in e1, e2)\n    |   r: x\n    |      ^\n    found:    "x"'
    )


def test_mistakes_of_all_files_come_together(write: Write) -> None:
    write("a: [", "configs/b.yml")
    report = said(GOOD + "  topic: {}\n", write)
    assert [line.split(":")[0] for line in report.splitlines() if line.startswith("configs")] == [
        "configs/b.yml",
        "configs/a.yml",
    ]


def test_one_value_in_place_of_a_list_is_told_without_an_index(write: Write) -> None:
    assert said(GOOD + "  hyperparameters: {loss_type: hing}\n", write).startswith(
        "configs/a.yml:5:32: hyperparameters.loss_type must be one of"
    )


def test_a_wrong_part_of_a_value_is_told_instead_of_the_whole(write: Write) -> None:
    write(GOOD + "  launch:\n    env: {A: [1]}\n")
    assert [m.where for m in check_files().mistakes] == ["configs/a.yml:6:14"]


def test_a_value_that_may_be_a_secret_is_not_shown(write: Write) -> None:
    report = said(GOOD + "  hyperparameters:\n    hub_token: hf_abc\n  launch: {env: {API_KEY: [hf_abc]}}\n", write)
    assert "hub_token: ******" in report
    assert "hf_abc" not in report


def test_an_experiment_can_be_loaded_beside_a_wrong_one_and_a_broken_file(write: Write) -> None:
    write(GOOD + "wrong: {experiment_id: 2}\n")
    write("a: [", "configs/b.yml")
    assert load("e").experiment.experiment_id == "1"
    assert "configs/b.yml:1:4: the text ends inside an unclosed list" in refusal("other")  # it may stand behind the mistake


def test_a_block_that_was_meant_to_be_an_experiment_is_a_warning(write: Write) -> None:
    write("base: &base {model_name: m}\nforgot:\n  model_name: m\nconf: {r: 1}\nnumber: 3\n" + GOOD)
    survey = check_files()
    assert survey.mistakes == ()
    assert survey.warnings == ("configs/a.yml:2: forgot has model_name but no experiment_id: it is not an experiment",)


# --- which experiment a name means


@pytest.mark.parametrize("name", ["first", "1", "exp_1", "experiment_1"])
@pytest.mark.parametrize("written", ["1", "exp_1", "'experiment_1'"])
def test_a_name_is_a_key_or_an_id_with_or_without_its_prefix(name: str, written: str, write: Write) -> None:
    write(f"first: {{experiment_id: {written}, model_name: m, datasets_path: d}}\n")
    assert load(name).key == "first"


def test_a_key_goes_before_an_id(write: Write) -> None:
    write(
        "exp_1: {experiment_id: 2, model_name: m, datasets_path: d}\nexp_2: {experiment_id: 1, model_name: m, datasets_path: d}\n"
    )
    assert load("exp_1").experiment.experiment_id == "2"
    assert load("1").key == "exp_2"


def test_an_unknown_name_lists_what_the_files_hold_nearest_first(write: Write) -> None:
    write("small: {experiment_id: 7}\nlarge: {experiment_id: 8}\nconf: {r: 1}\n")
    assert refusal("larg") == (
        "configs/a.yml: no experiment 'larg'\n"
        "    expected: one of\n"
        "              large  id 8  configs/a.yml:2\n"
        "              small  id 7  configs/a.yml:1\n"
        "    hint:     did you mean 'large'?"
    )
    assert "hint:     conf (configs/a.yml:3) is a block: it has no experiment_id" in refusal("conf")


def test_a_name_with_two_meanings_is_refused(write: Write) -> None:
    write("a: {experiment_id: 1}\n", "configs/a.yml")
    write("b: {experiment_id: exp_1}\n", "configs/b.yml")
    assert refusal("1") == (
        "configs/a.yml, configs/b.yml: '1' matches 2 experiments\n"
        "    expected: one of\n"
        "              a  id 1  configs/a.yml:1\n"
        "              b  id exp_1  configs/b.yml:1\n"
        "    hint:     use the key"
    )
    write("a: {experiment_id: 2}\n", "configs/b.yml")
    assert refusal("a").endswith("\n    hint:     name the file with -f")


def test_without_a_name_the_only_experiment_is_meant(write: Write) -> None:
    write(GOOD)
    assert load(None).key == "e"
    write("f: {experiment_id: 2}\n", "configs/b.yml")
    assert refusal(None).startswith("configs/a.yml, configs/b.yml: several experiments found; name one\n    expected: one of\n")


# --- --set


def override(write: Write, *options: str) -> Loaded:
    write("conf: &conf {r: 1}\n" + GOOD + "  hyperparameters: *conf\nf: {experiment_id: 2, hyperparameters: *conf}\n")
    return load("e", overrides=options)


def test_an_override_is_yaml_and_its_origin_is_the_option(write: Write) -> None:
    options = ("hyperparameters.learning_rate=1e-5", "launch.env=[A, B]", "topic=a = b", "launch.kubernetes.queue=q")
    loaded = override(write, *options)
    assert loaded.experiment.hyperparameters.learning_rate == 1e-5
    assert loaded.experiment.launch.env == ("A", "B")
    assert loaded.experiment.launch.kubernetes.queue == "q"
    assert loaded.experiment.topic == "a = b"
    assert loaded.origins[("hyperparameters", "learning_rate")] == "--set"
    assert loaded.origins[("hyperparameters", "r")] == "configs/a.yml:1"


def test_an_override_of_a_shared_block_changes_one_experiment(write: Write) -> None:
    override(write, "hyperparameters.r=3")
    nodes = {found.key: found.node for found in read_files().found}
    assert nodes["e"].entries["hyperparameters"].node == nodes["f"].entries["hyperparameters"].node


def test_an_override_heals_what_the_file_has_wrong(write: Write) -> None:
    write(GOOD.replace("  model_name: m\n", ""))
    assert load("e", overrides=["model_name=x"]).experiment.model_name == "x"


def test_mistakes_of_overrides_are_marked_in_the_option(write: Write) -> None:
    with pytest.raises(ExperimentError) as caught:
        override(write, "hyperparameters.learning_rat=1", "hyperparameters.beta=x", "model_name.a=1", "topic=[a")
    assert str(caught.value) == (
        "--set: model_name has no keys (in e)\n"
        "    | model_name.a=1\n"
        "    |            ^\n"
        "    expected: a mapping\n"
        "    found:    m\n"
        "--set: this list is not closed, or a comma is missing (in e)\n"
        "    | topic=[a\n"
        "    |       ^\n"
        "--set: hyperparameters.beta must be a number (in e)\n"
        "    | hyperparameters.beta=x\n"
        "    |                      ^\n"
        '    found:    "x"\n'
        "--set: unknown key 'learning_rat' (in e)\n"
        "    | hyperparameters.learning_rat=1\n"
        "    |                 ^^^^^^^^^^^^\n"
        "    hint:     did you mean 'learning_rate'?"
    )


def test_a_character_that_begins_no_value_is_named_in_an_option(write: Write) -> None:
    with pytest.raises(ExperimentError, match="a value cannot begin with '@'"):
        override(write, "topic=@x")


@pytest.mark.parametrize("option", ["topic", "=3", "a..b=1", ".a=1"])
def test_an_override_that_names_nothing_is_a_mistake_of_the_command_line(option: str, write: Write) -> None:
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        override(write, option)


# --- .env

CORNERS = {
    "plain": "A=a b # comment\nB=x#y\nC= # comment\nD=#kept\nE=\nF",
    "export and blanks": "export A = 1\n  B\t=\t2  \nexport\tC='3'\n'quoted key'=4\nwith.dots-and=5\n",
    "quotes": "A='a # \"b\"' # c\nB=\"a \\\"b\\\" # c\"\nC='it\\'s'\nD=a'b'c\nE=\"\"\nF='\\n'",
    "escapes": "A=\"one\\ntwo\\ttab \\\\ \\x\"\nB=one\\ntwo\nC='one\\ntwo'\n",
    "lines": "A=\"-----BEGIN\nabc=\n\n# kept\n-----END\n\"\nB='x\ny'\n",
    "windows": 'A=1\r\nB="2\r\n3"\r\n\r\n# c\r\nC=4',
    "variables": "A=1\nB=${A}2 $A\nC='${A}3'\nD=${NOWHERE:-4}${NOWHERE}\nE=${E}\nA=5\nF=\"${A} ${HOME_OF_TEST}\"\n",
    "names alone": "A\nexport B\nexport C=1\n",
    "unicode": "\ufeffA=\u00e4 \u00a0\nB=\u201cx\u201d\n",
    "comments alone": "# A=1\n\n   # B=2\n",
}


@pytest.mark.parametrize("text", CORNERS.values(), ids=CORNERS)
def test_the_environment_file_is_read_as_python_dotenv_reads_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME_OF_TEST", "/home")
    for name in "ABCDEF":
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    (tmp_path / ".env").write_bytes(text.encode())
    expected = {name: value for name, value in dotenv_values(tmp_path / ".env").items() if value is not None}
    assert read_env(tmp_path) == before | expected
    assert expected or text.startswith("#")


def test_the_environment_wins_over_its_file_unless_the_file_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("BOTH=file\nBUILT=${BOTH}/x\n")
    words = {"": False, "0": False, "false": False, "1": True, "True": True}
    for said, override in words.items():
        environment = {"PATH": "/bin", "BOTH": "environment", "DPO_DOTENV_OVERRIDE": said}
        monkeypatch.setattr(os, "environ", environment)
        env = read_env(tmp_path)
        assert (env["BOTH"], env["BUILT"]) == (("file", "file/x") if override else ("environment", "environment/x")), said
        load_dotenv(tmp_path / ".env", override=override)
        assert env == environment, "as python-dotenv loads it"
    monkeypatch.setenv("DPO_DOTENV_OVERRIDE", "maybe")
    with pytest.raises(UsageError, match="DPO_DOTENV_OVERRIDE must be one of 1, true, yes, on, 0, false, no, off; found 'maybe'"):
        read_env(tmp_path)


def test_the_environment_file_itself_may_say_that_it_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTH", "environment")
    (tmp_path / ".env").write_text("BUILT=${BOTH}\nBOTH=file\nDPO_DOTENV_OVERRIDE=yes\nAFTER=${BOTH}\n")
    env = read_env(tmp_path)
    assert (env["BOTH"], env["BUILT"], env["AFTER"]) == ("file", "environment", "file")
    monkeypatch.setenv("DPO_DOTENV_OVERRIDE", "no")
    assert read_env(tmp_path)["BOTH"] == "environment"


def test_without_an_environment_file_the_environment_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY", "this")
    assert read_env(tmp_path)["ONLY"] == "this"


def test_malformed_lines_of_the_environment_file_are_told_by_line_and_column_without_their_text(write: Write) -> None:
    first = "hunter2\nA='hunter2' hunter2\nB=fine\n\n  =hunter2\n"
    write(f'{first}D="hunter2\n2" hunter2\nE=x\0y\n  export C = "hunter2\nhunter2 \\"\n', ".env")
    with pytest.raises(ExperimentError) as caught:
        read_env(Path())
    assert [f"{mistake.where}: {mistake.what}" for mistake in caught.value.mistakes] == [
        ".env:1:1: not an assignment",
        ".env:2:13: text follows the closing quote of A",
        ".env:5:3: not an assignment",
        ".env:7:4: text follows the closing quote of D",
        ".env:8:1: E contains a NUL byte",
        ".env:9:14: the quote of C is not closed",
    ]
    assert "hunter" not in str(caught.value)


def test_a_key_without_quotes_in_the_environment_file_is_one_mistake(write: Write) -> None:
    write("A=1\nKEY=-----BEGIN PRIVATE KEY-----\nhunter2/\nhunter2+\n-----END PRIVATE KEY-----\n\n# B\nhunter2\n", ".env")
    with pytest.raises(ExperimentError) as caught:
        read_env(Path())
    assert str(caught.value) == (
        ".env:3:1: lines 3 to 5 are not assignments\n"
        "    expected: KEY=VALUE\n"
        "    hint:     if it belongs to KEY, put the whole value into quotes\n"
        ".env:8:1: not an assignment\n"
        "    expected: KEY=VALUE"
    )


def test_contradictions_are_reported_together_with_the_mistakes_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "experiments.yml"
    file.write_text(
        "exp_1:\n"
        "  experiment_id: 1\n"
        "  model_name: m/n\n"
        "  datasets_path: data\n"
        "  spreadsheet_id: abc\n"
        "  hyperparameters:\n"
        "    beta: fast\n"
        "    load_in_4bit: true\n"
        "    load_in_8bit: true\n"
        "    label_smoothing: 0.1\n"
        "    loss_type: hinge\n"
        "    eval_strategy: stepz\n"
        "    load_best_model_at_end: true\n"
    )
    with pytest.raises(ExperimentError) as caught:
        load("exp_1", root=tmp_path, file=file)
    places = [mistake.where.rsplit(":", 2)[1] for mistake in caught.value.mistakes]
    assert sorted(places, key=int) == ["1", "7", "9", "10", "12"], str(caught.value)
    assert "load_best_model_at_end" not in str(caught.value), "eval_strategy may have been meant to be steps"


def test_a_short_name_that_is_wrong_hides_no_contradiction_that_only_has_its_letters(tmp_path: Path) -> None:
    file = tmp_path / "experiments.yml"
    file.write_text(
        "e:\n  experiment_id: 1\n  model_name: m/n\n  datasets_path: data\n"
        "  hyperparameters: {r: 0, load_in_4bit: true, load_in_8bit: true}\n"
    )
    with pytest.raises(ExperimentError) as caught:
        load("e", root=tmp_path, file=file)
    assert "load_in_8bit conflicts with load_in_4bit" in str(caught.value)


def test_an_empty_path_is_said_to_be_empty_text_and_a_single_choice_is_named(write: Write) -> None:
    written = f'{GOOD}  hyperparameters: {{model_output_dir: ""}}\n  storage_config: {{provider: gs}}\n'
    text = said(written, write)
    assert "hyperparameters.model_output_dir must be non-empty text" in text
    assert "storage_config.provider must be s3" in text


def test_a_secret_in_an_experiment_is_refused_at_its_place_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HF_TOKEN=a-token-of-mine\n")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yml").write_text(
        "one:\n  experiment_id: 1\n  model_name: m/n\n  datasets_path: d\n"
        "  topic: with a-token-of-mine\n  launch:\n    env: {USER: hf_abcdefghijABCDEFGHIJ1234}\n"
    )
    with pytest.raises(ExperimentError) as caught:
        load("one", root=tmp_path)
    words = str(caught.value)
    assert "a.yml:5:10: topic contains the value of HF_TOKEN" in words
    assert "a.yml:7:17: launch.env.USER contains a secret" in words
    assert "a-token-of-mine" not in words
    assert "hf_abc" not in words
    assert "    |   topic: with [hidden: HF_TOKEN]" in words


def test_an_endpoint_with_a_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yml").write_text(
        "one:\n  experiment_id: 1\n  model_name: m/n\n  datasets_path: d\n"
        "  storage_config: {bucket_name: b, endpoint_url: 'https://anna:geheim@minio.example'}\n"
    )
    with pytest.raises(ExperimentError, match=r"storage_config\.endpoint_url contains a user name or a password") as caught:
        load("one", root=tmp_path)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "near"), [("optim: sgdd", "sgd"), ("lr_scheduler_type: linea", "linear"), ("logging_strategy: step", "steps")]
)
def test_a_name_that_transformers_does_not_know_is_refused_with_the_nearest(tmp_path: Path, line: str, near: str) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yml").write_text(
        f"one:\n  experiment_id: 1\n  model_name: m/n\n  datasets_path: d\n  hyperparameters:\n    {line}\n"
    )
    with pytest.raises(ExperimentError) as caught:
        load("one", root=tmp_path)
    name, value = line.split(": ")
    words = str(caught.value)
    assert f"a.yml:6:{7 + len(name)}: hyperparameters.{name} must be one of " in words
    assert f'found:    "{value}"' in words
    assert f"did you mean '{near}'?" in words
