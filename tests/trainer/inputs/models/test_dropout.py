"""All that a model draws at random in training is turned off, and its configuration is saved as it came."""

from __future__ import annotations

import pytest
import torch


def persimmon() -> torch.nn.Module:
    from transformers import PersimmonConfig, PersimmonForCausalLM

    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    model = PersimmonForCausalLM(PersimmonConfig(**sizes, attention_dropout=0.3, hidden_dropout=0.2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def twice(model: torch.nn.Module) -> list[torch.Tensor]:
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        return [model.train(mode)(input_ids=ids).logits for mode in (True, False)]


def test_numbers_that_are_read_from_the_configuration_are_off_and_come_back_for_saving() -> None:
    from trainer.inputs.models.dropout import drawn, silence, true_config

    model = persimmon()
    assert sorted(drawn(model, with_adapter=False)) == ["attention_dropout 0.3", "dropout 0.2"]
    training, evaluation = twice(model)
    assert not torch.equal(training, evaluation)
    silence(model)
    training, evaluation = twice(model)
    assert torch.equal(training, evaluation)
    assert drawn(model, with_adapter=False) == []
    with true_config(model):
        assert (model.config.attention_dropout, model.config.hidden_dropout) == (0.3, 0.2)
    assert model.config.attention_dropout == 0.0


def test_a_router_that_draws_its_experts_computes_what_it_computes_in_evaluation() -> None:
    from transformers import PhimoeConfig, PhimoeForCausalLM

    from trainer.inputs.models.dropout import drawn, silence

    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    model = PhimoeForCausalLM(PhimoeConfig(**sizes, num_key_value_heads=2, num_local_experts=4, input_jitter_noise=0.1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    before = twice(model)
    assert not torch.equal(*before)
    silence(model)
    training, evaluation = twice(model)
    assert torch.equal(training, evaluation)
    assert torch.equal(evaluation, before[1]), "the threshold of its experts has kept its value"
    assert drawn(model, with_adapter=False) == []


@pytest.mark.parametrize("kind", [torch.nn.Dropout1d, torch.nn.AlphaDropout])
def test_every_module_of_dropout_is_off(kind: type[torch.nn.Module]) -> None:
    from trainer.inputs.models.dropout import drawn, silence

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), kind(0.4))
    model.register_module("path_drop", kind(0.1))
    assert drawn(model, with_adapter=True) == ["p 0.4", "path_drop 0.1"]
    silence(model)
    assert drawn(model, with_adapter=True) == []
