"""Mistakes in an experiment, one a line, with what the launcher prints about each: the page of errors and its test read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from launcher.experiment.problems import Problem, every_problem
from launcher.experiment.schema import Experiment

BASE: Final[dict[str, Any]] = {"model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data"}

# What a person wrote, without ``BASE``; None takes a key of it away.
MISTAKES: Final[tuple[dict[str, Any], ...]] = (
    # names and kinds of values
    {"modell_name": "x"},
    {"hyperparameters": {"lora_dropuot": 0}},
    {"hyperparameters": {"lora_rank": 8}},
    {"hyperparameters": {"output_dir": "out"}},
    {"hyperparameters": {"learning_rate": "fast"}},
    {"hyperparameters": {"beta": 0}},
    {"hyperparameters": {"r": True}},
    {"hyperparameters": {"loss_type": "sigmoids"}},
    {"hyperparameters": {"max_grad_norm": "much"}},
    {"hyperparameters": {"max_grad_norm": -1}},
    {"hyperparameters": {"adam_beta1": 1.5}},
    {"hyperparameters": {"loss_weights": [0]}},
    {"hyperparameters": {"warmup_steps": 2.5}},
    {"hyperparameters": {"optim": "adamw"}},
    {"hyperparameters": {"template_date": "tomorrow"}},
    {"hyperparameters": {"rank_pattern": {"(": 8}}},
    {"hyperparameters": {"init_lora_weights": "pissa"}},
    {"hyperparameters": {"init_lora_weights": "zeros"}},
    {"hyperparameters": 5},
    {"samples": {"prompts": "many"}},
    # data and model
    {"datasets_path": None},
    {"spreadsheet_id": "1a", "train_sheet": "t"},
    {"datasets_path": None, "spreadsheet_id": "1a"},
    {"hyperparameters": {"eval_strategy": "steps"}},
    {"validation_filename": "v.csv", "validation_split": 0.1},
    {"datasets_path": "hf://name"},
    {"datasets_path": "s3://a b/data"},
    {"checkpoint_to": "models/checkpoints"},
    {"model_name": ".."},
    {"multimodal": True},
    {"method": "grpo"},
    {"adapter": "qlora"},
    {"adapter_mode": "merge"},
    {"adapter": "me/adapter", "hyperparameters": {"full_finetuning": True}},
    {"adapter": "me/adapter", "hyperparameters": {"ld_alpha": 0.5}},
    {"dpo_column_mapping_config": {"chosen": "a", "label_columns": {"chosen": "b", "rejected": "c"}}},
    {"dpo_column_mapping_config": {"chosen": "a"}, "column_mapping_config": {"chosen": "b"}},
    # settings that conflict
    {"hyperparameters": {"load_in_4bit": True, "load_in_8bit": True}},
    {"hyperparameters": {"torch_dtype": "bfloat16", "load_in_16bit": True}},
    {"hyperparameters": {"torch_dtype": "float32", "load_in_4bit": True}},
    {"hyperparameters": {"torch_dtype": "float32", "dtype": "float32"}},
    {"hyperparameters": {"full_finetuning": True, "load_in_4bit": True}},
    {"hyperparameters": {"target_modules": []}},
    {"hyperparameters": {"target_parameters": "mlp.experts.down_proj", "lora_dropout": 0.1}},
    {"hyperparameters": {"target_parameters": "mlp.experts.down_proj", "use_dora": True}},
    {"hyperparameters": {"layers_to_transform": 0, "target_modules": ".*_proj"}},
    {"hyperparameters": {"modules_to_save": "lm_head", "target_modules": ["lm_head"]}},
    {"hyperparameters": {"loss_type": "ipo", "label_smoothing": 0.1}},
    {"hyperparameters": {"loss_type": "exo_pair"}},
    {"hyperparameters": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}},
    {"hyperparameters": {"load_best_model_at_end": True, "eval_strategy": "no"}, "validation_filename": "v.csv"},
    {
        "hyperparameters": {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "steps"},
        "validation_filename": "v.csv",
    },
    {
        "hyperparameters": {"load_best_model_at_end": True, "eval_steps": 30, "save_steps": 50},
        "validation_filename": "v.csv",
    },
    {"hyperparameters": {"report_to": "comet"}},
    {"hyperparameters": {"optim_args": "rank=8"}},
    {"hyperparameters": {"sync_ref_model": True}},
    {"hyperparameters": {"f_divergence_type": "js_divergence", "loss_type": "nca_pair"}},
    {"hyperparameters": {"use_weighting": True, "loss_type": "aot"}},
    {"hyperparameters": {"use_weighting": True, "loss_type": ["sigmoid", "sft"]}},
    {"hyperparameters": {"optim": "sgd", "optim_args": "momentm=0.9"}},
    {"hyperparameters": {"optim": "sgd", "optim_args": "weight_decay=0.1"}},
    {"hyperparameters": {"optim": "galore_adamw", "weight_decay": 0.1}},
    {"hyperparameters": {"optim": "galore_adamw_8bit"}},
    {"hyperparameters": {"optim": "sgd", "optim_args": "momentum 0.9"}},
    {"hyperparameters": {"optim": "sgd", "adam_beta1": 0.8}},
    {"hyperparameters": {"optim": "schedule_free_adamw", "warmup_ratio": 0.1}},
    {"hyperparameters": {"dpo_path": "fast", "loss_type": "aot"}},
    {"hyperparameters": {"dpo_path": "plain", "compile": "layers"}},
    {"hyperparameters": {"train_sampling_strategy": "group_by_length"}},
    # where it runs, and where results go
    {"launch": {"env": {"MY_API_KEY": "x"}}},
    {"launch": {"env": {"GOOGLE_SHEETS_API_URL": "https://example.com"}}},
    {"launch": {"env": {"A-B": "x"}}},
    {"launch": {"memory": "much"}},
    {"launch": {"verify": True}},
    {"launch": {"signed_by": {"identity": "me"}}},
    {"launch": {"kubernetes": {"labels": {"job-name": "x"}}}},
    {"launch": {"kubernetes": {"labels": {"a b": "x"}}}},
    {"launch": {"kubernetes": {"labels": {"team": "a b"}}}},
    {"launch": {"kubernetes": {"active_deadline": "soon"}}},
    {"launch": {"kubernetes": {"gpu_resource": "gpu"}}},
    {"storage_config": {"upload_to_cloud": True}},
    {"storage_config": {"bucket_name": "a b"}},
    {"storage_config": {"endpoint_url": "minio:9000"}},
    {"storage_config": {"endpoint_url": "https://me:word@minio.example.com"}},
    {"notify": "https://hooks.example.com/1"},
    {"health": {"loss_stuck": "error"}},
)  # fmt: skip


def parsed(mistake: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with an experiment that has ``mistake``; raises ValueError where nothing is."""
    given = {name: value for name, value in {**BASE, **mistake}.items() if value is not None}
    try:
        Experiment.parse(given)
    except ValidationError as error:
        return every_problem(given, error)
    raise ValueError(f"{mistake} is no mistake")
