# demo-1: experiment demo on this machine: 2 GPUs, ddp
mkdir -p '/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1'
cat > '/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1/experiment.json' <<'END'
{
  "experiment_id": "1",
  "topic": null,
  "model_name": "Qwen/Qwen3-0.6B",
  "adapter": null,
  "adapter_mode": "continue",
  "method": "dpo",
  "framework": "trl",
  "multimodal": false,
  "datasets_path": "data",
  "train_filename": "training_data.csv",
  "validation_filename": null,
  "validation_split": null,
  "prompt_filename": null,
  "spreadsheet_id": null,
  "train_sheet": null,
  "validation_sheet": null,
  "prompt_sheet": null,
  "prompt_name": "prompt_default",
  "dpo_column_mapping_config": null,
  "column_mapping_config": null,
  "save_processed_dataset": false,
  "output_processed_dir": "data/dpo/dataset",
  "hyperparameters": {
    "hyperparameters_id": "1",
    "max_seq_length": 1024,
    "load_in_4bit": false,
    "load_in_8bit": false,
    "load_in_16bit": null,
    "torch_dtype": "auto",
    "attn_implementation": null,
    "trust_remote_code": false,
    "model_cache_dir": null,
    "gpu_memory_utilization": 0.9,
    "enable_thinking": null,
    "thinking_mode": null,
    "add_generation_prompt": null,
    "template_date": null,
    "r": 16,
    "lora_alpha": 16.0,
    "lora_dropout": 0.0,
    "bias": "none",
    "target_modules": "all-linear",
    "exclude_modules": [],
    "layers_to_transform": [],
    "rank_pattern": {},
    "alpha_pattern": {},
    "target_parameters": [],
    "modules_to_save": [],
    "use_rslora": false,
    "use_dora": false,
    "init_lora_weights": true,
    "use_gradient_checkpointing": "auto",
    "random_state": 3407,
    "full_finetuning": false,
    "beta": 0.1,
    "loss_type": [
      "sigmoid"
    ],
    "label_smoothing": 0.0,
    "dpo_path": "auto",
    "compile": "auto",
    "num_train_epochs": 1.0,
    "max_steps": null,
    "learning_rate": 5e-6,
    "weight_decay": 0.0,
    "warmup_ratio": null,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "seed": 42,
    "report_to": [
      "tensorboard"
    ],
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 50,
    "save_total_limit": 2,
    "eval_strategy": "no",
    "eval_steps": null,
    "load_best_model_at_end": false,
    "metric_for_best_model": null,
    "greater_is_better": null,
    "early_stopping_patience": null,
    "early_stopping_threshold": 0.0,
    "resume_from_checkpoint": false,
    "model_output_dir": "data/dpo/model",
    "trl": {}
  },
  "storage_config": null,
  "checkpoint_to": null,
  "launch": {
    "image": null,
    "gpus": "auto",
    "nodes": 1,
    "processes": null,
    "parallelism": "auto",
    "global_batch_size": null,
    "cpus": null,
    "memory": null,
    "shm_size": "1Gi",
    "env": {
      "HTTPS_PROXY": null,
      "GREETING": "it's me"
    },
    "secrets": [
      "HF_TOKEN"
    ],
    "max_restarts": 0,
    "ca_bundle": null,
    "signed_by": null,
    "verify": false,
    "kubernetes": {
      "namespace": null,
      "queue": null,
      "service_account": null,
      "node_selector": {},
      "tolerations": [],
      "image_pull_secrets": [],
      "volumes": {},
      "kind": "auto",
      "secret": "dpo-secrets",
      "runtime_class": null,
      "priority_class": null,
      "gpu_resource": "nvidia.com/gpu",
      "labels": {},
      "annotations": {},
      "run_as": "auto",
      "active_deadline": null,
      "pod": {}
    }
  },
  "data_checks": {
    "empty_cell": "error",
    "empty_row": "error",
    "repeated_header": "error",
    "formula_error": "error",
    "control_character": "error",
    "messages_as_text": "error",
    "bom_inside": "error",
    "huge_cell": "error",
    "equal_answers": "error",
    "nearly_equal_answers": "warn",
    "contradiction": "warn",
    "repeated_pair": "warn",
    "shared_answer": "warn",
    "longer_chosen": "warn",
    "leaked_pair": "warn",
    "prompt_in_answer": "warn",
    "template_marks": "warn",
    "missing_word": "warn",
    "mojibake": "warn",
    "replacement_character": "warn",
    "zero_width": "warn",
    "excel_escapes": "warn",
    "carriage_return": "warn",
    "excel_cut": "warn",
    "html_entities": "warn",
    "literal_newline": "warn",
    "outer_white_space": "warn"
  },
  "health": {
    "not_finite": "stop",
    "first_loss": "warn",
    "loss_stuck": "warn",
    "margin_flat": "warn",
    "accuracy_low": "warn",
    "loss_spikes": "warn",
    "gradient_spikes": "warn",
    "chosen_falling": "warn",
    "reward_scale": "warn",
    "learning_rate_low": "warn",
    "overfitting": "warn",
    "flipped_labels": "warn",
    "swapped_columns": "warn",
    "length_bias": "warn",
    "degenerate_answers": "warn",
    "longer_answers": "warn",
    "truncated": "warn",
    "giant_answer": "warn",
    "duplicates": "warn",
    "slow": "warn",
    "gpu_idle": "warn"
  },
  "samples": {
    "prompts": 4,
    "max_new_tokens": 128,
    "every_evaluation": false
  },
  "notify": null
}
END
cd '/home/you/my project'
env \
  DPO_CACHE_ROOT=/home/you/.cache/dpo-launcher \
  DPO_DATA_ROOT='/home/you/my project' \
  DPO_GRACE=120 \
  DPO_NNODES=1 \
  DPO_NPROC=2 \
  DPO_RUN=demo-1 \
  DPO_RUN_FOLDER='/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1' \
  DPO_RUN_ROOT='/home/you/my project' \
  GREETING='it'"'"'s me' \
  HF_HOME=/home/you/.cache/dpo-launcher/huggingface \
  HTTPS_PROXY=http://p:1 \
  OMP_NUM_THREADS=8 \
  PYTHONUNBUFFERED=1 \
  TOKENIZERS_PARALLELISM=false \
  /home/you/.venv/bin/python -m trainer.processes.entrypoint '/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1'

# a step: 8 pairs = 2 per device × 2 accumulation × 2 devices
# the entry starts: torchrun --nnodes=1 --nproc-per-node=2 --master-addr=127.0.0.1 --master-port=<free> --max-restarts=0 -m trainer
# launch.shm_size has no effect on the host backend
# launch.max_restarts has no effect on the host backend
# needs HF_TOKEN in your environment (values are never shown)
