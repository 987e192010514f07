"""Which path a run takes, and that both compute the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.errors import ExperimentError, HealthError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.trainer.trained import with_margins

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
MakeTrainer = Callable[..., Any]
NewRun = Callable[[Path, Experiment, str], RunDir]


def test_packed_rows_give_trls_log_probabilities_and_gradients(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from trainer.step.batches.packing import pack
    from trainer.step.choosing.choice import Choice, score
    from trainer.step.packed import Packed

    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(), pairs=12)
    with_margins(trainer.model)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(12)])
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    plain = trainer.model(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels, fused_lm_head=True
    )
    expected = plain.log_probs.double().sum(1).view(2, -1).T
    (expected[:, 0] - expected[:, 1]).sum().backward()
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()

    packed = Packed(trainer.model)
    rows = pack(tokens.pairs, budget=300)
    assert 1 < len(rows) < 12, "rows with several pairs, and several rows"
    logps = torch.empty(12, 2, dtype=torch.float64)
    for row in rows:
        sums, output = packed(trainer.model, row)
        assert output.log_probs.shape == row.targets.shape, "the head sees the places that predict an answer, and no other"
        (sums[:, 0] - sums[:, 1]).sum().backward()
        logps[list(row.pairs)] = sums.detach()
    torch.testing.assert_close(logps, expected.detach(), rtol=1e-6, atol=1e-4)
    for name, p in trainer.model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-5)
    scored = score(trainer, trainer.model, Choice(packed, 300, ""), tokens.pairs)
    assert torch.equal(scored, logps), "scoring is the same pass"


def test_a_model_that_does_not_heed_positions_takes_the_plain_path_and_says_by_how_much(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

    from trainer.step.choosing.choice import choose_path

    class CountsByItself(Qwen3Model):
        def forward(self, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(), pairs=12)
    trainer.model.get_base_model().model.__class__ = CountsByItself
    choice = choose_path(trainer, "auto", tokens, None)
    assert choice.path == "plain"
    assert choice.sentence.startswith("plain path: packed rows give other results than TRL on the first pairs: log-probabilities")
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters()), "the comparison leaves no gradient"
    with pytest.raises(ExperimentError, match="the fast path is not possible here"):
        choose_path(trainer, "fast", tokens, None)


@pytest.mark.parametrize(
    ("hyper", "why"),
    [
        ({"loss_type": "aot"}, "loss_type aot needs the whole batch"),
        ({"ld_alpha": 0.5}, "ld_alpha depends on the length of the other answer"),
        ({"use_weighting": True}, "use_weighting needs values of whole sequences"),
        (
            {"disable_dropout": False},
            "dropout is on (disable_dropout: false): both answers would share the prompt's mask",
        ),
    ],
)
def test_settings_that_look_beyond_a_pair_take_the_plain_path(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer, hyper: dict[str, Any], why: str
) -> None:
    from trainer.step.choosing.choice import choose_path

    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(**hyper), pairs=4)
    assert choose_path(trainer, "auto", tokens, None).sentence == f"plain path: {why}"


def test_metrics_of_the_caller_and_several_evaluation_sets_take_the_plain_path_and_another_set_has_its_own_figures(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from dataclasses import replace

    from trainer.step.choosing.choice import choose_path, take_path

    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(), pairs=6)
    held_out, other = (replace(tokens, pairs=pairs) for pairs in (tokens.pairs[:4], tokens.pairs[4:]))
    trainer.compute_metrics = lambda prediction: {}
    assert (
        choose_path(trainer, "auto", tokens, None).sentence == "plain path: compute_metrics needs the logits of whole sequences"
    )
    trainer.compute_metrics, trainer.eval_dataset = None, {"one": held_out.dataset(), "two": other.dataset()}
    several = "plain path: several evaluation sets are evaluated one by one"
    assert choose_path(trainer, "auto", tokens, None).sentence == several
    trainer.eval_dataset = held_out.dataset()
    data = [("train.csv", tokens), ("held out", held_out)]
    take_path(trainer, choose_path(trainer, "fast", tokens, None), precision, "w", data, tmp_path)
    with_margins(trainer.model)
    own, given = trainer.evaluate(), trainer.evaluate(other.dataset())
    trainer._fast = replace(trainer._fast, held_out=None)
    assert given["eval_loss"] != pytest.approx(own["eval_loss"], rel=1e-3)
    names = ("eval_loss", "eval_logps/chosen", "eval_rewards/margins", "eval_entropy")
    plain = trainer.evaluate(held_out.dataset())
    assert [own[name] for name in names] == pytest.approx([plain[name] for name in names], rel=1e-4)


def test_models_whose_attention_looks_elsewhere_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl import DPOConfig

    from trainer.step.packed import why_plain

    args = DPOConfig(output_dir="unused", use_cpu=True, bf16=False)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64, "intermediate_size": 32}
    small |= {"num_key_value_heads": 2, "pad_token_id": 0}

    def why(kind: str, **settings: Any) -> str | None:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**small, **settings}))
        return why_plain(model, args, longest=100)

    assert why("qwen3") is why("llama") is None
    assert why("mistral", sliding_window=128) is None, "no sequence is longer than the window"
    assert why("mistral", sliding_window=64) is None, "packed rows have windows, too"
    monkeypatch.delattr("transformers.models.mistral.modeling_mistral.create_sliding_window_causal_mask")
    own = "mistral has a sliding window of 64 tokens in code of its own, and the longest sequence has 100"
    assert why("mistral", sliding_window=64) == own
    assert "mamba carries a state through the sequence" in str(why("mamba", num_key_value_heads=None))
    assert why("bloom", n_head=4) == "bloom does not accept position_ids"
    assert why("qwen3", attn_implementation="eager") == "qwen3 uses eager attention, and packed rows need sdpa or flex_attention"


def test_another_learning_rate_does_no_forward_of_the_reference_and_another_length_computes_what_it_changed(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, capfd: pytest.CaptureFixture[str]
) -> None:
    few = {"max_steps": 1, "per_device_train_batch_size": 2}
    changes = [
        {},
        {"learning_rate": 1e-4, "beta": 0.3, "seed": 7, "r": 4, "gradient_accumulation_steps": 2},
        {"max_seq_length": 90},
    ]
    said = []
    for number, change in enumerate(changes):
        run_in(tmp_path, new_run, make_experiment(**{**few, **change}), str(number))
        said.append(next(line for line in capfd.readouterr().out.splitlines() if line.startswith("reference: ")))
    assert said[0].startswith("reference: 0 of 420 pairs from the cache, 420 computed")
    assert said[1].startswith("reference: 420 of 420 pairs from the cache, 0 computed")
    hits = int(said[2].split()[1])
    assert 0 < hits < 420, "pairs that were not cut are still known"


def test_a_loss_that_is_not_a_number_names_its_rows(tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer) -> None:
    from trainer.health import HealthCallback
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.packed import Scored

    experiment = make_experiment(max_steps=1)
    trainer, tokens, precision = make_trainer(tmp_path, experiment, pairs=4)
    health = HealthCallback(experiment.health)
    health.culprits = trainer.culprits.in_words
    trainer.add_callback(health)
    take_path(trainer, choose_path(trainer, "fast", tokens, None), precision, lambda: "w", [("train.csv", tokens)], tmp_path)
    scored: Scored = trainer._fast.train
    scored.reference[2, 0] = float("inf")
    line = tokens.pairs[2].line
    with pytest.raises(HealthError, match=rf"loss is (nan|inf|-inf) at step 1 \(rows train\.csv:{line}\)"):
        trainer.train()


def test_a_resume_takes_the_path_of_its_checkpoint(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    first = make_experiment(max_steps=1, save_strategy="steps", save_steps=1, dpo_path="plain")
    run = run_in(tmp_path, new_run, first, "first")
    state = json.loads((run.path / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["dpo_path"] == "plain"
    again = make_experiment(max_steps=2, resume_from_checkpoint=str(run.path / "checkpoint-1"))
    resumed = run_in(tmp_path, new_run, again, "again")
    assert resumed.read_record()["dpo_path"] == {
        "path": "plain",
        "sentence": "plain path: as in the run of the checkpoint",
        "row_tokens": resumed.read_record()["dpo_path"]["row_tokens"],
    }


def test_rows_are_as_long_as_memory_allows_and_after_a_resume_no_longer_than_before(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU; here only FlexAttention's name is used, and nothing is computed."""
    from launcher.planning.rows import Rows
    from trainer.step import memory, packed
    from trainer.step.batches.packing import packed_lengths
    from trainer.step.choosing.choice import choose_path

    for module in (memory, packed):
        monkeypatch.setattr(module, "attention", lambda device, model=None: "flex_attention")
    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(), pairs=4)
    free = {"recompute": False, "packed": True, "needed": 0, "adds": 3 << 30, "room": 8 << 30}
    rows = Rows(tokens=5000, whole=True, by_memory=True, **free)

    def budget(budgets: list[int] | None = None, rows: Rows | None = rows) -> tuple[int, str | None]:
        choice = choose_path(trainer, "auto", tokens, "fast", budgets, rows)
        assert choice.packed is not None
        choice.packed.remove()
        return choice.budget, choice.rows

    whole = int(packed_lengths(tokens.pairs).sum())  # a step of four pairs: no row is longer
    assert budget() == (whole, "rows of up to 5,000 tokens, a whole step: about 3.0 of 8.0 GiB that are free")
    assert budget([4000]) == (whole, "rows of up to 4,000 tokens: as in the run of the checkpoint")
    assert budget([9000]) == budget(), "memory may have run out since"
    assert budget([whole - 1])[0] < whole
    assert budget(rows=None) == (whole, None), "a model of unknown sizes: by its pairs"


