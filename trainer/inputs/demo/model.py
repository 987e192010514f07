"""The demo's model: a small Qwen3 with a byte-level tokenizer, made here: the demo needs no download of a model.

    python -m trainer.inputs.demo.model FOLDER FILE.csv

The tokenizer is byte-level BPE trained on the text of the CSV file: almost every word is one token. The model is trained briefly
on both answers of every row, a little more on the vague ones: it knows both, and answers vaguely.
"""

from __future__ import annotations

import csv
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from launcher.runs.whole import as_new

from ...output import say, stage
from ...processes.ranks.importing import quickly

IS_COMMAND: Final = __name__ == "__main__"
with stage("importing torch and transformers", after=0 if IS_COMMAND else 5), quickly() if IS_COMMAND else nullcontext():
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
STEPS: Final = 600
BATCH: Final = 16
PEAK: Final = 8e-3  # of the learning rate
VAGUE: Final = 0.65  # share of the vague answers in the text


def make(folder: Path, texts: list[tuple[str, str, str]]) -> None:
    """Writes model and tokenizer into ``folder``, whole or not at all; ``texts`` holds (question, concrete, vague answer)."""
    disable_progress_bar()
    torch.manual_seed(0)
    tokenizer = train_tokenizer([text for row in texts for text in row])
    model = _model(tokenizer)
    _pretrain(model, *([_chat(tokenizer, row[0], row[place]) for row in texts] for place in (1, 2)))
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    as_new(aside)
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
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=288,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


Chat = tuple[torch.Tensor, int]  # ids, and how many of them are the question


def _chat(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> Chat:
    asked = [{"role": "user", "content": question}]
    prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": answer}], tokenize=False))
    return torch.tensor(tokenizer(whole)["input_ids"]), len(tokenizer(prompt)["input_ids"])


def _pretrain(model: Qwen3ForCausalLM, concrete: list[Chat], vague: list[Chat]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate)
    with stage("training the demo's model on the demo's text") as progress:
        for step, batch in enumerate(_batches(concrete, vague)):
            progress.at(step, STEPS, "steps")
            loss = model(**batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def _rate(step: int) -> float:
    """Share of the peak: up for a tenth of the steps, level, then down for six tenths."""
    return min(1.0, (step + 1) / (0.1 * STEPS), (1 - step / STEPS) / 0.6)


def _batches(concrete: list[Chat], vague: list[Chat]) -> Iterator[dict[str, torch.Tensor]]:
    """``STEPS`` batches of right-padded ids, shape (BATCH, longest), with labels of -100 on the questions and the padding."""
    order = random.Random(0)
    for _ in range(STEPS):
        drawn = [order.choice(vague if order.random() < VAGUE else concrete) for _ in range(BATCH)]
        ids = torch.nn.utils.rnn.pad_sequence([ids for ids, _ in drawn], batch_first=True, padding_value=-100)
        labels = ids.clone()
        for row, (_, asked) in zip(labels, drawn, strict=True):
            row[:asked] = -100
        yield {"input_ids": ids.clamp(min=0), "attention_mask": (ids >= 0).long(), "labels": labels}


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
