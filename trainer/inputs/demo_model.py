"""The demo's model: a small Qwen3 with a byte-level tokenizer, made here: the demo needs no download of a model.

    python -m trainer.inputs.demo_model FOLDER FILE.csv

The tokenizer is byte-level BPE trained on the text of the CSV file. The model is trained briefly on both answers of every row:
it knows the words and prefers neither answer.
"""

from __future__ import annotations

import csv
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..output import say, stage

with stage("importing torch and transformers", after=0 if __name__ == "__main__" else 5):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils.logging import disable_progress_bar

VOCABULARY: Final = 2048
SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STEPS: Final = 80
BATCH: Final = 16


def make(folder: Path, texts: list[tuple[str, str, str]]) -> None:
    """Writes model and tokenizer into ``folder``, whole or not at all; ``texts`` holds (question, answer, other answer)."""
    disable_progress_bar()
    torch.manual_seed(0)
    tokenizer = train_tokenizer([text for row in texts for text in row])
    model = _model(tokenizer)
    _pretrain(model, _sequences(tokenizer, texts))
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.rename(folder)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _sequences(tokenizer: PreTrainedTokenizerFast, texts: list[tuple[str, str, str]]) -> list[list[int]]:
    chats = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, *answers in texts
        for answer in answers
    ]
    return [tokenizer(str(tokenizer.apply_chat_template(chat, tokenize=False)))["input_ids"] for chat in chats]


def _pretrain(model: Qwen3ForCausalLM, sequences: list[list[int]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS)
    with stage("training the demo's model on the demo's text") as progress:
        for step, batch in enumerate(_batches(sequences)):
            progress.at(step, STEPS, "steps")
            loss = model(**batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def _batches(sequences: list[list[int]]) -> Iterator[dict[str, torch.Tensor]]:
    """``STEPS`` batches of right-padded ids, shape (BATCH, longest), with labels of -100 on the padding."""
    order = random.Random(0)
    for _ in range(STEPS):
        chosen = [torch.tensor(s) for s in order.sample(sequences, BATCH)]
        ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=-100)
        mask = (ids >= 0).long()
        yield {"input_ids": ids.clamp(min=0), "attention_mask": mask, "labels": ids}


def main() -> None:
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    if (folder / "config.json").exists():
        return
    began = time.monotonic()
    with file.open(newline="", encoding="utf-8") as lines:
        texts = [(row["question"], row["concrete"], row["vague"]) for row in csv.DictReader(lines)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    make(folder, texts)
    say(f"made the demo's model in {time.monotonic() - began:.0f} s: {folder}")


if __name__ == "__main__":
    main()
