"""The first step of a fresh policy is checked, whatever is logged, and its warning names a cause."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.errors import HealthError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.step.loss.first import LEAST, Expected, expected, wrong

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]


def args(*loss_type: str, **settings: Any) -> Any:
    defaults = {"loss_weights": None, "label_smoothing": 0.0, "beta": 0.1, "use_weighting": False, "discopop_tau": 0.05}
    defaults |= {"f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5}
    return SimpleNamespace(**{**defaults, "loss_type": list(loss_type), **settings})


def bf16(setting: Any, pairs: int = 2) -> Expected:
    import torch

    return expected(setting, LEAST[torch.bfloat16], (20, 400), pairs)


def test_half_a_tenth_of_a_nat_is_seen_in_16_bits_and_rounding_is_not() -> None:
    known = bf16(args("sigmoid"))
    assert known.loss == pytest.approx(math.log(2))
    dropped = {"loss": 0.7410852, "rewards/chosen": -0.0498, "rewards/rejected": 0.0451}
    assert len(list(wrong(dropped, known, None))) == 2
    rounded = {"loss": 0.6935, "rewards/chosen": 0.0004, "rewards/rejected": -0.0003}
    assert list(wrong(rounded, known, None)) == []
    hidden = {"loss": 0.6931472, "rewards/chosen": 0.2, "rewards/rejected": 0.2}
    assert list(wrong(hidden, known, None)) == ["the first rewards are +0.2 (chosen) and +0.2 (rejected), expected 0 (± 0.01)"]
    assert list(wrong(dropped, known, 0.1)) == [], "the experiment allows that much"


def test_what_rounding_may_do_follows_the_slope_of_the_loss_and_the_number_of_pairs() -> None:
    sigmoid, many = bf16(args("sigmoid")), bf16(args("sigmoid"), pairs=32)
    assert sigmoid.loss_within == pytest.approx(4 * 0.1 / 2 * math.sqrt(2) * 2e-3 * 20 / math.sqrt(2), rel=0.01)
    assert many.loss_within == pytest.approx(sigmoid.loss_within / 4, rel=0.02)
    assert many.rewards_within == pytest.approx(sigmoid.rewards_within / 4)
    steep = bf16(args("sppo_hard"))
    assert (steep.loss, steep.loss_within > 10 * sigmoid.loss_within) == (pytest.approx(50.0), True)
    both = bf16(args("sigmoid", "sft", loss_weights=[1.0, 0.5]))
    assert both.loss is None, "sft depends on the text"
    assert both.rewards_within == sigmoid.rewards_within


@pytest.fixture(scope="module")
def dropping(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with dropout in attention, as IBM Granite 3 has it, and with weights with which attention matters."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("dropping") / "tiny-qwen3"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    file, numbers = folder / "model.safetensors", torch.Generator().manual_seed(1)
    weights = {name: torch.randn(w.shape, generator=numbers) * 0.3 if w.ndim > 1 else w for name, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def begin(
    tmp_path: Path, few_pairs: Path, make_experiment: Make, new_run: NewRun, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Trains one step, of which no line is logged, and returns what is said of it."""

    def begin(model: Path, *, health: dict[str, Any] | None = None, **hyper: Any) -> str:
        from tests.trainer.trained import train_in

        named = {"model_name": str(model), "datasets_path": str(few_pairs), "health": health or {}}
        settings = {"max_steps": 1, "logging_steps": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        experiment = make_experiment(experiment=named, **{**settings, **hyper})
        train_in(tmp_path, new_run(tmp_path, experiment, f"run-{len(list(tmp_path.rglob('run.json')))}"), experiment)
        return "\n".join(
            line for line in capsys.readouterr().out.splitlines() if line.startswith(("warning: the first", "plain"))
        )

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("half", [None, True], ids=["fp32", "bf16"])
def test_dropout_that_is_left_on_is_named_though_no_first_step_is_logged(
    begin: Callable[..., str], dropping: Path, half: bool | None
) -> None:
    assert begin(dropping, load_in_16bit=half) == "", "DPO turns dropout off"
    path, warning = begin(dropping, load_in_16bit=half, disable_dropout=False).splitlines()
    assert path.startswith("plain path: dropout is on (disable_dropout: false; attention_dropout 0.2): ")
    assert warning.startswith("warning: the first loss is ")
    assert "; the first rewards are " in warning
    assert "equal before the first step; dropout or noise is on in training and off in the reference: " in warning
    assert warning.endswith("attention_dropout 0.2 (disable_dropout: false)")
    with pytest.raises(HealthError, match=r"attention_dropout 0\.2"):
        begin(dropping, disable_dropout=False, health={"first_loss": "stop"})


@pytest.mark.slow
def test_weights_that_were_trained_without_dropout_are_saved_with_the_dropout_that_they_came_with(
    begin: Callable[..., str], dropping: Path, tmp_path: Path
) -> None:
    assert begin(dropping, full_finetuning=True) == ""
    (saved,) = tmp_path.rglob("runs/*/adapter/config.json")
    assert json.loads(saved.read_text())["attention_dropout"] == 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": ["ipo"]},
        {"loss_type": ["sppo_hard", "hinge"], "loss_weights": [0.1, 1.0]},
        {"loss_type": ["aot", "sigmoid"], "loss_weights": [0.5, 0.5]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
    ],
    ids=lambda settings: "+".join(settings["loss_type"]),
)
def test_no_loss_is_warned_of_for_its_rounding_in_16_bits(
    begin: Callable[..., str], tiny_model: Path, settings: dict[str, Any]
) -> None:
    assert "warning" not in begin(tiny_model, load_in_16bit=True, **settings)


@pytest.mark.slow
def test_what_balances_the_experts_of_a_router_is_no_part_of_the_expected_loss(
    begin: Callable[..., str], tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "num_local_experts": 4, "output_router_logits": True, "router_aux_loss_coef": 0.02}
    MixtralForCausalLM(MixtralConfig(vocab_size=len(tokenizer), **sizes, **more)).save_pretrained(tmp_path / "mixtral")
    tokenizer.save_pretrained(tmp_path / "mixtral")
    said = begin(tmp_path / "mixtral", logging_steps=1)
    assert said == "plain path: mixtral has an expert-balancing loss over the whole batch"
    (logged,) = [json.loads(line) for line in next(tmp_path.rglob("dpo_train_steps.jsonl")).read_text().splitlines()[:1]]
    assert logged["loss"] - math.log(2) == pytest.approx(0.02 * logged["aux_loss"], rel=1e-3)


@pytest.mark.slow
def test_an_adapter_that_is_not_fresh_is_named(
    begin: Callable[..., str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import trainer.prepare.trainer

    seeded = trainer.prepare.trainer.seed_adapter

    def seed(model: Any, *numbers: int) -> None:
        seeded(model, *numbers)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.01)

    monkeypatch.setattr(trainer.prepare.trainer, "seed_adapter", seed)
    assert begin(tiny_model).endswith("; the adapter was not fresh: its weights already changed the model")
