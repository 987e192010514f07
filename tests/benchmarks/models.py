"""Models with random weights that the benchmarks train: their sizes, and a tokenizer whose words are ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

Sizes = dict[str, Any]  # keyword arguments of Qwen3Config

TINY: Final[Sizes] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SMALL: Final[Sizes] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 48,
}
MEDIUM: Final[Sizes] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
HUNDRED: Final[Sizes] = {
    "vocab_size": 16384,
    "hidden_size": 768,
    "intermediate_size": 2304,
    "num_hidden_layers": 13,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 64,
}  # 0.1 billion parameters
QWEN3_06B: Final[Sizes] = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
QWEN3_4B: Final[Sizes] = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
# A message is its words; an answer ends with a word of its own.
TEMPLATE: Final = "{% for m in messages %}{{ m['content'] }} <end> {% endfor %}"


def config(sizes: Sizes) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        **sizes, max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=1, eos_token_id=1, pad_token_id=0
    )


def tokenizer(words: int = 0) -> Any:
    """For TRL, which wants one although the pairs are ids already; with ``words``, id n (2 and more) is the word ``w<n>``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<end>": 1, **{f"w{number}": number for number in range(2, words)}}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = WhitespaceSplit()
    found = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>")
    found.chat_template = TEMPLATE
    return found


def save(sizes: Sizes, folder: Path, device: str) -> None:
    """Writes a model of random weights, in bf16 where ``device`` is cuda, and its tokenizer; nothing where they are there."""
    import torch
    from transformers import Qwen3ForCausalLM

    if (folder / "tokenizer.json").is_file():
        return
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM(config(sizes))
    model.to(torch.bfloat16 if device == "cuda" else torch.float32).save_pretrained(folder)
    tokenizer(sizes["vocab_size"]).save_pretrained(folder)
    if device == "cuda":
        del model
        torch.cuda.empty_cache()


def resized(model: Path, sizes: Sizes, folder: Path) -> Path:
    """``folder``, with a model of random weights and the tokenizer and template of ``model``."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    words = AutoTokenizer.from_pretrained(model)
    torch.manual_seed(0)
    ids = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    Qwen3ForCausalLM(Qwen3Config(**sizes, **ids, max_position_embeddings=8192, tie_word_embeddings=True)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
