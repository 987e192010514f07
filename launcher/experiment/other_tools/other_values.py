"""Values of our keys in the words of other tools (``optim: adamw``, ``loss_type: dpo``), and what to write instead. Pure."""

from collections.abc import Mapping
from typing import Final

from .other_names import inverted, spelt

# our key -> what to write -> other tools' values.
VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "loss_type": {
        "not a DPO loss: this tool trains by DPO and SFT": "kto orpo simpo cpo ppo grpo rloo reward online_dpo xpo gkd alphapo",
        "no longer in TRL; use apo_zero": "kto_pair",
        "use sigmoid (the loss of the DPO paper)": "dpo logsigmoid",
        "use sigmoid with label_smoothing": "cdpo",
        "use hinge": "rso slic",
        "use robust": "rdpo robust_dpo",
        "use bco_pair": "bco",
        "use exo_pair": "exo",
        "use nca_pair": "nca",
        "use sppo_hard": "sppo",
        "use apo_zero or apo_down": "apo",
        "use sigmoid with use_weighting: true": "wpo",
        "use [sigmoid, sft] with loss_weights": "rpo",
    },
    "framework": {"remove the key: TRL trains every experiment": "axolotl llamafactory llama_factory torchtune peft openrlhf"},
    "optim": {"use adamw_torch": "adam adamw adamw_hf", "use lion_32bit": "lion", "use paged_adamw_32bit": "paged_adamw"},
    "torch_dtype": {
        "use bfloat16": "bf16 torch.bfloat16",
        "use float16": "fp16 half torch.float16",
        "use float32": "fp32 float torch.float32",
    },
    "attn_implementation": {"use flash_attention_2": "fa2 flash flash_attn flash2 flash_attn_2", "use flash_attention_3": "fa3"},
    "lr_scheduler_type": {
        "use cosine": "cosine_annealing cosineannealinglr cosine_decay",
        "use constant": "none off flat",
        "use warmup_stable_decay": "wsd",
    },
    "provider": {
        "use s3 and name the server in endpoint_url": "aws minio ceph r2 cloudflare garage seaweedfs",
        "not supported: only servers with the S3 protocol": "gcs gs gcp google azure",
        "without upload_to_cloud the adapter stays in model_output_dir": "local none disk filesystem",
    },
    "parallelism": {
        "FSDP is not supported; use zero3": "fsdp fsdp2",
        "use zero1, zero2 or zero3": "deepspeed zero",
        "use zero1": "zero_1  stage1 stage_1 deepspeed_zero1 ds_z1",
        "use zero2": "zero_2 stage2 stage_2 deepspeed_zero2 ds_z2",
        "use zero3": "zero_3 stage3 stage_3 deepspeed_zero3 ds_z3",
        "use ddp": "none off single",
    },
}
_VALUES: Final = {key: inverted(values) for key, values in VALUES.items()}


def meant_value(key: str, value: str) -> str | None:
    """What to write for another tool's ``value`` of our setting ``key``, or None."""
    return _VALUES.get(key, {}).get(spelt(value))