def test_pairs_that_are_too_long_together_are_compared_one_by_one(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from trainer.step.choosing.comparison import _plain

    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(), pairs=2)
    with_margins(trainer.model)
    widths: list[int] = []
    trainer.model.register_forward_pre_hook(lambda _, args, given: widths.append(len(given["input_ids"])), with_kwargs=True)
    together = _plain(trainer, trainer.model, tokens.pairs, 10**6)
    alone = _plain(trainer, trainer.model, tokens.pairs, 100)
    assert widths == [4, 2, 2]
    torch.testing.assert_close(alone.logps, together.logps, rtol=1e-5, atol=1e-4)
    assert alone.gradient == pytest.approx(together.gradient, rel=1e-4)


def test_a_row_that_does_not_fit_is_halved_and_not_the_budget_above_it(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from dataclasses import replace

    from trainer.step.batches.packing import packed_lengths
    from trainer.step.choosing.choice import choose_path, take_path

    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(), pairs=4)
    take_path(trainer, choose_path(trainer, "fast", tokens, "fast"), precision, "w", [("train.csv", tokens)], tmp_path)
    trainer._fast = replace(trainer._fast, budget=10**6)
    assert trainer._shorten(tokens.pairs)
    assert trainer._fast.budget == int(packed_lengths(tokens.pairs).sum()) // 2


