# exp_1-20261124-101112-beef: experiment exp_1 in a container: the CPU
mkdir -p '/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef'
cat > '/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef/experiment.json' <<'END'
{
  "experiment_id": "1",
  "topic": null,
  "model_name": "../models/tiny",
  "adapter": null,
  "adapter_mode": "continue",
  "method": "dpo",
  "framework": "trl",
  "multimodal": false,
  "datasets_path": "/srv/data",
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
    "max_steps": 5,
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
    "shm_size": null,
    "env": [],
    "secrets": [],
    "max_restarts": 3,
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
mkdir -p /home/you/.cache/dpo-launcher '/home/you/my project/data/dpo/model' '/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef'
docker run --detach \
  --name dpo-exp_1-20261124-101112-beef-b39ec7 \
  --hostname dpo-b39ec7 \
  --label app.kubernetes.io/name=dpo-launcher \
  --label app.kubernetes.io/managed-by=dpo-launcher \
  --label dpo-launcher/run=exp_1-20261124-101112-beef \
  --label dpo-launcher/experiment=1 \
  --label 'dpo-launcher/folder=/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef' \
  --label dpo-launcher/user=1000 \
  --user 1000:1000 \
  --group-add 27 \
  --group-add 998 \
  --workdir '/dpo/data/my project' \
  --env ACCELERATE_USE_CPU=true \
  --env CUDA_VISIBLE_DEVICES= \
  --env DPO_CACHE_ROOT=/dpo/cache \
  --env 'DPO_DATA_ROOT=/dpo/data/my project' \
  --env DPO_GRACE=120 \
  --env DPO_NNODES=1 \
  --env DPO_NPROC=1 \
  --env DPO_RUN=exp_1-20261124-101112-beef \
  --env DPO_RUN_FOLDER=/dpo/runs/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef \
  --env DPO_RUN_ROOT=/dpo/runs \
  --env DS_ACCELERATOR=cpu \
  --env HF_HOME=/dpo/cache/huggingface \
  --env HOME=/dpo/home \
  --env LOGNAME=you \
  --env NVIDIA_VISIBLE_DEVICES=void \
  --env OMP_NUM_THREADS=16 \
  --env PYTHONUNBUFFERED=1 \
  --env TMPDIR=/tmp \
  --env TOKENIZERS_PARALLELISM=false \
  --env TORCHINDUCTOR_CACHE_DIR=/dpo/cache/torchinductor \
  --env TORCH_EXTENSIONS_DIR=/dpo/cache/torch_extensions \
  --env TRITON_CACHE_DIR=/dpo/cache/triton \
  --env USER=you \
  --mount type=bind,source=/home/you/.cache/dpo-launcher,target=/dpo/cache \
  --mount type=bind,source=/home/you/models/tiny,target=/dpo/data/models/tiny,readonly \
  --mount 'type=bind,source=/home/you/my project/data/dpo/model,target=/dpo/runs/data/dpo/model' \
  --mount type=bind,source=/srv/data,target=/srv/data,readonly \
  --mount 'type=bind,source=/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef/experiment.json,target=/dpo/runs/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef/experiment.json,readonly' \
  --read-only \
  --tmpfs /tmp:exec,mode=1777 \
  --tmpfs /dpo/home:mode=700,uid=1000,gid=1000 \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --pids-limit 4096 \
  --shm-size 2g \
  --stop-timeout 130 \
  --log-opt max-size=10m \
  --log-opt max-file=2 \
  dpo-launcher:cuda-0123456789abcdef python -m trainer.processes.entrypoint /dpo/runs/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef

# a step: 8 pairs = 2 per device × 4 accumulation × 1 device
# the entry starts: torchrun --nnodes=1 --nproc-per-node=1 --master-addr=127.0.0.1 --master-port=<free> --max-restarts=0 -m trainer
# image dpo-launcher:cuda-0123456789abcdef: launch.image
