from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from launcher.experiment.other_tools.trl_fields import REFUSED, trl_fields
from launcher.experiment.problems import problems
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.trackers import TRACKERS

LEAST = {"model_name": "org/model", "datasets_path": "data"}


def parsed(**fields: Any) -> Experiment:
    return Experiment.parse({**LEAST, **fields})


def wrong(**fields: Any) -> list[tuple[str, str]]:
    """(place, what) of every problem."""
    with pytest.raises(ValidationError) as caught:
        parsed(**fields)
    return [(".".join(map(str, p.loc)), p.what) for p in problems(caught.value)]


def tuned(**hyperparameters: Any) -> Hyperparameters:
    return parsed(hyperparameters=hyperparameters).hyperparameters


def wrongly_tuned(**hyperparameters: Any) -> list[tuple[str, str]]:
    return wrong(hyperparameters=hyperparameters)


@pytest.mark.parametrize("name", ["seed", "random_state"])
def test_a_seed_beyond_numpys_32_bits_is_refused(name: str) -> None:
    assert getattr(tuned(**{name: 2**32 - 1}), name) == 2**32 - 1
    assert wrongly_tuned(**{name: 2**32})[0][0] == f"hyperparameters.{name}"


def test_the_least_experiment_has_the_documented_defaults() -> None:
    experiment = parsed()
    h = experiment.hyperparameters
    assert (experiment.experiment_id, experiment.framework, experiment.prompt_name) == ("default", "trl", "prompt_default")
    assert (h.r, h.lora_alpha, h.lora_dropout, h.target_modules, h.random_state) == (16, 16, 0, "all-linear", 3407)
    assert (h.beta, h.loss_type, h.learning_rate, h.seed, h.max_seq_length) == (0.1, ("sigmoid",), 5e-6, 42, 1024)
    assert (h.report_to, h.save_strategy, h.eval_strategy) == (("tensorboard",), "steps", "no"), "no pairs to evaluate"
    assert (experiment.launch.gpus, experiment.launch.nodes, experiment.launch.max_restarts) == ("auto", 1, 3)
    assert experiment.global_batch == 8


def test_every_setting_has_a_sentence() -> None:
    from launcher.experiment.schema import ColumnMapping, Kubernetes, Launch, StorageConfig

    sections = (Experiment, Hyperparameters, ColumnMapping, Kubernetes, Launch, StorageConfig)
    assert [f"{s.__name__}.{n}" for s in sections for n, f in s.model_fields.items() if not f.description] == []


def test_an_experiment_survives_its_json() -> None:
    experiment = parsed(
        experiment_id=7,
        validation_filename="v.csv",
        dpo_column_mapping_config={"input_columns": {"q": "query"}, "chosen": {"a": "b"}, "rejected": "c"},
        hyperparameters={"loss_type": ["sigmoid", "sft"], "loss_weights": [1, 0.5], "eval_strategy": "steps", "adam_beta1": 0.8},
        storage_config={"bucket_name": "b"},
        launch={"env": {"A": 1}, "memory": "64Gi", "kubernetes": {"tolerations": [{"key": "gpu"}]}},
        health={"not_finite": "off"},
    )
    assert Experiment.parse(json.loads(experiment.model_dump_json())) == experiment


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parsed().model_name = "other"
    with pytest.raises(TypeError):
        tuned(adam_beta1=0.8).trl["adam_beta1"] = 1


@pytest.mark.parametrize(("given", "kept"), [(1, "1"), ("a.b-c_1", "a.b-c_1"), ("007", "007")])
def test_an_id_is_text_or_an_integer(given: object, kept: str) -> None:
    assert parsed(experiment_id=given).experiment_id == kept


@pytest.mark.parametrize("given", ["a b", "a/b", "", True, 1.5, None])
def test_an_id_that_cannot_name_a_folder_is_refused(given: object) -> None:
    assert [place for place, _ in wrong(experiment_id=given)] == ["experiment_id"]


def test_exactly_one_source_of_data_is_needed() -> None:
    assert wrong(datasets_path=None) == [
        ("", "the experiment has no data; set datasets_path (files) or spreadsheet_id (Google Sheets)")
    ]
    assert wrong(spreadsheet_id="s") == [("", "the experiment has datasets_path and spreadsheet_id; keep one")]
    assert wrong(datasets_path=None, spreadsheet_id="s") == [
        ("", "the experiment has spreadsheet_id but no train_sheet; set it to the name of the worksheet")
    ]
    assert parsed(datasets_path=None, spreadsheet_id="s", train_sheet="t").spreadsheet_id == "s"