def test_what_is_tried_before_the_training_recomputes_activations_as_the_training_does(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer
) -> None:
    from trainer.step.choosing.choice import choose_path, take_path

    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(use_gradient_checkpointing=True), pairs=4)
    layer = trainer.model.get_base_model().model.layers[1]
    calls: list[str] = []
    layer.register_forward_hook(lambda *args: calls.append("layer"))
    layer.mlp.register_forward_pre_hook(lambda *args: calls.append("mlp"))

    def computed() -> tuple[int, int]:
        found = calls.count("layer"), calls.count("mlp")
        calls.clear()
        return found

    choice = choose_path(trainer, "fast", tokens, None)
    passes, mlps = computed()
    assert (passes > 1, mlps) == (True, 2 * passes), "the comparison with TRL: forward, and once more for the backward pass"
    take_path(trainer, choice, precision, "w", [("train.csv", tokens)], tmp_path)
    passes, mlps = computed()
    assert mlps == passes > 0, "the reference has no gradient"
    trainer.try_longest()
    assert computed() == (1, 2)


def test_the_longest_row_is_tried_beside_the_optimizer_s_state(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step makes it: a row that only fits without it would end the run at the second."""
    import weakref

    from trainer.step.choosing.choice import choose_path, take_path

    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(), pairs=4)
    take_path(trainer, choose_path(trainer, "fast", tokens, "fast"), precision, "w", [("train.csv", tokens)], tmp_path)
    made, sizes, empty = [], [], torch.empty

    def noted(*args: Any, **kwargs: Any) -> torch.Tensor:
        found = empty(*args, **kwargs)
        if found.dtype == torch.uint8:
            made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(torch, "empty", noted)
    trainer.model.register_forward_pre_hook(lambda *_: sizes.append(sum(one().numel() for one in made)))
    trainer.try_longest()
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert sizes == [8 * trained], "two numbers of four bytes for each weight"
    assert [one() for one in made] == [None]


def test_whatever_a_packed_pass_raises_the_plain_path_is_taken(
    tmp_path: Path, make_experiment: Make, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.step.choosing.choice import choose_path
    from trainer.step.packed import Packed

    errors = [UserWarning("flex_attention called without torch.compile"), torch._dynamo.exc.FailOnRecompileLimitHit("too many")]

    def fails(*args: Any) -> None:
        raise raised

    monkeypatch.setattr(Packed, "__call__", fails)
    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(), pairs=2)
    for raised in errors:
        assert choose_path(trainer, "auto", tokens, None).sentence == f"plain path: the packed forward pass failed: {raised}"


@pytest.mark.parametrize(
    ("loss", "gradient", "sentence"),
    [
        (9.5e-8, 1.2e-9, "loss within 1e-7, gradient within 2e-9"),
        (0.0, 4e-9, "identical loss, gradient within 4e-9"),
        (0.0, 0.0, "no difference in any digit"),
        (3e-7, None, "loss within 3e-7; gradients not compared: the weights are sharded"),
        (float("nan"), 0.5, "loss off by nan, gradient within 5e-1"),
    ],
)
def test_a_difference_is_told_as_a_bound_and_none_as_none(loss: float, gradient: float | None, sentence: str) -> None:
    from trainer.step.choosing.comparison import Difference

    assert str(Difference(logps=0.0, loss=loss, gradient=gradient)) == sentence


@pytest.mark.parametrize("half", [True, False])
def test_a_steep_loss_does_not_turn_rounding_into_another_path(half: bool) -> None:
    """sppo_hard with beta 0.1 has a slope of 10 a nat: the rounding of 2,000 tokens in bf16 is 5 of its loss."""
    from trainer.step.choosing.comparison import Difference

    rounding, wrong = (0.01, 0.2) if half else (1e-6, 2e-4)
    assert not Difference(logps=rounding, loss=450 * rounding, gradient=rounding).beyond(half=half)
    assert Difference(logps=wrong, loss=0.0, gradient=rounding).beyond(half=half)
    assert Difference(logps=rounding, loss=0.0, gradient=0.2).beyond(half=half)
    assert Difference(logps=float("nan"), loss=0.0, gradient=None).beyond(half=half)


def run_in(root: Path, new_run: NewRun, experiment: Experiment, name: str) -> RunDir:
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    run = new_run(root, experiment, name)
    for folder in (run.logs, run.tensorboard, run.data):
        folder.mkdir(parents=True, exist_ok=True)
    train(run, experiment, Roots(root, root, root / "cache"), StopRequest(), attempt=1)
    return run
