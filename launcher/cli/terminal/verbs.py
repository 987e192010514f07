"""Verbs of other tools, and the command that does the same here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# what to type -> verbs of TRL, Axolotl, LLaMA-Factory, ms-swift, torchtune, kubectl and git
_MEANT: Final[Mapping[str, str]] = {
    "launcher run EXP": "train dpo sft rlhf fit finetune fine-tune start launch",
    "launcher run EXP --sweep KEY=V1,V2": "sweep hpo tune",
    "launcher resume RUN": "continue retry restart",
    "launcher stop RUN": "kill cancel abort",
    "launcher chat RUN, or launcher generate RUN --data FILE -o FILE": "infer inference predict",
    "launcher learned RUN, or launcher score RUN --data FILE": "eval evaluate test",
    "launcher merge RUN -o FOLDER": "export merge-lora merge_lora merge-sharded-fsdp-weights fuse",
    "launcher push RUN --to OWNER/NAME": "publish",
    "launcher serve RUN": "deploy vllm vllm-serve api",
    "launcher report --serve, or launcher tensorboard": "ui webui web-ui webchat studio dashboard tb",
    "launcher check EXP": "validate lint verify",
    "launcher data EXP": "preprocess inspect dataset datasets",
    "launcher plan EXP": "estimate estimate-memory memory cost",
    "launcher init": "new create quickstart setup cp",
    "launcher ps": "ls runs jobs history",
    "launcher rm RUN": "delete remove",
    "launcher doctor": "env info check-env",
    "launcher explain KEY": "describe config",
    "launcher secrets push": "login",
    "launcher --version": "version",
}
_BY_VERB: Final = {verb: command for command, verbs in _MEANT.items() for verb in verbs.split()}


def meant_verb(verb: str) -> str | None:
    """The command to type for ``verb``, which is none of ours, or None."""
    return _BY_VERB.get(verb.lower())