def test_validation_pairs_are_a_file_or_a_share_of_the_training_pairs_and_not_both() -> None:
    found = parsed(validation_split=0.1, hyperparameters={"load_best_model_at_end": True})
    assert found.has_validation
    assert found.hyperparameters.eval_strategy == "steps"
    both = "the experiment has validation_filename and validation_split; keep one"
    assert wrong(validation_split=0.1, validation_filename="v.csv") == [("", both)]
    sheets = {"datasets_path": None, "spreadsheet_id": "s", "train_sheet": "t"}
    assert parsed(**sheets, validation_split=0.1).has_validation
    assert wrong(**sheets, validation_split=0.1, validation_sheet="v") == [("", both.replace("filename", "sheet"))]
    assert [place for share in (0, 1, -0.1, "much") for place, _ in wrong(validation_split=share)] == ["validation_split"] * 4


def test_images_and_other_frameworks_are_refused() -> None:
    assert wrong(multimodal=True) == [("multimodal", "multimodal must be false: images are not supported")]
    assert parsed(framework="unsloth").framework == "unsloth"
    assert wrong(framework="axolotl") == [("framework", "framework must be one of trl, unsloth")]


def test_any_other_field_of_trl_is_kept_under_its_name() -> None:
    h = tuned(adam_beta1=0.8, max_grad_norm=2, dataloader_num_workers=3)
    assert dict(h.trl) == {"adam_beta1": 0.8, "max_grad_norm": 2, "dataloader_num_workers": 3}


def test_a_field_of_trl_is_checked_by_its_type() -> None:
    assert [place for place, _ in wrongly_tuned(adam_beta1="much", dataloader_num_workers=1.5)] == [
        "hyperparameters.adam_beta1",
        "hyperparameters.dataloader_num_workers",
    ]


def test_what_the_project_decides_itself_is_refused_with_the_name_to_use() -> None:
    with pytest.raises(ValidationError) as caught:
        tuned(output_dir="x", deepspeed="y")
    assert [(p.loc[-1], p.what, p.of_key) for p in problems(caught.value)] == [
        ("output_dir", "use model_output_dir (this project's name for output_dir)", True),
        ("deepspeed", "use launch.parallelism (this project's name for deepspeed)", True),
    ]


@pytest.mark.parametrize("name", ["push_to_hub", "hub_model_id", "hub_private_repo", "hub_token"])
def test_what_uploads_to_a_hub_is_refused_with_the_command_that_does(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        tuned(**{name: "me/x"})
    (problem,) = problems(caught.value)
    assert problem.what.startswith(f"{name} is not supported during a run; publish its adapter afterwards: `launcher push")


def test_refused_names_are_names_of_trl_and_none_of_ours() -> None:
    former = {"no_cuda", "logging_dir"}  # older releases had them: files in circulation name them
    assert {name for name in REFUSED if name in Hyperparameters.model_fields} == set()
    assert {name for name in REFUSED if name not in trl_fields()} == former


def test_an_unknown_key_is_reported_with_the_nearest_of_ours_and_of_trls() -> None:
    with pytest.raises(ValidationError) as caught:
        parsed(hyperparameters={"learning_rat": 1, "adam_beta_1": 1}, launch={"gpu": 1}, storge_config={})
    assert {p.loc[-1]: p.hint for p in problems(caught.value)} == {
        "learning_rat": "did you mean 'learning_rate'?",
        "adam_beta_1": "did you mean 'adam_beta1'?",
        "gpu": "use gpus",
        "storge_config": "did you mean 'storage_config'?",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta", 0),
        ("beta", True),
        ("beta", float("nan")),
        ("learning_rate", -1),
        ("learning_rate", float("inf")),
        ("r", 0),
        ("r", 1.5),
        ("r", False),
        ("lora_dropout", 1),
        ("gpu_memory_utilization", 1.1),
        ("loss_type", []),
        ("bias", "some"),
        ("max_seq_length", 4),
        ("num_train_epochs", 0),
        ("target_modules", []),
        ("optim", ""),
        ("load_in_4bit", "maybe"),
    ],
)
def test_values_out_of_their_limits_are_refused(key: str, value: object) -> None:
    assert [place for place, _ in wrongly_tuned(**{key: value})] == [f"hyperparameters.{key}"]


