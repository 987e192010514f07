"""The trainers that are compared: TRL's own at its defaults, TRL's tuned (reference precomputed, no gradient checkpointing), and
this project's on packed rows, with eager and compiled layers. All see the same pairs in one order, from one model and adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .models import tokenizer

VARIANTS: Final = {
    "cpu": ("trl", "trl tuned", "ours", "ours compiled"),
    "cuda": ("trl", "trl tuned", "ours", "ours checkpointing"),
}


@dataclass(frozen=True)
class Training:
    """What a variant trains: ``steps`` of ``per_device`` x ``accumulation`` of the ``pairs``."""

    device: str
    pairs: Any  # TokenPairs
    per_device: int
    accumulation: int
    steps: int
    folder: Path

    def arguments(self, variant: str) -> Any:
        import trl

        return trl.DPOConfig(
            output_dir=str(self.folder),
            max_length=None,
            use_cpu=self.device != "cuda",
            bf16=self.device == "cuda",
            per_device_train_batch_size=self.per_device,
            gradient_accumulation_steps=self.accumulation,
            gradient_checkpointing=variant in ("trl", "ours checkpointing"),
            precompute_ref_log_probs=variant == "trl tuned",
            learning_rate=1e-3,
            max_steps=self.steps,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )


def make_trainer(
    variant: str,
    training: Training,
    model: Any,
    clock: Callable[[], float],
    turn: Callable[[float], None] = lambda done: None,
) -> tuple[Any, float]:
    """(the trainer, seconds of the reference's pass over all pairs; 0 where the reference runs in every step).

    ``turn`` is called before each of that pass's batches, with the share of the pairs that are done.
    """
    if variant.startswith("ours"):
        return _own(variant, training, model, clock, turn)
    trainer = _plain(variant, training, model, clock, turn)
    return trainer, trainer.precomputing


def _plain(variant: str, training: Training, model: Any, clock: Callable[[], float], turn: Callable[[float], None]) -> Any:
    import trl

    class Plain(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        """TRL's own, but for the text that it would tokenise."""

        precomputing = 0.0
        scored = 0

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            began = clock()
            dataset = super()._precompute_ref_logps(*args, **kwargs)
            self.precomputing = clock() - began
            return dataset

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            if self.precomputing == 0.0:  # else it is a step's
                turn(self.scored / len(training.pairs))
                self.scored += len(inputs["input_ids"]) // 2
            return super().compute_ref_log_probs(model, inputs)

    return _made(Plain, variant, training, model)


def _own(
    variant: str, training: Training, model: Any, clock: Callable[[], float], turn: Callable[[float], None]
) -> tuple[Any, float]:
    from launcher.experiment.sections.hyperparameters import Hyperparameters
    from trainer.inputs.models.adapter import skip_input_casts
    from trainer.inputs.models.model import choose_precision
    from trainer.inputs.tokens.tokens import Tokens
    from trainer.step.batches.packing import packed_lengths
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.choosing.layers import Work, choose_layers
    from trainer.step.dpo import DPOTrainer

    cuda = training.device == "cuda"
    precision = choose_precision(Hyperparameters(), cuda=cuda, bf16=cuda)
    trainer = _made(DPOTrainer, variant, training, model)
    if cuda:
        skip_input_casts(trainer.model)
    tokens, total = Tokens(training.pairs, 0), int(packed_lengths(training.pairs).sum())
    choice = choose_path(trainer, "fast", tokens, None)
    if variant == "ours compiled":
        choice, sentence = choose_layers(trainer, choice, "layers", tokens, Work(training.steps, has_evaluations=False), None)
        assert choice.is_compiled, sentence
    seen = 0

    def before_row(embedding: Any, inputs: Any) -> None:
        nonlocal seen
        turn(min(1.0, seen / total))
        seen += inputs[0].numel()

    hook = model.get_input_embeddings().register_forward_pre_hook(before_row)
    began = clock()
    take_path(trainer, choice, precision, "benchmark", [("pairs", tokens)], training.folder)
    seconds = clock() - began
    hook.remove()
    return trainer, seconds


def _made(kind: Any, variant: str, training: Training, model: Any) -> Any:
    from peft import LoraConfig
    from transformers import PrinterCallback

    from trainer.inputs.models.adapter import seed_adapter
    from trainer.inputs.tokens.tokens import Tokens

    trainer = kind(
        model=model,
        args=training.arguments(variant),
        train_dataset=Tokens(training.pairs, 0).dataset(),
        processing_class=tokenizer(),
        peft_config=LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    seed_adapter(trainer.model, 0, trainer.args.seed)  # whose second seed gives the order of the pairs
    return trainer
