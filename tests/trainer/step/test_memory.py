"""How long the rows of this GPU are: what the trainer measures, and that `launcher plan` says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment

GIB = 2**30
ROOT = Path(__file__).parents[3]
Card = Callable[..., None]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """Makes torch see a GPU with ``gib`` of memory, of which others have ``taken`` and this process has ``ours``."""
    import torch

    def make(gib: float, *, taken: float = 0.3, ours: float = 0.0) -> None:
        free, total = int((gib - taken - ours) * GIB), int(gib * GIB)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, total))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: int(ours * GIB))

    return make


class Model:
    """Qwen3-0.6B as far as its memory is asked for: the sizes, and weights without content."""

    def __init__(self, **sizes: Any):
        import torch
        from transformers import Qwen3Config, Qwen3ForCausalLM

        found = json.loads((ROOT / "configs/models/Qwen/Qwen3-0.6B/config.json").read_text())
        self.config = Qwen3Config(**{**found, **sizes})
        with torch.device("meta"):
            self._model = Qwen3ForCausalLM(self.config).to(torch.bfloat16)

    def parameters(self) -> Any:
        return self._model.parameters()

    def named_parameters(self) -> Any:
        return self._model.named_parameters()


def experiment(**hyper: Any) -> Experiment:
    return Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyper})


def tokens(lengths: list[int]) -> Any:
    """Pairs of ``lengths``, a third of each is the prompt."""
    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
    from trainer.inputs.tokens.tokens import Tokens

    return Tokens(TokenPairs.of(TokenPair([1] * (n // 3), [2] * (n // 3), [3] * (n - 2 * (n // 3)), 1) for n in lengths), 0)


def taken(model: Any, data: Any, wanted: Experiment, **others: Any) -> Any:
    """The rows of the only rank."""
    from types import SimpleNamespace

    from trainer.step.memory import counted, plan_rows

    args: Any = SimpleNamespace(world_size=1, deepspeed_plugin=None)
    return plan_rows(wanted, model, counted(data, wanted.global_batch), args, packed=True, **others)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def test_a_step_of_eight_pairs_is_one_row_at_the_defaults(model: Model, card: Card) -> None:
    from trainer.step.batches.packing import rows_of

    data = tokens([600] * 8)
    card(24)
    assert len(rows_of(data.pairs, taken(model, data, experiment()).tokens)) == 1
    assert len(rows_of(data.pairs, 2 * 600)) == 4, "as the micro-batch would split it"


@pytest.mark.parametrize("gib", [3, 4, 6, 8, 12, 24, 80])
@pytest.mark.parametrize("hyper", [{}, {"full_finetuning": True}, {"gpu_memory_utilization": 0.5}, {"r": 64}])
def test_the_trainer_takes_the_row_that_the_plan_says(model: Model, card: Card, gib: float, hyper: dict[str, Any]) -> None:
    from launcher.planning.estimate import estimate
    from launcher.planning.machines.gpus import Gpu
    from launcher.planning.sizes.machine import Machine
    from launcher.planning.sizes.model_config import ModelConfig
    from trainer.step.memory import counted

    data, wanted = tokens([500 + 7 * n for n in range(40)]), experiment(**hyper)
    card(gib)
    rows = taken(model, data, wanted)
    config, work = ModelConfig.parse(model.config.to_dict()), counted(data, wanted.global_batch)
    planned = estimate(wanted, config, work, Machine(gpu=Gpu("card", int(gib * GIB), None)))
    assert (rows.tokens, rows.recompute) == (planned.row, planned.recompute)
    passing = ("activations", "forward", "logits", "backward", "update")
    assert rows.adds == sum(part.size for part in planned.parts if part.name in passing)


def test_what_others_have_on_the_card_is_not_free_and_what_the_weights_have_is_counted_once(model: Model, card: Card) -> None:
    data = tokens([600] * 64)
    wanted = experiment(per_device_train_batch_size=64, gradient_accumulation_steps=1)
    card(24)
    alone = taken(model, data, wanted)
    card(24, taken=10)
    assert taken(model, data, wanted).tokens < alone.tokens / 1.5
    card(24, ours=1.1)
    assert taken(model, data, wanted) == alone, "quantised weights lie on the card before the others come"


def test_weights_that_the_sizes_do_not_tell_take_their_room(model: Model, card: Card) -> None:
    import torch

    data, seeing = tokens([600] * 64), Model(num_hidden_layers=1)
    wanted = experiment(per_device_train_batch_size=64, gradient_accumulation_steps=1)
    card(24)
    before = taken(seeing, data, wanted).room
    seeing._model.vision = torch.nn.Linear(2**15, 2**14, bias=False, device="meta", dtype=torch.bfloat16)
    assert before - taken(seeing, data, wanted).room == pytest.approx(0.8 * GIB)


def test_a_model_whose_sizes_are_unknown_has_no_plan(card: Card) -> None:
    from transformers import PretrainedConfig

    card(24)
    assert taken(type("Model", (), {"config": PretrainedConfig()}), tokens([600]), experiment()) is None


def test_rows_stay_short_where_attention_computes_what_is_not_seen(model: Model, card: Card) -> None:
    """Without FlexAttention a row costs T²."""
    import torch

    from trainer.step.memory import row_budget

    data = tokens([600] * 8)
    card(24)
    rows = taken(model, data, experiment())
    bare: Any = type("Model", (), {"_supports_attention_backend": False})()
    assert rows.tokens == 4800
    assert row_budget(data.pairs, 2, bare, torch.device("cuda"), rows) == 600
    assert row_budget(data.pairs, 2, bare, torch.device("cpu"), None) == 600


def test_rows_are_as_planned_where_flex_attention_computes_only_what_is_seen(
    model: Model, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from trainer.step import memory

    monkeypatch.setattr(memory, "attention", lambda device, model: "flex_attention")
    data = tokens([600] * 8)
    card(24)
    rows = taken(model, data, experiment())
    assert memory.row_budget(data.pairs, 2, model, torch.device("cuda"), rows) == 4800
    assert memory.row_budget(data.pairs, 2, model, torch.device("cuda"), None) == 1200, "unknown sizes"
    assert memory.row_budget(data.pairs, 2, model, torch.device("cuda"), replace(rows, packed=False)) == 1200


class TestTheChoice:
    """Of a rank, before its trainer is made."""

    def chosen(
        self, model: Model, tmp_path: Path, remembered: dict[str, Any] | None = None, **hyper: Any
    ) -> tuple[Any, Any, Any]:
        """(rows, sentences, arguments) of an experiment with eight pairs of 600 tokens."""
        from types import SimpleNamespace

        import torch

        from launcher.runs.run_dir import RunDir
        from trainer.inputs.arguments import arguments
        from trainer.inputs.models.model import Precision
        from trainer.prepare.model import _choose_rows
        from trainer.processes.ranks.machine import Device

        checkpoint = None
        if remembered is not None:
            checkpoint = tmp_path / "checkpoint-1"
            checkpoint.mkdir()
            state = {"global_step": 1, "stateful_callbacks": remembered}
            (checkpoint / "trainer_state.json").write_text(json.dumps(state))
        wanted = experiment(**hyper)
        device = Device(cuda=False, bf16=False, rank=0, world=1)
        args = arguments(wanted, RunDir(tmp_path), Precision(torch.float32, bf16=False, fp16=False), device)
        rank: Any = SimpleNamespace(experiment=wanted)
        inputs: Any = SimpleNamespace(args=args, tokens=tokens([600] * 8), checkpoint=checkpoint)
        return *_choose_rows(rank, inputs, model._model), args

    def test_nothing_is_recomputed_where_the_longest_pair_fits(self, model: Model, tmp_path: Path, card: Card) -> None:
        card(24)
        rows, said, args = self.chosen(model, tmp_path)
        assert (rows.tokens, rows.packed, args.gradient_checkpointing) == (4800, True, False)
        assert said == [rows.checkpointing]
        assert said[0].startswith("gradient checkpointing off: without it the longest pair needs about 1.4 GiB, ")

    def test_everything_is_recomputed_where_it_does_not(self, model: Model, tmp_path: Path, card: Card) -> None:
        card(3.5)
        rows, said, args = self.chosen(model, tmp_path)
        assert (args.gradient_checkpointing, args.activation_checkpointing, rows.tokens) == (True, True, 4800)
        assert said[0].startswith("gradient checkpointing on: ")

    def test_the_plain_path_is_planned_for_where_it_will_be_taken(self, model: Model, tmp_path: Path, card: Card) -> None:
        card(24)
        for hyper in ({"dpo_path": "plain"}, {"loss_type": "aot"}):
            rows, _, _ = self.chosen(model, tmp_path, **hyper)
            assert (rows.packed, rows.tokens) == (False, 2 * 2 * 400)
        rows, _, _ = self.chosen(model, tmp_path, {"dpo_path": "plain"})
        assert not rows.packed, "the checkpoint's run took it"

    def test_a_resumed_run_recomputes_as_it_did_before(self, model: Model, tmp_path: Path, card: Card) -> None:
        card(24)
        _, said, args = self.chosen(model, tmp_path, {"gradient_checkpointing": True})
        assert args.gradient_checkpointing
        assert said == ["gradient checkpointing on: as in the run of the checkpoint"]

    def test_a_setting_is_kept_and_needs_no_sentence(self, model: Model, tmp_path: Path, card: Card) -> None:
        card(3)
        rows, said, args = self.chosen(model, tmp_path, use_gradient_checkpointing=False)
        assert (rows.tokens, said, args.gradient_checkpointing) == (600, [], False)