def test_the_date_of_a_template_is_a_day_of_the_calendar() -> None:
    for given in ("2026-07-26", date(2026, 7, 26)):
        assert tuned(template_date=given).template_date == "2026-07-26"
    for wrong in ("26.07.2026", "2026-7-26", "2026-02-30", "20260726", "2026-07-26T10:00", "today", 20260726, True, ""):
        (place, what), *more = wrongly_tuned(template_date=wrong)
        assert (place, more) == ("hyperparameters.template_date", [])
        assert what == "hyperparameters.template_date must be a date such as 2026-07-26"


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, "load_in_8bit", "conflicts with load_in_4bit; keep one"),
        (
            {"full_finetuning": True, "load_in_4bit": True},
            "full_finetuning",
            "conflicts with load_in_4bit: quantised weights cannot be trained",
        ),
        (
            {"label_smoothing": 0.1, "loss_type": "hinge"},
            "label_smoothing",
            "has no effect with loss_type hinge; use one of aot, aot_unpaired, exo_pair, robust, sigmoid",
        ),
        (
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]},
            "loss_weights",
            "must have one weight per loss type: found 1 for 2",
        ),
        (
            {"load_best_model_at_end": True, "eval_strategy": "no"},
            "load_best_model_at_end",
            "needs evaluations; remove eval_strategy: no",
        ),
        (
            {"report_to": ["wandb", "comet_ml"]},
            "report_to",
            ": comet_ml is not supported; use tensorboard, wandb, mlflow, trackio or none",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, Any], key: str, words: str) -> None:
    assert wrongly_tuned(**fields) == [
        (f"hyperparameters.{key}", f"hyperparameters.{key}{words if words.startswith(':') else ' ' + words}")
    ]


def test_a_loss_that_trl_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError) as caught:
        tuned(loss_type=["sigmoid", "hing"])
    assert [(p.loc, p.hint) for p in problems(caught.value)] == [(("hyperparameters", "loss_type", 1), "did you mean 'hinge'?")]


@pytest.mark.parametrize(
    ("name", "value"),
    [("eval_strategy", "steps"), ("load_best_model_at_end", True), ("early_stopping_patience", 2), ("save_strategy", "best")],
)
def test_evaluations_need_validation_data(name: str, value: object) -> None:
    assert wrong(hyperparameters={name: value}) == [
        ("", f"the experiment sets {name} but has no validation_filename or validation_split")
    ]


@pytest.mark.parametrize(
    ("given", "strategy", "steps"),
    [
        ({}, "steps", 50),
        ({"save_steps": 20}, "steps", 20),
        ({"save_steps": 20, "eval_steps": 10}, "steps", 10),
        ({"save_strategy": "epoch"}, "epoch", None),
        ({"save_strategy": "epoch", "eval_steps": 10}, "steps", 10),
        ({"save_strategy": "best", "save_steps": 5}, "steps", 5),
        ({"save_strategy": "no"}, "epoch", None),
        ({"eval_strategy": "steps"}, "steps", None),
        ({"eval_strategy": "epoch", "load_best_model_at_end": True, "save_strategy": "epoch"}, "epoch", None),
        ({"load_best_model_at_end": True, "early_stopping_patience": 1}, "steps", 50),
        ({"eval_strategy": "no"}, "no", None),
    ],
)
def test_validation_pairs_are_evaluated_at_each_checkpoint_unless_the_file_says_when(
    given: dict[str, Any], strategy: str, steps: int | None
) -> None:
    experiment = parsed(validation_filename="v.csv", hyperparameters=given)
    h = experiment.hyperparameters
    assert (h.eval_strategy, h.eval_steps) == (strategy, steps)
    assert h.model_fields_set == given.keys(), "what follows the checkpoints was not set"
    assert Experiment.parse(json.loads(experiment.model_dump_json())) == experiment


def test_the_best_checkpoint_needs_an_evaluation_of_its_own_step() -> None:
    said = wrong(
        validation_filename="v.csv", hyperparameters={"load_best_model_at_end": True, "save_steps": 20, "eval_steps": 15}
    )
    assert said == [
        (
            "hyperparameters.save_steps",
            "hyperparameters.save_steps must be a multiple of eval_steps (15) for load_best_model_at_end",
        )
    ]


