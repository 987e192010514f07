"""Tokenizers with chat templates as models on the hub have them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from launcher.data.text.pair import Pair

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATED = "{% set day = strftime_now('%d %B %Y') %}<|im_start|>system\nToday is {{ day }}.<|im_end|>\n" + CHATML
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
DROPS_REASONING = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]").replace(
    "assistant\n", "assistant\n<think>\n"
)
NO_END = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
# As Qwen3's: the last answer's reasoning is written in a form of its own, empty where it has none.
OWN_REASONING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% set parts = m['content'].split('</think>') %}"
    "<think>\n{{ parts[0].split('<think>')[-1].strip() if parts | length > 1 else '' }}\n</think>\n\n{{ parts[-1].strip() }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# As Qwen3.5's: the prompt opens the reasoning that the answer has in a form of its own.
OPEN_REASONING = OWN_REASONING.partition("{% if enable_thinking")[0] + "<think>\n{% endif %}"
SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")

PAIRS = (
    Pair(None, "Where is it?", "At Linden Square.", "Somewhere.", 2),
    Pair(None, "How many?", "Nine of them.", "Some.", 3),
)
REASONED = (
    Pair(None, "Where is it?", "<think>The map shows Linden.</think>At Linden Square.", "<think>I guess.</think>Somewhere.", 2),
    Pair(None, "How many?", "<think>Count.</think>Nine.", "<think>No idea.</think>Some.", 3),
)


def with_system(system: str, pairs: Sequence[Pair] = PAIRS) -> tuple[Pair, ...]:
    return tuple(Pair(system, pair.user, pair.chosen, pair.rejected, pair.line) for pair in pairs)


@cache
def _vocabulary() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([pair.user + pair.chosen for pair in PAIRS], trainer)
    return str(bpe.to_str())


def tokenizer(template: str | dict[str, str] | None = CHATML, *, eos: str | None = "<|im_end|>", adds: str | None = None) -> Any:
    """A byte-level tokenizer; ``adds``: what it puts around plain text, such as ``<s> $A </s>``."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer.from_str(_vocabulary())
    if adds is not None:
        marks = [(mark, bpe.token_to_id(mark)) for mark in adds.split() if mark != "$A"]
        bpe.post_processor = processors.TemplateProcessing(single=adds, special_tokens=marks)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>" if adds else None, eos_token=eos, pad_token="<pad>", unk_token=None
    )
    made.chat_template = template
    return made
