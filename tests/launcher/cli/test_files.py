from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from launcher.cli import launcher as group

from .conftest import Launcher

EXPERIMENT = """\
conf: &conf
  learning_rate: 1e-4
demo:
  experiment_id: 1
  topic: a first try
  model_name: org/model
  datasets_path: data
  validation_filename: validation.csv
  hyperparameters: *conf
"""
ROWS = "prompt,chosen,rejected\n" + "".join(f"question {n},good answer {n},bad answer {n}\n" for n in range(3))


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def write_all(text: str = EXPERIMENT) -> None:
    write("configs/a.yml", text)
    write("data/training_data.csv", ROWS)
    write("data/validation.csv", ROWS.replace("question", "other"))


def test_help_has_a_whole_sentence_for_each_verb_in_a_narrow_terminal(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = launcher("--help")
    lines = out[out.index("Get started:") :].splitlines()
    verbs = [line for line in lines if line.startswith("  ")]
    assert code == 0
    assert [line for line in verbs if not re.fullmatch(r"  [a-z]+ +[A-Z].*[^.]\.", line)] == []
    assert sorted(line.split()[0] for line in verbs) == sorted(group.commands)


def test_check_says_what_it_found(launcher: Launcher) -> None:
    write_all()
    found = (
        "demo  3 training pairs, 3 validation pairs "
        "(3 rows in data/training_data.csv, 3 rows in data/validation.csv; columns prompt, chosen, rejected)\n"
    )
    assert launcher("check") == (0, found, "")
    assert launcher("check", "exp_1") == (0, found, "")


def test_check_warns_of_validation_data_that_are_never_evaluated(launcher: Launcher) -> None:
    write_all(EXPERIMENT.replace("learning_rate: 1e-4", "eval_strategy: no"))
    said = "warning: validation data are given but never evaluated; remove eval_strategy: no"
    code, out, _ = launcher("check")
    assert (code, out.splitlines()[1].strip()) == (0, said)
    (found,) = json.loads(launcher("check", "--json")[1])["experiments"]
    assert found["notices"] == [said.removeprefix("warning: ")]


def test_check_warns_of_a_webhook_without_an_address_and_never_shows_one(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    write_all(EXPERIMENT + "  notify: HOOK\n")
    missing = "warning: notify: HOOK is not set in .env or the environment\n"
    assert (launcher("check")[0], launcher("check")[2]) == (0, missing)
    write(".env", "HOOK=planted-without-a-scheme\n")
    must = "warning: notify: the value of HOOK must be an address that begins with https:// or http://\n"
    assert launcher("check")[2] == must
    write(".env", "HOOK=https://chat.example/hooks/planted\n")
    assert launcher("check")[2] == ""
    write_all(EXPERIMENT + "  notify: https://chat.example/hooks/planted\n")
    write(".env", "")
    for args in (("check",), ("check", "--set", "notify=https://chat.example/hooks/planted")):
        code, out, err = launcher(*args)
        assert (code, "put the address itself into .env" in err, "planted" in out + err) == (42, True, False)


def test_show_tells_when_validation_pairs_are_evaluated(launcher: Launcher) -> None:
    write_all(EXPERIMENT.replace("learning_rate: 1e-4", "save_steps: 20"))
    lines = [line.split() for line in launcher("show", "demo")[1].splitlines()]
    assert ["hyperparameters.eval_strategy", "steps", "default"] in lines
    assert ["hyperparameters.eval_steps", "20", "default"] in lines


def test_check_reports_every_mistake_of_every_file_and_of_the_data_that_are_known_in_spite_of_them(launcher: Launcher) -> None:
    write_all(EXPERIMENT.replace("1e-4", "fast") + "second: {experiment_id: 2, datasets_path: d}\n")
    write("configs/b.yml", "a: *b\n")
    write("data/training_data.csv", ROWS + "question,,no answer\n")
    code, out, err = launcher("check")
    assert (code, out) == (42, "demo    mistakes in the data\nsecond  mistakes in the data\n")
    assert err == (
        "error: d: folder not found (datasets_path)\n"
        "    expected: a folder with training_data.csv\n"
        "error: data/training_data.csv:5: empty cell in column 'chosen'\n"
        "error: configs/b.yml:1:4: alias *b has no anchor\n"
        "    | a: *b\n"
        "    |    ^^\n"
        "    expected: &b above this line\n"
        "error: configs/a.yml:2:18: hyperparameters.learning_rate must be a number (in demo)\n"
        "    |   learning_rate: fast\n"
        "    |                  ^^^^\n"
        '    found:    "fast"\n'
        "error: configs/a.yml:10:1: model_name is missing (in second)\n"
        "    | second: {experiment_id: 2, datasets_path: d}\n"
        "    | ^^^^^^\n"
        "    expected: hub id, a local folder, or s3://…\n"
    )


@pytest.mark.parametrize(
    ("line", "is_read"),
    [
        ("  launch: {gpus: many}", True),
        ("  storage_config: {bucket: b}", True),
        ("  learning_rate: 1", True),
        ("  train_file: other.csv", False),
        ("  prompt_name: []", False),
        ("  dpo_column_mapping_config: {choosen: chosen}", False),
        ("  spreadsheet_id: abc", False),
    ],
)
def test_the_data_are_checked_beside_a_wrong_setting_only_where_it_leaves_no_doubt_which_they_are(
    launcher: Launcher, line: str, is_read: bool
) -> None:
    write_all(EXPERIMENT + line + "\n")
    write("data/training_data.csv", ROWS + "question,,no answer\n")
    for name in ((), ("demo",)):
        code, _, err = launcher("check", *name)
        assert code == 42
        assert err.count("error: configs/a.yml:") == 1
        assert ("data/training_data.csv:5: empty cell in column 'chosen'" in err) is is_read


def test_output_folders_that_cannot_be_written_are_named_at_their_lines_beside_the_data_s_mistakes(launcher: Launcher) -> None:
    write_all(
        EXPERIMENT.replace("learning_rate: 1e-4", "model_output_dir: /proc/out")
        + "  save_processed_dataset: true\n  output_processed_dir: data/training_data.csv\n"
    )
    write("data/training_data.csv", ROWS + "question,,no answer\n")
    code, _, err = launcher("check", "demo")
    assert code == 43
    assert "hyperparameters.model_output_dir: cannot write /proc/out/exp_1/" in err
    assert "\n    |   model_output_dir: /proc/out\n" in err
    assert "output_processed_dir: cannot write data/training_data.csv/exp_1\n" in err
    assert "    found:    data/training_data.csv is a file, not a folder\n" in err
    assert "data/training_data.csv:5: empty cell in column 'chosen'" in err


def test_a_wrong_column_points_at_the_line_of_the_mapping_and_does_not_hide_other_mistakes(launcher: Launcher) -> None:
    write_all(
        EXPERIMENT
        + "  dpo_column_mapping_config:\n    input_columns: {prompt: prompt}\n    chosen: choosen\n"
        + "    rejected: {no.1: rejected}\n"
    )
    write("data/training_data.csv", ROWS + "question,yes,\n")
    code, _, err = launcher("check", "demo")
    assert code == 43
    assert err == (
        "error: configs/a.yml:12:13: dpo_column_mapping_config.chosen: missing column 'choosen' in data/training_data.csv:1\n"
        "    |     chosen: choosen\n"
        "    |             ^^^^^^^\n"
        "    found:    prompt, chosen, rejected\n"
        "    hint:     did you mean 'chosen'?\n"
        "error: data/training_data.csv:5: empty cell in column 'rejected'\n"
        "error: configs/a.yml:12:13: dpo_column_mapping_config.chosen: missing column 'choosen' in data/validation.csv:1\n"
        "    |     chosen: choosen\n"
        "    |             ^^^^^^^\n"
        "    found:    prompt, chosen, rejected\n"
        "    hint:     did you mean 'chosen'?\n"
    )
    write_all(EXPERIMENT + "  column_mapping_config: {label_columns: {chosen: {a.b: nothing}, rejected: rejected}}\n")
    assert (
        "error: configs/a.yml:10:57: column_mapping_config.label_columns.chosen.a.b: missing column 'nothing'"
        in launcher("check")[2]
    )


def test_a_wrong_setting_of_the_mapping_does_not_hide_mistakes_of_the_data(launcher: Launcher) -> None:
    write_all(EXPERIMENT + "  prompt_name: mine\n  dpo_column_mapping_config: {chosen: rejected}\n")
    write("data/training_data.csv", ROWS + "question,yes,\n")
    code, _, err = launcher("check")
    assert code == 42
    assert "rejected: the same column as chosen" in err
    assert "prompt_name: no prompt table for the prompt 'mine'" in err
    assert err.count("data/training_data.csv:5: empty cell in column 'rejected'") == 1
    assert "chosen and rejected are equal" not in err


def test_check_shows_the_data_mistakes_of_all_experiments(launcher: Launcher) -> None:
    write_all(
        EXPERIMENT
        + "second: {experiment_id: 2, model_name: m, datasets_path: missing}\n"
        + "third: {experiment_id: 3, model_name: m, datasets_path: data, train_filename: typo.csv}\n"
    )
    code, out, err = launcher("check")
    assert code == 43
    assert out.splitlines()[1:] == ["second  mistakes in the data", "third   mistakes in the data"]
    assert err.count("error: ") == 2
    assert "error: missing: " in err
    assert "error: data/typo.csv: " in err


def test_check_tells_one_mistake_of_shared_data_once(launcher: Launcher) -> None:
    write_all(
        EXPERIMENT + "second: {experiment_id: 2, model_name: m, datasets_path: data, validation_filename: validation.csv}\n"
    )
    write("data/validation.csv", "prompt,chosen\na,b\n")
    code, _, err = launcher("check")
    assert (code, err.count("error: ")) == (43, 1)


def test_check_warns_of_a_block_that_was_meant_to_be_an_experiment(launcher: Launcher) -> None:
    write_all(EXPERIMENT + "forgot: {model_name: m}\n")
    code, _, err = launcher("check")
    assert (code, err) == (
        0,
        "warning: configs/a.yml:10: forgot has model_name but no experiment_id: it is not an experiment\n",
    )


def test_experiments_of_other_kinds_are_listed_and_make_check_and_list_not_fail(launcher: Launcher) -> None:
    grpo = "grpo_1: {experiment_id: 2, model_name: m, reward_funcs: [a], learning_rat: 1}\n"
    write_all(EXPERIMENT + grpo)
    line = "grpo_1: not for this tool: reward_funcs belongs to GRPO\n"
    for verb in ("check", "list"):
        code, out, _ = launcher(verb)
        assert (code, out.endswith(line)) == (0, True), out
    code, out, _ = launcher("check", "--json")
    (other,) = json.loads(out)["others"]
    assert (code, other["key"], other["kind"]) == (0, "grpo_1", "GRPO")
    code, _, err = launcher("run", "grpo_1")
    assert (code, "grpo_1 is not for this tool: reward_funcs belongs to GRPO" in err) == (42, True)


def test_keys_without_effect_are_named_by_check(launcher: Launcher) -> None:
    write_all(EXPERIMENT.replace("  learning_rate: 1e-4\n", "  learning_rate: 1e-4\n  packing: false\n  loftq_config: null\n"))
    code, out, _ = launcher("check", "demo")
    assert (code, "notice: no effect here: packing, loftq_config" in out) == (0, True)
    code, out, _ = launcher("check", "demo", "--json")
    assert json.loads(out)["experiments"][0]["notices"][0] == "no effect here: packing, loftq_config"


def test_check_as_json_is_json_whether_all_is_well_or_not(launcher: Launcher) -> None:
    write_all()
    code, out, err = launcher("check", "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["mistakes"] == []
    (experiment,) = report["experiments"]
    assert (experiment["key"], experiment["training_pairs"], experiment["error"]) == ("demo", 3, None)
    assert experiment["columns"] == ["prompt", "chosen", "rejected"]

    code, out, _ = launcher("check", "demo", "--json", "--set", "hyperparameters.beta=x")
    assert code == 42
    assert [m["where"] for m in json.loads(out)["mistakes"]] == ["--set"]

    Path("data/training_data.csv").unlink()
    code, out, _ = launcher("check", "--json")
    assert code == 43
    assert "data/training_data.csv" in json.loads(out)["experiments"][0]["error"]


def test_list_is_an_aligned_table_even_of_experiments_with_mistakes(launcher: Launcher) -> None:
    write_all(EXPERIMENT + "sheets: {experiment_id: two, spreadsheet_id: abc, beta: 3}\n")
    assert launcher("list") == (
        0,
        "key     id   model      data  place             topic\n"
        "demo    1    org/model  data  configs/a.yml:3   a first try\n"
        "sheets  two  -          abc   configs/a.yml:10  -\n",
        "",
    )
    code, out, _ = launcher("list", "--json")
    assert code == 0
    assert json.loads(out)[1] == {
        "key": "sheets",
        "id": "two",
        "model": None,
        "data": "abc",
        "place": "configs/a.yml:10",
        "topic": None,
    }


def test_list_shows_what_can_be_read_and_then_what_cannot(launcher: Launcher) -> None:
    write_all()
    write("configs/b.yml", "a: [")
    code, out, err = launcher("list")
    assert (code, "demo" in out, "configs/b.yml:1:4" in err) == (42, True, True)


def test_show_names_the_place_of_every_value(launcher: Launcher) -> None:
    write_all()
    code, out, err = launcher("show", "demo", "--set", "hyperparameters.max_grad_norm=2")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "demo in configs/a.yml"
    for line in (
        "model_name org/model configs/a.yml:6",
        "framework trl default",
        "hyperparameters.learning_rate 0.0001 configs/a.yml:2",
        "hyperparameters.max_grad_norm 2 --set",
        "hyperparameters.report_to [tensorboard] default",
        "storage_config null default",
        "launch.kubernetes.node_selector {} default",
    ):
        assert line in lines
    assert {line.rindex("default") for line in out.splitlines() if line.endswith("default")} == {
        line.rindex("--set") for line in out.splitlines() if line.endswith("--set")
    }


def test_show_says_which_secrets_are_set_and_never_shows_one(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_REGION", "AWS_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    write_all()
    write(".env", "HF_TOKEN=hf_hunter2\nAWS_REGION=\n")
    for option in ((), ("--json",)):
        _, out, _ = launcher("show", "demo", *option)
        assert "hf_hunter2" not in out
    environment = json.loads(out)["environment"]
    assert (environment["HF_TOKEN"], environment["AWS_REGION"], environment["AWS_ACCESS_KEY"]) == ("set", "not set", "not set")


def test_show_as_json_holds_the_experiment_and_the_origins(launcher: Launcher) -> None:
    write_all(EXPERIMENT + "  health: {first_loss: stop}\n")
    shown = json.loads(launcher("show", "1", "--json")[1])
    assert shown["experiment"]["hyperparameters"]["learning_rate"] == 1e-4
    assert shown["origins"]["hyperparameters.learning_rate"] == "configs/a.yml:2"
    assert shown["origins"]["health.first_loss"] == "configs/a.yml:10"
    assert shown["origins"]["health.reward_scale"] == "default"


def test_init_writes_a_file_that_loads_and_runs_with_the_data_it_names(launcher: Launcher) -> None:
    code, out, _ = launcher("init")
    assert code == 0
    assert out.splitlines()[0] == "Wrote configs/experiments.yml."
    assert out.splitlines()[-3].startswith("  launcher check my_experiment ")
    write("data/my_preferences/training_data.csv", ROWS)
    write("data/my_preferences/validation_data.csv", ROWS.replace("question", "other"))
    code, out, err = launcher("check", "my_experiment")
    assert (code, out.split(" (")[0], err) == (0, "my_experiment  3 training pairs, 3 validation pairs", "")


def test_the_first_line_of_the_first_file_names_a_schema_that_lies_beside_it_and_holds_for_it(launcher: Launcher) -> None:
    import jsonschema

    launcher("init", "mine/first.yml")
    first, *lines = Path("mine/first.yml").read_text(encoding="utf-8").splitlines()
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads((Path("mine") / first.partition("$schema=")[2]).read_text(encoding="utf-8"))
    assert schema == json.loads(launcher("schema")[1])
    found = yaml.safe_load("\n".join(lines))
    jsonschema.validate(found, schema)
    found["first"]["hyperparameters"]["betta"] = 1
    with pytest.raises(jsonschema.ValidationError, match="betta"):
        jsonschema.validate(found, schema)
    Path("mine/.dpo-schema.json").write_text("{}")  # of an earlier version
    launcher("init", "mine/second.yml")
    assert json.loads(Path("mine/.dpo-schema.json").read_text(encoding="utf-8")) == schema


def test_what_the_first_file_has_commented_out_is_right_too(launcher: Launcher) -> None:
    launcher("init")
    text = Path("configs/experiments.yml").read_text(encoding="utf-8")
    other = ("spreadsheet", "sheet:", "sheets", "validation_filename")  # in place of which the file has others
    lines = [line for line in text.splitlines() if not any(word in line for word in other)]
    uncommented = "\n".join(_uncommented(line) for line in lines)
    Path("configs/experiments.yml").write_text(uncommented.replace("save_steps: 50", "save_steps: 100"), encoding="utf-8")
    Path("data/my_preferences").mkdir(parents=True)
    code, out, err = launcher("show", "my_experiment", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["experiment"]["storage_config"]["bucket_name"] == "my-bucket"
    assert json.loads(out)["experiment"]["launch"]["secrets"] == ["HF_TOKEN"]


def _uncommented(line: str) -> str:
    """A setting is ``# key: value`` with a key in small letters; a sentence begins with a capital or has no colon there."""
    return re.sub(r"^( *)# ( *[a-z0-9_]+:)", r"\1\2", line)


def test_init_never_overwrites(launcher: Launcher) -> None:
    write("configs/experiments.yml", "mine")
    code, _, err = launcher("init")
    assert (code, err.startswith("error: configs/experiments.yml already exists")) == (2, True)
    assert Path("configs/experiments.yml").read_text() == "mine"


def test_init_elsewhere_says_how_to_name_the_file(launcher: Launcher) -> None:
    code, out, _ = launcher("init", "mine/first.yml")
    assert (code, "launcher check first -f mine/first.yml" in out) == (0, True)
    assert launcher("list", "-f", "mine/first.yml")[0] == 0


def test_an_unknown_experiment_ends_in_one_message(launcher: Launcher) -> None:
    write_all()
    for verb in ("check", "show"):
        code, out, err = launcher(verb, "dem")
        assert (code, out) == (42, "")
        assert err.startswith("error: configs/a.yml: no experiment 'dem'\n")
        assert err.endswith("hint:     did you mean 'demo'?\n")


def test_check_refuses_a_model_that_a_run_would_refuse_and_checks_the_data_too(launcher: Launcher) -> None:
    write_all(EXPERIMENT.replace("org/model", "./modle"))
    code, out, err = launcher("check")
    assert (code, "training pair" in out) == (42, True)
    assert err.startswith("error: configs/a.yml:6:15: model_name: folder ./modle not found\n    | ")
    code, _, err = launcher("check", "--set", "model_name=https://huggingface.co/Qwen/Qwen3-0.6B")
    assert code == 42
    assert err.startswith("error: --set: model_name: folder https://huggingface.co/Qwen/Qwen3-0.6B not found\n")
    assert err.endswith("hint:     use the hub id Qwen/Qwen3-0.6B\n")


def test_a_model_that_is_made_later_or_lies_on_a_cluster_is_a_warning(launcher: Launcher) -> None:
    write_all(EXPERIMENT.replace("org/model", "data/demo/tiny"))
    code, _, err = launcher("check")
    assert (code, err) == (
        0,
        "warning: configs/a.yml:6:15: model_name: folder data/demo/tiny not found (make it with: make demo)\n",
    )
    assert launcher("check", "demo")[0] == 42
    code, _, err = launcher("check", "--set", "model_name=models/on/claim", "--set", "launch.kubernetes.volumes={data: claim}")
    assert (code, err) == (0, "warning: --set: model_name: folder models/on/claim not found\n")


def test_check_names_each_target_module_that_the_model_lacks(launcher: Launcher) -> None:
    folder = Path("model")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"model.layers.0.self_attn.v_proj.weight": {"dtype": "F32", "shape": [8, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    write_all(EXPERIMENT.replace("org/model", "model"))
    code, _, err = launcher("check", "--set", "hyperparameters.target_modules=[v_proj, v_prj]")
    assert (code, err) == (
        42,
        "error: --set: hyperparameters.target_modules.1: 'v_prj' matches no module of model\n"
        "    | hyperparameters.target_modules=[v_proj, v_prj]\n"
        "    |                                         ^^^^^\n"
        "    expected: v_proj\n"
        "    hint:     did you mean 'v_proj'?\n",
    )
    assert launcher("check", "--set", "hyperparameters.target_modules=[v_proj]")[0] == 0


def test_check_names_the_line_of_a_setting_that_the_data_contradict(launcher: Launcher) -> None:
    write_all(EXPERIMENT + "  prompt_name: short\n")
    code, _, err = launcher("check")
    assert (code, err) == (
        42,
        "error: configs/a.yml:10:16: prompt_name: no prompt table for the prompt 'short'\n"
        "    |   prompt_name: short\n    |                ^^^^^\n    hint:     set prompt_filename\n",
    )


def test_check_of_nothing_says_so_and_as_json_is_json(launcher: Launcher) -> None:
    code, out, err = launcher("check", "--json")
    assert (code, json.loads(out)["mistakes"][0]["where"], err.count("\n")) == (42, "configs", 3)
    write("configs/a.yml", "conf: {r: 1}\n")
    assert launcher("check") == (0, "no experiments\n", "")


def test_what_is_typed_is_read_as_utf8_in_any_locale(launcher: Launcher) -> None:
    write_all()
    # What Python makes of a UTF-8 word in an ASCII locale.
    code, out, _ = launcher("show", "demo", "--set", "topic=" + "caf\udcc3\udca9")
    assert (code, re.search(r"topic +(\S+)", out)[1]) == (0, "caf\u00e9")
    code, _, err = launcher("show", "demo", "--set", "topic=\udcff")
    assert (code, err) == (2, "error: 'topic=\\udcff' is not UTF-8\n")


def test_init_below_a_file_says_which(launcher: Launcher) -> None:
    write("configs", "mine")
    code, _, err = launcher("init")
    assert (code, err) == (2, "error: cannot write configs/experiments.yml: configs is a file, not a folder\n")


def test_the_commands_after_init_can_be_typed_as_they_stand(launcher: Launcher) -> None:
    _, out, _ = launcher("init", "my files/first.yml")
    assert "launcher check first -f 'my files/first.yml' " in out


def test_the_file_of_init_gets_a_key_and_an_id_of_its_own(launcher: Launcher) -> None:
    write("configs/experiments.yml", EXPERIMENT.replace("demo:", "exp_1:"))
    code, out, _ = launcher("init", "configs/mine.yml")
    assert (code, "  launcher run mine      train" in out.splitlines()) == (0, True)
    write("data/my_preferences/training_data.csv", ROWS)
    write("data/my_preferences/validation_data.csv", ROWS.replace("question", "other"))
    write("data/training_data.csv", ROWS)
    write("data/validation.csv", ROWS)
    code, out, err = launcher("check")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if "training pairs, " in line] == ["exp_1", "mine"]
    _, out, _ = launcher("list", "-f", "configs/mine.yml", "--json")
    assert [(row["key"], row["id"]) for row in json.loads(out)] == [("mine", "mine")]


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("configs/demo.yml", "demo_2"),
        ("configs/1.yml", "1_2"),
        ("configs/7.yml", "7"),
        ("configs/true.yaml", "true"),
        ("configs/my first try!.yml", "my_first_try"),
        ("configs/...yml", "my_experiment"),
        ("configs/config.yml", "my_experiment"),
    ],
)
def test_a_key_of_init_is_made_of_the_files_name_and_is_free(launcher: Launcher, file: str, key: str) -> None:
    write_all()
    code, out, _ = launcher("init", file)
    assert (code, f"launcher show {key} " in out) == (0, True)
    _, out, _ = launcher("show", key, "--json")
    assert json.loads(out)["experiment"]["experiment_id"] == key