def test_evaluations_are_counted_with_the_first_and_the_last() -> None:
    def count(**given: Any) -> int:
        return parsed(validation_filename="v.csv", hyperparameters=given).evaluations(100, 1)  # 13 steps an epoch

    assert count(max_steps=40, save_steps=20) == 3
    assert count(max_steps=41, save_steps=20) == 4
    assert count(max_steps=3) == 2
    assert count(save_strategy="no", num_train_epochs=2) == 3
    assert count(save_strategy="no", max_steps=14) == 3
    assert count(eval_strategy="no") == 0


def test_a_strategy_that_an_older_reader_took_for_false_is_no() -> None:
    assert tuned(eval_strategy=False, save_strategy=False).eval_strategy == "no"


@pytest.mark.parametrize("samples", ["off", False, 0, {"prompts": "off"}, {"prompts": False}, {"prompts": 0}])
def test_no_sample_answers_are_asked_for_as_the_section_and_as_its_prompts(samples: object) -> None:
    assert parsed(samples=samples).samples.prompts == 0


def test_a_single_name_is_a_list_of_one() -> None:
    assert tuned(loss_type="hinge", report_to="none").loss_type == ("hinge",)
    assert tuned(report_to=["tensorboard", "wandb", "mlflow", "trackio"]).report_to[1:] == TRACKERS


def test_columns_have_defaults_and_two_spellings() -> None:
    assert parsed().columns.model_dump() == {
        "input_columns": {"prompt": "prompt"},
        "system": None,
        "chosen": "chosen",
        "rejected": "rejected",
        "label_columns": None,
        "answers": None,
        "winner": None,
        "winner_values": None,
        "ratings": None,
        "ranks": None,
        "tools": None,
        "role_key": None,
        "content_key": None,
        "roles": None,
    }
    general = {"input_columns": {"q": "query"}, "label_columns": {"chosen": "good", "rejected": {"answer": "bad"}}}
    columns = parsed(column_mapping_config=general).columns
    assert (columns.input_columns, columns.chosen, columns.rejected) == ({"q": "query"}, "good", {"answer": "bad"})


def test_two_mappings_that_disagree_are_refused() -> None:
    assert wrong(dpo_column_mapping_config={"chosen": "a"}, column_mapping_config={"chosen": "b"}) == [
        ("", "the experiment has two values for chosen: in dpo_column_mapping_config and column_mapping_config; keep one")
    ]


def test_an_upload_needs_a_bucket() -> None:
    assert [place for place, _ in wrong(storage_config={"upload_to_cloud": True})] == ["storage_config"]


def test_values_that_look_like_secrets_are_refused_by_name() -> None:
    assert wrong(launch={"env": {"MY_API_KEY": "x"}}) == [
        ("launch.env", "launch.env: MY_API_KEY looks like a secret; name it in launch.secrets instead")
    ]
    assert parsed(launch={"secrets": "HF_TOKEN"}).launch.secrets == ("HF_TOKEN",)


def test_notify_names_a_variable_which_is_a_secret_of_the_run() -> None:
    assert parsed(notify="SLACK_WEBHOOK_URL").named_secrets == ("SLACK_WEBHOOK_URL",)
    assert parsed(notify="HOOK", launch={"secrets": ["LOGIN", "HOOK"]}).named_secrets == ("LOGIN", "HOOK")
    assert parsed(launch={"secrets": ["LOGIN"]}).named_secrets == ("LOGIN",)
    must = "notify must be the name of a variable, such as SLACK_WEBHOOK_URL; put the address itself into .env"
    assert wrong(notify="https://chat.example/hooks/planted") == [("notify", must)]


def test_a_file_does_not_say_where_a_key_is_sent() -> None:
    assert wrong(launch={"env": {"GOOGLE_SHEETS_API_URL": "https://elsewhere.example"}}) == [
        ("launch.env", "launch.env: GOOGLE_SHEETS_API_URL is read from the environment or .env only")
    ]
    assert parsed(launch={"env": ["GOOGLE_SHEETS_API_URL"]}).launch.env == ("GOOGLE_SHEETS_API_URL",)


