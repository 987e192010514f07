"""The loss and its gradient against the paper, computed plainly in float64."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[3] / "configs" / "demo" / "everyday"


def test_one_step_agrees_with_equation_7_of_the_dpo_paper(
    tmp_path: Path,
    make_experiment: Callable[..., Experiment],
    make_trainer: Callable[..., Any],
) -> None:
    import torch

    trainer, _, _ = make_trainer(tmp_path, make_experiment(beta=0.3))
    # A fresh adapter has margin zero, where the loss knows nothing of beta or the data: give it one.
    torch.manual_seed(5)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    ours = {n: p.grad.double() for n, p in trainer.model.named_parameters() if p.requires_grad}

    plain = copy.deepcopy(trainer.model).double()
    plain.zero_grad()
    plain_loss = equation_7(plain, batch, beta=0.3)
    plain_loss.backward()

    assert abs(plain_loss.item() - 0.6931) > 0.01, "the margin is not zero"
    assert loss.item() == pytest.approx(plain_loss.item(), rel=1e-5)
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-6)


def test_twenty_packed_steps_have_the_losses_of_plain_trl(
    tmp_path: Path, demo_model: Path, make_experiment: Callable[..., Experiment], make_trainer: Callable[..., Any]
) -> None:
    import trl

    from trainer.step.choosing.choice import choose_path, take_path

    class Plain(trl.DPOTrainer):  # TRL's own, but for the text that it would tokenise
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    settings = {"max_steps": 20, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "logging_steps": 1}
    demo = {"model_name": str(demo_model), "datasets_path": str(DATA)}
    experiment = make_experiment(experiment=demo, beta=0.5, **settings)
    plain, _, _ = make_trainer(tmp_path / "plain", experiment, kind=Plain)
    plain.train()
    packed, tokens, precision = make_trainer(tmp_path / "packed", experiment)
    choice = choose_path(packed, "fast", tokens, None)
    take_path(packed, choice, precision, lambda: "demo", [("training_data.csv", tokens)], tmp_path / "cache")
    packed.train()
    expected, losses = ([e["loss"] for e in t.state.log_history if "loss" in e] for t in (plain, packed))
    assert len(expected) == 20
    assert expected[-1] < 0.6, "it has learned, so the losses say something"
    assert losses == pytest.approx(expected, rel=1e-4)


def test_a_full_disk_leaves_no_part_of_a_checkpoint(
    tmp_path: Path, make_experiment: Callable[..., Experiment], make_trainer: Callable[..., Any]
) -> None:
    trainer, _, _ = make_trainer(tmp_path, make_experiment(max_steps=1, save_strategy="steps", save_steps=1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # bytes; the adapter has more
    try:
        with pytest.raises(Exception, match=r"(?i)too large"):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    folder = Path(trainer.args.output_dir)
    assert [path.name for path in folder.iterdir() if "saving" in path.name or "checkpoint" in path.name] == []


@pytest.mark.parametrize("path", ["auto", "plain"])
def test_before_the_training_policy_and_reference_are_evaluated_in_one_precision(
    tmp_path: Path, make_experiment: Callable[..., Experiment], make_trainer: Callable[..., Any], path: str
) -> None:
    import torch

    from trainer.inputs.models.model import Precision
    from trainer.step.choosing.choice import choose_path, take_path

    bf16 = Precision(torch.float32, bf16=True, fp16=False)  # as of full fine-tuning on a GPU
    trainer, tokens, precision = make_trainer(tmp_path, make_experiment(full_finetuning=True), bf16, pairs=4)
    choice = choose_path(trainer, path, tokens, None)
    take_path(trainer, choice, precision, lambda: "these weights", [("train.csv", tokens), ("held out", tokens)], tmp_path)
    metrics = trainer.evaluate()
    assert trainer.path == ("fast" if path == "auto" else "plain"), choice.sentence
    assert trainer.ref_model is None, "the weights before the first step are the reference; no second copy is kept"
    assert metrics["eval_rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert metrics["eval_rewards/chosen"] == pytest.approx(0, abs=1e-5)


def equation_7(model: Any, batch: dict[str, Any], beta: float) -> Any:
    """Rafailov et al., arXiv 2305.18290, equation 7; ``batch`` holds the chosen sequences, then the rejected ones."""
    import torch

    def answer_logps() -> Any:
        base = model.get_base_model()
        hidden = base.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)[0]
        logits = hidden @ base.lm_head.weight.T
        logps = torch.log_softmax(logits[:, :-1], dim=-1)
        taken = logps.gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
        return (taken * batch["completion_mask"][:, 1:]).sum(dim=1)

    policy = answer_logps()
    with torch.no_grad(), model.disable_adapter():
        reference = answer_logps()
    chosen, rejected = (policy - reference).chunk(2)
    return -torch.log(1 / (1 + torch.exp(-beta * (chosen - rejected)))).mean()
