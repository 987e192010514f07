"""Ids and lengths beyond a model's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, Warned
from launcher.experiment.schema import Experiment
from trainer.inputs.tokens.reach import Data, Reach, check_reach
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.inputs.tokens.tokens import Tokens

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT = {"n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 64}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {**YARN, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "factor": 2.0}


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [
        ("llama", {}, Reach(96, None, 64)),
        ("gpt2", GPT, Reach(96, 64, None)),
        ("gptj", {**GPT, "rotary_dim": 8}, Reach(96, 64, None)),  # sines in a table
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}, Reach(96, 64, None)),  # two rows of its table are an offset
        ("roberta", {"is_decoder": True, "pad_token_id": 1}, Reach(96, 62, None)),  # it counts from behind the padding token
        ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 1, "max_seq_len": 64}, Reach(96, 64, None)),
        ("bloom", {"n_layer": 1, "n_head": 4}, Reach(96, None, None)),
        ("falcon", {"alibi": True}, Reach(96, None, None)),
        ("mamba", {}, Reach(96, None, None)),
        ("llama", {"rope_parameters": YARN}, Reach(96, None, 256)),
        ("llama", {"rope_parameters": LLAMA3}, Reach(96, None, 128)),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, Reach(96, None, None)),
        ("gemma3_text", {"head_dim": 8, "sliding_window": 16}, Reach(96, None, 64)),
    ],
)
def test_the_reach_of_a_model_is_that_of_its_tables(family: str, settings: dict[str, Any], expected: Reach) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SMALL, **settings}))
    assert Reach.of(model) == expected


def test_positions_of_an_image_are_no_limit_of_the_text() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 56}
    with torch.device("meta"):
        config = AutoConfig.for_model("gemma3", text_config={**SMALL, "head_dim": 8}, vision_config=vision)
        model = AutoModelForCausalLM.from_config(config)
    assert any("position_embedding" in name for name, _ in model.named_modules())
    assert Reach.of(model) == Reach(96, None, 64)


@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt", "roberta", "mpt"])
def test_the_longest_sequence_of_a_table_is_the_longest_that_the_model_computes(family: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    own = {"gpt2": GPT, "gptj": {**GPT, "rotary_dim": 8}, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}}
    own |= {
        "roberta": {"is_decoder": True, "pad_token_id": 1},
        "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 1, "max_seq_len": 64},
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SMALL, **own[family]}))
    limit = Reach.of(model).positions
    assert limit is not None
    model(input_ids=torch.full((1, limit), 5), use_cache=False)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, limit + 1), 5), use_cache=False)


class Tokenizer:
    """What the checks ask of a tokenizer."""

    pad_token_id, pad_token, eos_token_id, eos_token = 0, "t0", 2, "t2"

    def convert_ids_to_tokens(self, number: int) -> str:
        return f"t{number}"


def data(*pairs: tuple[list[int], list[int], list[int]]) -> list[Data]:
    found = TokenPairs.of(TokenPair(*pair, line=2 + line) for line, pair in enumerate(pairs))
    return [Data("train.csv", Tokens(found, 0))]


def experiment() -> Experiment:
    mapping = {"input_columns": {"q": "q"}, "chosen": "c", "rejected": "r"}
    return Experiment.parse(
        {"experiment_id": "1", "model_name": "org/model", "datasets_path": "d", "dpo_column_mapping_config": mapping}
    )


def refused(reach: Reach, found: list[Data]) -> str:
    with pytest.raises(ExperimentError) as caught:
        check_reach(reach, experiment(), found, Tokenizer())
    return str(caught.value)


def test_an_id_without_a_row_in_the_embedding_is_told_with_its_token_and_first_row() -> None:
    found = data(([1, 2], [3], [4]), ([1], [99, 3], [96]), ([1], [2], [98]))
    assert refused(Reach(96, None, None), found) == (
        "model_name: token 't99' has id 99, and the embedding of org/model has 96 rows\n"
        "    expected: ids below 96, as those of the tokenizer that the model was trained with\n"
        "    found:    first in train.csv:3; 2 of 3 pairs have such tokens\n"
        "    hint:     to add tokens, give the model rows for them: model.resize_token_embeddings(len(tokenizer)); "
        "save both together"
    )
    assert check_reach(Reach(100, None, None), experiment(), found, Tokenizer()) == []
    assert check_reach(None, experiment(), found, Tokenizer()) == []


def test_a_sequence_beyond_the_learned_positions_names_the_setting() -> None:
    found = data(([1] * 8, [2], [3, 3, 3]), ([1], [2], [3]))
    assert refused(Reach(96, 10, None), found) == (
        "hyperparameters.max_seq_length: org/model has positions for 10 tokens, and 1 of 2 pairs are longer\n"
        "    expected: at most 10\n"
        "    found:    1024; the longest sequence has 11 tokens\n"
        "    hint:     set max_seq_length: 10 to cut longer answers"
    )
    assert check_reach(Reach(96, 11, None), experiment(), found, Tokenizer()) == []


def test_a_sequence_beyond_the_trained_range_of_rotary_positions_is_a_warning() -> None:
    found = data(([1] * 8, [2], [3, 3, 3]), ([1], [2], [3]))
    (warning,) = check_reach(Reach(96, None, 10), experiment(), found, Tokenizer())
    assert isinstance(warning, Warned)
    assert warning == (
        "1 of 2 pairs are longer than the 10 tokens for which the positions of org/model were trained (the longest has 11): "
        "the model knows no later position; set hyperparameters.max_seq_length: 10 to cut them"
    )
    assert check_reach(Reach(96, None, 11), experiment(), found, Tokenizer()) == []


@pytest.mark.parametrize(("eos", "pads"), [(2, "t2"), (97, "t0")])
def test_a_padding_token_without_a_row_is_replaced_and_told(eos: int, pads: str) -> None:
    tokenizer = Tokenizer()
    tokenizer.pad_token_id, tokenizer.pad_token = 96, "<pad>"
    tokenizer.eos_token_id, tokenizer.eos_token = eos, f"t{eos}"
    assert check_reach(Reach(96, None, None), experiment(), data(([1], [2], [3])), tokenizer) == [
        f"the padding token '<pad>' has id 96, and the embedding has 96 rows: {pads!r} pads instead"
    ]
    assert tokenizer.pad_token == pads


def test_a_configuration_that_pads_beyond_its_embedding_is_refused(tmp_path: Path) -> None:
    from transformers import AutoConfig

    from trainer.inputs.models.skeleton import examined

    AutoConfig.for_model("llama", **SMALL, pad_token_id=96).save_pretrained(tmp_path)
    model = experiment().model_copy(update={"model_name": str(tmp_path)})
    with pytest.raises(ExperimentError, match="pads with id 96, and its embedding has 96 rows"):
        examined(model, str(tmp_path))


def test_a_model_that_cannot_be_made_without_its_weights_is_left_to_its_loading(tmp_path: Path) -> None:
    from trainer.inputs.models.skeleton import examined

    (tmp_path / "config.json").write_text('{"model_type": "no_such"}')
    assert examined(experiment(), str(tmp_path)) is None
