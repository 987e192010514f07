"""Our settings under the names of other tools (TRL, PEFT, Unsloth, Axolotl, LLaMA-Factory, torchtune …). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# section -> our key -> its names in other tools. A dotted key belongs to another section.
KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "experiment_id": "id name experiment experiment_name exp_id run_id",
        "topic": "description notes comment tags",
        "model_name": "model base_model model_name_or_path model_id model_path pretrained_model pretrained_model_name_or_path "
        "base_model_config checkpoint_path",
        "adapter": "adapter_name_or_path adapter_path adapter_id adapter_name lora_model_dir lora_path lora_adapter peft_model "
        "peft_model_id sft_adapter init_adapter",
        "datasets_path": "dataset datasets data data_path data_dir dataset_path dataset_dir dataset_name train_data path",
        "train_filename": "train_file train_files training_file train_path train_dataset train_csv",
        "validation_filename": "validation_file val_file eval_file test_file eval_path eval_dataset test_datasets valid_file "
        "validation_dataset val_filename val_dataset",
        "validation_split": "val_size val_set_size validation_size valid_size test_size val_split eval_split validation_fraction "
        "validation_ratio eval_split_ratio val_ratio eval_size test_split_ratio split_dataset_ratio",
        "prompt_filename": "prompt_file prompts_file prompt_template_file system_prompt prompt_template",
        "spreadsheet_id": "sheet_id google_sheet google_sheet_id google_sheets spreadsheet spreadsheet_url sheet_url sheets_id",
        "train_sheet": "worksheet worksheet_name sheet sheet_name dpo_worksheet dpo_sheet training_sheet training_worksheet tab",
        "validation_sheet": "val_sheet eval_sheet validation_worksheet eval_worksheet",
        "dpo_column_mapping_config": "columns column_mapping field_mapping mapping dataset_columns",
        "hyperparameters": "training training_args training_arguments training_config trainer_config params hparams "
        "hyper_parameters hyperparams args dpo dpo_config lora lora_config peft_config",
        "storage_config": "storage s3 upload s3_config cloud object_store",
        "checkpoint_to": "checkpoint_uri remote_checkpoints s3_checkpoints checkpoint_s3_uri remote_checkpoint_dir",
        "launch": "resources compute cluster docker hardware",
        "health": "monitoring alerts",
        "notify": "notification notifications webhook webhook_url slack slack_webhook slack_webhook_url slack_url alert_url",
        "hyperparameters.enable_thinking": "thinking reasoning",
    },
    "hyperparameters": {
        "max_seq_length": "cutoff_len sequence_len seq_len seq_length max_len max_seq_len max_sequence_length model_max_length "
        "max_tokens context_length max_completion_length max_target_length",
        "load_in_4bit": "load_in_4_bit quantization quantize quantization_bit qlora use_qlora bits bnb_4bit use_4bit int4 "
        "quantization_config",
        "load_in_8bit": "load_in_8_bit int8 use_8bit bnb_8bit",
        "load_in_16bit": "half bfloat16 float16 load_in_16_bit",
        "torch_dtype": "dtype precision mixed_precision weight_dtype model_dtype",
        "attn_implementation": "flash_attn attn attention attention_implementation attn_impl",
        "model_cache_dir": "cache_dir hf_cache_dir",
        "template_date": "date_string strftime_now chat_template_date",
        "r": "rank lora_rank lora_r lora_dim lora_rank_r adapter_rank",
        "lora_alpha": "alpha scaling lora_scale lora_scaling",
        "lora_dropout": "dropout lora_dropout_p lora_dropout_rate dropout_p",
        "bias": "lora_bias",
        "target_modules": "lora_target lora_target_modules lora_modules lora_layers",
        "exclude_modules": "lora_exclude_modules exclude_target_modules",
        "layers_to_transform": "peft_layers_to_transform lora_layers_to_transform freeze_trainable_layers num_lora_layers",
        "rank_pattern": "lora_rank_pattern peft_rank_pattern",
        "alpha_pattern": "lora_alpha_pattern peft_alpha_pattern",
        "target_parameters": "lora_target_parameters",
        "modules_to_save": "lora_modules_to_save additional_target additional_trainable_modules trainable_modules",
        "use_rslora": "rslora peft_use_rslora lora_use_rslora",
        "use_dora": "dora peft_use_dora lora_use_dora",
        "init_lora_weights": "peft_init_lora_weights lora_init init_lora pissa_init",
        "random_state": "lora_seed",
        "use_gradient_checkpointing": "gradient_checkpoint grad_checkpointing activation_checkpoint checkpoint_activations "
        "enable_activation_checkpointing",
        "full_finetuning": "full_finetune full_fine_tuning finetuning_type full_tuning finetune_type train_all_weights "
        "tuner_type train_type",
        "beta": "dpo_beta pref_beta kl_beta rl_beta kl_coef",
        "loss_type": "loss dpo_loss dpo_loss_type pref_loss loss_function loss_fn preference_loss rl",
        "label_smoothing": "dpo_label_smoothing cdpo_label_smoothing",
        "num_train_epochs": "epochs num_epochs n_epochs epoch max_epochs train_epochs",
        "max_steps": "steps num_steps num_train_steps max_train_steps total_steps max_steps_per_epoch iterations",
        "learning_rate": "lr peak_lr base_lr initial_lr max_lr",
        "weight_decay": "wd decay adam_weight_decay",
        "warmup_ratio": "warmup warm_up warmup_percent warmup_fraction lr_warmup lr_warmup_ratio",
        "warmup_steps": "num_warmup_steps lr_warmup_steps warmup_iters",
        "lr_scheduler_type": "scheduler lr_scheduler scheduler_type schedule lr_schedule learning_rate_scheduler",
        "lr_scheduler_kwargs": "lr_scheduler_args scheduler_kwargs",
        "optim": "optimizer optimiser optimizer_type optimizer_name",
        "max_grad_norm": "gradient_clipping grad_clip clip_grad_norm max_norm gradient_clip_val clip_grad grad_norm_clip",
        "adam_beta1": "beta1 adamw_beta1",
        "adam_beta2": "beta2 adamw_beta2",
        "adam_epsilon": "epsilon eps adamw_epsilon adam_eps",
        "per_device_train_batch_size": "micro_batch_size microbatch_size train_batch_size per_device_batch_size "
        "per_gpu_train_batch_size batch_size_per_device train_micro_batch_size_per_gpu device_batch_size",
        "per_device_eval_batch_size": "eval_batch_size eval_micro_batch_size val_batch_size per_gpu_eval_batch_size",
        "gradient_accumulation_steps": "grad_accum grad_accum_steps gradient_accumulation grad_acc accumulation_steps "
        "gradient_accumulation_iters accumulate_grad_batches grad_acc_steps",
        "seed": "random_seed train_seed",
        "report_to": "logger loggers log_with tracker tracking",
        "logging_steps": "log_steps log_every log_interval log_every_n_steps logging_interval",
        "save_steps": "save_every save_interval checkpoint_every checkpoint_steps checkpointing_steps",
        "save_total_limit": "keep_checkpoints max_checkpoints checkpoints_total_limit save_limit",
        "eval_strategy": "evaluation_strategy do_evaluation val_strategy",
        "eval_steps": "eval_every eval_interval val_check_interval evaluation_steps validation_steps",
        "load_best_model_at_end": "load_best_model save_best best_model",
        "metric_for_best_model": "best_metric early_stopping_metric monitor metric",
        "early_stopping_patience": "patience early_stopping early_stop",
        "early_stopping_threshold": "min_delta early_stopping_min_delta",
        "resume_from_checkpoint": "resume resume_checkpoint auto_resume_from_checkpoints resume_training",
        "model_output_dir": "output output_folder save_dir output_path out_dir checkpoint_dir run_dir log_dir",
        "ld_alpha": "ld_dpo_alpha",
        "use_weighting": "wpo use_wpo dpo_use_weighting",
        "train_sampling_strategy": "group_by_length",
        "loss_weights": "dpo_loss_weights dpop_weights loss_weight",
        "dataloader_num_workers": "num_workers",
        "compile": "compile_model compile_layers use_compile use_torch_compile compile_mode",
        "sync_ref_model": "update_ref_model tr_dpo",
        "ref_model_sync_steps": "ref_sync_steps",
        "launch.gpus": "gpu num_gpus n_gpus ngpus device_count num_devices devices cuda_visible_devices nproc_per_node "
        "num_processes accelerator",
        "launch.nodes": "num_nodes nnodes num_machines",
        "launch.parallelism": "deepspeed_config deepspeed_config_file zero_stage ds_config strategy distributed_strategy",
        "launch.global_batch_size": "global_batch total_batch_size train_global_batch_size effective_batch_size",
    },
    "launch": {
        "gpus": "gpu num_gpus n_gpus ngpus gpu_count gpus_per_node devices num_devices device_count nproc_per_node",
        "nodes": "num_nodes nnodes node_count num_machines replicas workers machines",
        "processes": "num_processes nproc world_size",
        "parallelism": "strategy distributed deepspeed deepspeed_config zero zero_stage fsdp distributed_strategy",
        "global_batch_size": "global_batch total_batch_size effective_batch_size batch_size",
        "cpus": "cpu num_cpus cpu_count cores",
        "memory": "mem ram memory_limit memory_gb",
        "shm_size": "shm shared_memory ipc",
        "env": "environment envs env_vars environment_variables variables",
        "secrets": "secret secret_env credentials",
        "max_restarts": "retries restarts max_retries backoff_limit restart_policy",
        "image": "docker_image container container_image",
        "kubernetes": "k8s cluster",
    },
    "launch.kubernetes": {
        "namespace": "ns",
        "queue": "kueue queue_name local_queue",
        "service_account": "serviceaccount service_account_name serviceaccountname",
        "node_selector": "nodeselector selector node_labels",
        "image_pull_secrets": "imagepullsecrets pull_secret pull_secrets",
        "volumes": "pvc pvcs volume claims persistent_volume_claims mounts",
        "runtime_class": "runtimeclass runtime_class_name runtimeclassname",
        "active_deadline": "timeout deadline active_deadline_seconds activedeadlineseconds",
        "priority_class": "priority priorityclass priority_class_name priorityclassname",
        "gpu_resource": "gpu_type gpu_resource_name resource_name mig accelerator_resource",
        "run_as": "user uid run_as_user runasuser security_context securitycontext",
        "pod": "pod_config pod_template pod_spec podspec pod_patch pod_template_spec",
    },
    "storage_config": {
        "provider": "type backend kind",
        "upload_to_cloud": "upload enabled push auto_upload upload_to_s3",
        "bucket_name": "bucket s3_bucket s3_bucket_name name container",
        "object_prefix": "prefix path folder key key_prefix s3_prefix s3_path directory",
        "endpoint_url": "endpoint url s3_endpoint s3_endpoint_url host aws_endpoint_url endpoint_override",
        "region": "region_name aws_region location s3_region",
    },
    "dpo_column_mapping_config": {
        "input_columns": "prompt prompts question questions instruction input inputs query prompt_column prompt_columns "
        "input_column field_messages messages messages_column conversations",
        "system": "system_column field_system system_prompt system_message system_prompt_column",
        "chosen": "accepted accept preferred positive good better chosen_column response_j answer_chosen",
        "rejected": "reject dispreferred negative loser bad worse rejected_column response_k answer_rejected",
        "label_columns": "label labels labels_columns",
        "answers": "responses completions candidates outputs generations answer_columns response_columns completion_columns",
        "winner": "preference preferred_column verdict winner_column winning_answer better_answer choice",
        "winner_values": "winner_map winner_mapping verdict_values label_map label_mapping",
        "ratings": "rating scores score rewards rating_columns score_columns",
        "ranks": "rank ranking rankings rank_columns",
        "tools": "tools_column functions",
        "role_key": "role_tag message_field_role role_field",
        "content_key": "content_tag message_field_content content_field",
        "roles": "role_mapping roles_mapping",
    },
}

# Why a name has no key here -> the names.
EXPLAINED: Final[Mapping[str, str]] = {
    "write it as Kubernetes does, in launch.kubernetes.pod: {spec: {…}}": "affinity node_affinity scheduler_name host_network "
    "sidecars init_containers topology_spread_constraints resource_claims dns_policy host_aliases",
    "images are not supported: this tool trains on text": "image_columns image_column images image vision vision_tower "
    "image_processor processor pixel_values image_folder image_dir freeze_vision_tower finetune_vision_layers",
    "set hyperparameters.report_to: [tensorboard, wandb], and WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE in launch.env": "wandb "
    "wandb_project wandb_entity wandb_name wandb_run_name wandb_run_id wandb_mode wandb_watch wandb_log_model use_wandb",
    "set hyperparameters.report_to: [tensorboard, mlflow], and MLFLOW_TRACKING_URI in launch.env": "mlflow mlflow_tracking_uri",
    "set hyperparameters.report_to: [tensorboard, trackio]": "trackio",
    "not supported; use hyperparameters.report_to: tensorboard": "comet neptune swanlab clearml aim",
    "not a DPO loss: this tool trains by DPO and SFT": "kto orpo simpo cpo ppo grpo rloo reward_model reward_funcs orpo_alpha "
    "simpo_gamma cpo_alpha kto_chosen_weight desirable_weight undesirable_weight reward_functions reward_weights num_generations",
    "the attention kernel is chosen automatically; remove the key, or use attn_implementation": "flash_attention "
    "use_flash_attention use_flash_attention_2 xformers xformers_attention sdpa_attention sdp_attention",
    "no credentials in this file: put AWS_ACCESS_KEY and AWS_SECRET_KEY into .env": "access_key secret_key aws_access_key_id "
    "aws_secret_access_key aws_access_key aws_secret_key access_key_id secret_access_key",
    "not supported: hyperparameters.max_seq_length limits prompt + answer together": "max_prompt_length max_prompt_len",
    "use hyperparameters.per_device_train_batch_size (per device) or launch.global_batch_size (per step)": "batch_size",
    "NF4 with double quantization is built in; use hyperparameters.load_in_4bit: true": "bnb_4bit_compute_dtype "
    "bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_config double_quantization",
    "FSDP is not supported; use launch.parallelism: zero3": "fsdp fsdp_config fsdp_version",
    "LoRA is the default; to train all weights use hyperparameters.full_finetuning: true": "peft use_peft use_lora",
    "the fast path packs sequences itself; remove the key": "sample_packing packing neat_packing eval_packing",
    "all linear layers are the default; remove the key, or name some in hyperparameters.target_modules": "lora_target_linear "
    "target_linear",
    "use hyperparameters.save_steps: the steps between two checkpoints, not their number per epoch": "saves_per_epoch",
    "use hyperparameters.eval_steps: the steps between two evaluations, not their number per epoch": "evals_per_epoch",
    "use hyperparameters.max_steps to train on fewer pairs": "max_samples max_train_samples num_samples train_samples",
    "an experiment has one dataset: join several into one file, and name it in train_filename": "dataset_mixer "
    "dataset_mixture dataset_splits dataset_config interleave_probs mix_strategy",
    "the model's own configuration and tokenizer are used; remove the key": "model_type model_class tokenizer_type "
    "tokenizer_name tokenizer tokenizer_config type_of_model",
    "the tokenizer's own tokens are used: save other ones with model and tokenizer in a folder, and name it in model_name": ""
    "special_tokens added_tokens new_special_tokens add_tokens",
    "name splits in train_filename and validation_filename, or a share of the training pairs in validation_split": "split "
    "train_split test_split",
    "the reference is the model that training starts from: model_name, with adapter on it": "ref_model reference_model "
    "ref_model_name_or_path reference_free force_use_ref_model",
    "the chat template of the model's tokenizer is used; remove the key": "chat_template template conversation_template",
    "not supported: this tool trains LoRA": "loraplus_lr_ratio loftq_config peft_type layer_replication fan_in_fan_out "
    "eva_config corda_config trainable_token_indices lora_bias use_qalora",
    "set automatically: a copy of a tied embedding stays tied; remove the key": "ensure_weight_tying",
    "not needed: layers_to_transform counts the layers of the model; remove the key": "layers_pattern peft_layers_pattern",
    "not supported: name the modules in hyperparameters.target_modules": "finetune_language_layers finetune_attention_modules "
    "finetune_mlp_modules",
    "not supported: no text is generated while training": "fast_inference use_vllm generate_during_eval float8_kv_cache "
    "unsloth_vllm_standby max_lora_rank",
    "not supported: this tool trains causal language models": "task_type is_encoder_decoder",
    "devices are chosen automatically; set their number in launch.gpus": "device_map",
    "not supported: the newest revision is used; for another one name a local folder in model_name": "revision model_revision",
    "set automatically; remove the key": "label_pad_token_id inference_mode use_fast_tokenizer overwrite_output_dir "
    "overwrite_cache plot_loss preprocessing_num_workers num_proc save_safetensors fix_tokenizer use_exact_model_name "
    "padding_value dataset_kwargs dataset_prepared_path tokenized_path load_from_cache_file strict",
    "no credentials in this file: put HF_TOKEN into .env": "token use_auth_token hf_token auth_token",
    "a column is named in dpo_column_mapping_config": "dataset_text_field",
    "use hyperparameters.loss_type: [sigmoid, sft] with loss_weights": "rpo_alpha dpo_ftx pref_ftx sft_weight",
    "use method: dpo or sft, at the top level of the experiment": "stage trainer trainer_type training_type training_method task "
    "rlhf_type",
}


def meaning(section: str, name: str) -> str | None:
    """What to write for the unknown key ``name`` of ``section`` ("": the experiment itself), or None.

    >>> meaning("hyperparameters", "lora_rank")
    'use r'
    >>> meaning("", "lr")
    'use hyperparameters.learning_rate'
    """
    wanted, section = spelt(name), "dpo_column_mapping_config" if section == "column_mapping_config" else section
    own = _KEYS.get(section, {}).get(wanted)
    if own is not None:
        return f"use {own}"
    if wanted in _EXPLAINED:
        return _EXPLAINED[wanted]
    if wanted in _LOCAL:
        return None
    return next((f"use {_path(other, keys[wanted])}" for other, keys in _KEYS.items() if wanted in keys), None)


def is_renamed(name: str) -> bool:
    """Whether ``name`` is what other tools call one of our keys."""
    return any(spelt(name) in keys for keys in _KEYS.values())


def inverted(names: Mapping[str, str]) -> dict[str, str]:
    return {name: ours for ours, others in names.items() for name in others.split()}


_KEYS: Final = {section: inverted(keys) for section, keys in KEYS.items()}
_EXPLAINED: Final = inverted(EXPLAINED)
# Names with a meaning only in their own section.
_LOCAL: Final = frozenset(
    ("id", "name", "path", "type", "kind", "backend", "key", "folder", "directory", "url", "host", "location", "enabled", "push",
     "label", "labels", "good", "bad", "better", "worse", "args", "params", "data", "container", "environment", "memory")
)  # fmt: skip


def _path(section: str, key: str) -> str:
    return f"{section}.{key}" if section and not key.startswith("launch.") else key


def spelt(name: str) -> str:
    """``name`` in the spelling of these tables: lower case, with underscores."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")