def test_a_health_rule_may_be_a_word() -> None:
    assert parsed(health={"first_loss": False}).health.first_loss.action == "off"
    assert parsed(health={"first_loss": "stop"}).health.first_loss.action == "stop"
    assert wrong(health={"first_loss": "loud"}) == [
        ("health.first_loss.action", "health.first_loss.action must be one of warn, stop, off")
    ]


@pytest.mark.parametrize(("name", "folder"), [("Qwen/Qwen3-0.6b", "Qwen3-0.6b"), ("s3://b/models/m/", "m"), ("m", "m")])
def test_the_model_names_its_folder(name: str, folder: str) -> None:
    assert parsed(model_name=name).model_folder == folder


@pytest.mark.parametrize("name", ["..", ".", "/", "./", "a/..", "s3://"])
def test_a_model_whose_name_would_lead_out_of_the_output_folder_is_refused(name: str) -> None:
    assert [place for place, _ in wrong(model_name=name)] == ["model_name"]


@pytest.mark.parametrize(("written", "meant"), [("yes", True), ("No", False), ("runs/a/checkpoint-5", "runs/a/checkpoint-5")])
def test_resume_takes_the_older_words_for_true_and_false(written: str, meant: object) -> None:
    assert tuned(resume_from_checkpoint=written).resume_from_checkpoint == meant


def test_names_that_no_variable_can_have_are_refused() -> None:
    for env in ({"A B": 1}, ["A=1"], {"": "x"}):
        assert {place for place, _ in wrong(launch={"env": env})} == {"launch.env"}


def test_patterns_are_told_in_words() -> None:
    assert wrong(experiment_id="a/b") == [("experiment_id", "experiment_id must be a name of letters, digits, '.', '_' and '-'")]
    assert wrong(launch={"memory": "much"}) == [("launch.memory", "launch.memory must be a size such as 64Gi or 500M")]
    assert wrong(storage_config={"endpoint_url": "minio:9000"}) == [
        ("storage_config.endpoint_url", "storage_config.endpoint_url must be an address that begins with https:// or http://")
    ]


@pytest.mark.parametrize(
    ("pairs", "hyperparameters", "expected"),
    [
        (80, {}, 10),
        (81, {}, 11),
        (81, {"num_train_epochs": 3}, 33),
        (80, {"num_train_epochs": 0.25}, 3),
        (81, {"dataloader_drop_last": True}, 10),
        (3, {}, 1),
        (80, {"max_steps": 7}, 7),
    ],
)
def test_steps_are_counted_as_transformers_does(pairs, hyperparameters, expected):
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyperparameters})
    assert experiment.steps(pairs, world=1) == expected
    assert experiment.steps(pairs, world=2) == expected, "a global batch is one on any number of devices"


@pytest.mark.parametrize(
    "name", ["adapters/sft", "org/adapter", "org/adapter@v1", "s3://bucket/adapter", "exp_1-20261124-101112-beef"]
)
def test_an_adapter_to_start_from_is_continued_unless_it_is_to_be_merged(name: str) -> None:
    assert (parsed().adapter, parsed(adapter=name).adapter, parsed(adapter=name).adapter_mode) == (None, name, "continue")
    assert parsed(adapter=name, adapter_mode="merge").adapter_mode == "merge"


def test_the_kind_of_adapter_that_other_tools_name_is_no_adapter_to_start_from() -> None:
    assert parsed(adapter="lora").adapter is None
    assert wrong(adapter="qlora") == [("adapter", "adapter names an adapter to start from; for QLoRA set load_in_4bit: true")]


def test_all_weights_are_trained_only_on_a_merged_adapter() -> None:
    full = {"adapter": "adapters/sft", "hyperparameters": {"full_finetuning": True}}
    assert parsed(**full, adapter_mode="merge").hyperparameters.full_finetuning
    [(_, what)] = wrong(**full)
    assert what.endswith("cannot continue an adapter; set adapter_mode: merge")
    assert wrong(adapter_mode="merge")[0][1].endswith("sets adapter_mode but has no adapter")


@pytest.mark.parametrize(("given", "says"), [("s3://a b/x", "bucket"), ("..", "must end with the name of a folder")])
def test_an_adapter_that_names_no_place_is_refused(given: str, says: str) -> None:
    [(place, what)] = wrong(adapter=given)
    assert place == "adapter"
    assert says in what
