"""Every field of TRL that is accepted, by itself, on both paths: losses, gradients and evaluations are TRL's own."""

from __future__ import annotations

import copy
import gc
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.experiment.other_tools.trl_fields import FIELDS, REFUSED, Fate, trl_fields
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.runs.run_dir import RunDir
from tests.trainer.conftest import run_of

pytestmark = pytest.mark.slow
PAIRS = 12  # the shortest of the demo
LONGEST = 96
SIZE: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
BASE: dict[str, Any] = {
    **SIZE,
    "per_device_eval_batch_size": PAIRS,
    "learning_rate": 1e-2,
    "num_train_epochs": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
}
EACH_STEP: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}


@dataclass(frozen=True)
class Case:
    """A value of a field that is not its default, with what it needs beside it."""

    value: Any
    beside: dict[str, Any] = field(default_factory=dict)
    changes: bool = True  # what is logged; else all is as with the default
    pairs: int = PAIRS
    precomputed: bool = False  # TRL computes the reference before the training, as we do: without noise
    trains: bool = True  # else it needs CUDA, a compiler, or a package that is not installed


def same(value: Any, **beside: Any) -> Case:
    return Case(value, beside, changes=False)


CASES: dict[str, Case] = {
    # keys of this project that are TRL's
    "beta": Case(0.7),
    "eval_steps": Case(2, {"eval_strategy": "steps"}),
    "eval_strategy": Case("epoch"),
    "gradient_accumulation_steps": Case(3),
    "greater_is_better": same(True, metric_for_best_model="rewards/margins", **EACH_STEP),
    "label_smoothing": Case(0.2, {"loss_type": "robust"}),
    "learning_rate": Case(3e-3),
    "load_best_model_at_end": same(True, **EACH_STEP, save_strategy="steps", save_steps=1),
    "logging_steps": Case(2),
    "loss_type": Case("ipo"),
    "lr_scheduler_type": Case("cosine"),
    "max_steps": Case(2),
    "metric_for_best_model": same("rewards/margins", **EACH_STEP),
    "num_train_epochs": Case(1.5),
    "optim": Case("sgd"),
    "per_device_train_batch_size": Case(3),
    "report_to": same("none"),
    "save_steps": same(2, save_strategy="steps"),
    "save_strategy": same("epoch"),
    "save_total_limit": same(1),
    "seed": Case(7),
    "trust_remote_code": same(True),
    "weight_decay": Case(0.5),
    # honoured on both paths
    "adam_beta1": Case(0.5),
    "adam_beta2": Case(0.5),
    "adam_epsilon": Case(1e-2),
    "data_seed": Case(7),
    "dataloader_drop_last": Case(True, pairs=9),
    "ddp_timeout": same(60),
    "discopop_tau": Case(0.5, {"loss_type": "discopop"}),
    "eval_delay": Case(2, EACH_STEP),
    "f_alpha_divergence_coef": Case(0.3, {"f_divergence_type": "alpha_divergence"}),
    "f_divergence_type": Case("js_divergence"),
    "full_determinism": same(True),
    "log_level": same("error"),
    "log_level_replica": same("error"),
    "logging_first_step": Case(True, {"logging_steps": 2}),
    "logging_strategy": Case("epoch"),
    "loss_weights": Case([0.5, 2.0], {"loss_type": ["sigmoid", "hinge"]}),
    "lr_scheduler_kwargs": Case({"num_cycles": 2}, {"lr_scheduler_type": "cosine_with_restarts"}),
    "max_grad_norm": Case(0.01),
    "optim_args": Case("alpha=0.5", {"optim": "rmsprop"}),
    "optim_target_modules": Case("all-linear", {"optim": "galore_adamw"}, trains=False),
    "tf32": same(False),
    "torch_empty_cache_steps": same(1),
    "train_sampling_strategy": Case("sequential"),
    "warmup_steps": Case(2),
    # on the plain path
    "activation_offloading": Case(True, trains=False),
    "disable_dropout": Case(False, {"lora_dropout": 0.3}, precomputed=True),
    "ld_alpha": Case(0.5),
    "neftune_noise_alpha": Case(5.0, precomputed=True),
    "ref_model_mixup_alpha": Case(0.3, {"sync_ref_model": True, "ref_model_sync_steps": 1, "full_finetuning": True}),
    "ref_model_sync_steps": Case(1, {"sync_ref_model": True, "full_finetuning": True}),
    "router_aux_loss_coef": Case(0.5, trains=False),  # a test of its own, with experts
    "sync_ref_model": Case(True, {"ref_model_sync_steps": 1, "full_finetuning": True}),
    "use_weighting": Case(True),
    # without effect on the fast path
    "ddp_broadcast_buffers": same(False),
    "ddp_bucket_cap_mb": same(1),
    "ddp_find_unused_parameters": same(True),
    "ddp_static_graph": same(True),
    "pad_to_multiple_of": same(32),
    "per_device_eval_batch_size": same(3),
    # without effect
    "average_tokens_across_devices": same(False),
    "batch_eval_metrics": same(True),
    "dataloader_in_order": same(False),
    "dataloader_multiprocessing_context": same("fork"),
    "dataloader_num_workers": same(2),
    "dataloader_persistent_workers": same(True),
    "dataloader_pin_memory": same(False),
    "dataloader_prefetch_factor": same(4),
    "dataset_num_proc": same(2),
    "eval_accumulation_steps": same(1),
    "eval_do_concat_batches": same(False),
    "eval_use_gather_object": same(True),
    "include_num_input_tokens_seen": same("all"),
    "length_column_name": same("other"),
    "log_on_each_node": same(False),
    "prediction_loss_only": same(True),
    "use_cache": same(True),
}


def test_every_field_of_the_installed_trl_has_a_fate_and_every_accepted_one_a_value_here() -> None:
    of_trl, ours = set(trl_fields()), set(Hyperparameters.model_fields)
    assert of_trl - ours - set(FIELDS) == set(), "classify these in launcher/experiment/other_tools/trl_fields.py"
    assert set(FIELDS) - of_trl - set(REFUSED) == set(), "TRL has no such fields"
    assert of_trl - set(REFUSED) - {"resume_from_checkpoint"} == set(CASES), "give each a value in this test"
    defaults = {name: field["default"] for name, field in trl_fields().items()}
    assert [name for name, case in CASES.items() if name in FIELDS and case.value == defaults[name]] == []


class Bench:
    """One model, one set of pairs, and what TRL's own trainer logs for settings that were asked for before."""

    def __init__(self, root: Path, make: Callable[..., Experiment]):
        from launcher.data.pairs import read_pairs
        from launcher.data.tables.reading import Reading
        from trainer.inputs.models.model import choose_precision, load_model, load_tokenizer
        from trainer.inputs.tokens.tokens import tokenize
        from trainer.processes.ranks.machine import Device

        self.root, self._make, self._number = root, make, count()
        plain = make(max_seq_length=LONGEST)
        self.device = Device(cuda=False, bf16=False, rank=0, world=1)
        self.precision = choose_precision(plain.hyperparameters, cuda=False, bf16=False)
        self.tokenizer = load_tokenizer(plain, plain.model_name)
        self.model = load_model(plain, plain.model_name, self.precision, cuda=False)
        texts = sorted(read_pairs(plain, Reading(root)).train, key=lambda pair: len(pair.chosen + pair.rejected + pair.user))
        self.tokens = tokenize(texts[:PAIRS], self.tokenizer, plain.hyperparameters, source="train.csv", cache=root / "cache")
        self.identity, self._known = "dense", dict[str, Any]()

    def of(self, model: Any, identity: str) -> Bench:
        """The same bench for another model."""
        other = copy.copy(self)
        other.model, other.identity, other._known = model, identity, {}
        return other

    def experiment(self, settings: dict[str, Any], path: str = "auto") -> Experiment:
        return self._make(**{"max_steps": None, **BASE, **settings}, max_seq_length=LONGEST, dpo_path=path)

    def arguments(self, experiment: Experiment) -> Any:
        from trainer.inputs.arguments import arguments

        run = run_of(self.root, experiment, str(next(self._number)))
        return arguments(experiment, run, self.precision, self.device)

    def ours(self, settings: dict[str, Any], path: str, pairs: int) -> tuple[list[Any], str]:
        """What this project's trainer logs, and the sentence of its path."""
        from trainer.step.choosing.choice import choose_path, take_path

        trainer, tokens, experiment = self._trainer(settings, path, pairs)
        choice = choose_path(trainer, path, tokens, None)
        data = [("train.csv", tokens), ("held out", tokens)]
        take_path(trainer, choice, self.precision, self.identity, data, self.root / "cache")
        torch.manual_seed(trainer.args.seed)  # what was made until now has drawn numbers
        trainer.train()
        assert trainer.state.max_steps == experiment.steps(pairs, world=1), "what was announced"
        assert trainer.state.global_step == trainer.state.max_steps
        return logged(trainer), choice.sentence

    def chosen(self, settings: dict[str, Any], pairs: int) -> str:
        """The sentence of the path that a run would take."""
        from trainer.step.choosing.choice import choose_path

        trainer, tokens, _ = self._trainer(settings, "auto", pairs)
        return choose_path(trainer, "auto", tokens, None).sentence

    def _trainer(self, settings: dict[str, Any], path: str, pairs: int) -> tuple[Any, Any, Experiment]:
        from trainer.inputs.models.adapter import lora_config, seed_adapter
        from trainer.step.dpo import DPOTrainer

        experiment = self.experiment(settings, path)
        h, args, tokens = experiment.hyperparameters, self.arguments(experiment), self._first(pairs)
        keeps_reference = h.full_finetuning and not args.precompute_ref_log_probs
        trainer = DPOTrainer(
            model=copy.deepcopy(self.model),
            ref_model=copy.deepcopy(self.model) if keeps_reference else None,
            args=args,
            train_dataset=tokens.dataset(),
            eval_dataset=tokens.dataset(),
            processing_class=self.tokenizer,
            peft_config=lora_config(h),
        )
        if not h.full_finetuning:
            seed_adapter(trainer.model, h.random_state, h.seed)
        return trainer, tokens, experiment

    def theirs(self, settings: dict[str, Any], pairs: int, precomputed: bool) -> list[Any]:
        """What TRL's own trainer logs."""
        key = json.dumps([settings, pairs, precomputed], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._of_trl(settings, pairs, precomputed)
        return self._known[key]

    def _of_trl(self, settings: dict[str, Any], pairs: int, precomputed: bool) -> list[Any]:
        import trl

        from trainer.inputs.models.adapter import lora_config, seed_adapter

        class Plain(trl.DPOTrainer):  # TRL's own, but for the text that it would tokenise
            def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
                return dataset

            def _send_telemetry(self) -> None:
                pass

        ours = {name: value for name, value in settings.items() if name not in FIELDS}
        h = self.experiment({name: ours[name] for name in ("full_finetuning", "lora_dropout") if name in ours}).hyperparameters
        given = {name: value for name, value in {**BASE, **settings}.items() if name in trl_fields() and value is not None}
        if isinstance(given.get("loss_type"), str):
            given["loss_type"] = [given["loss_type"]]
        fixed = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_length": None, "disable_tqdm": True}
        fixed |= {"report_to": "none", "precompute_ref_log_probs": precomputed, "prediction_loss_only": True}
        fixed |= {"optim": "adamw_torch", "logging_steps": 1, "output_dir": str(self.root / f"trl-{next(self._number)}")}
        trainer = Plain(
            model=copy.deepcopy(self.model),
            ref_model=copy.deepcopy(self.model) if h.full_finetuning else None,
            args=trl.DPOConfig(**{**fixed, **given}),
            train_dataset=self._first(pairs).dataset(),
            eval_dataset=self._first(pairs).dataset(),
            processing_class=self.tokenizer,
            peft_config=lora_config(h),
        )
        if not h.full_finetuning:
            seed_adapter(trainer.model, h.random_state, h.seed)
        torch.manual_seed(trainer.args.seed)  # what was made until now has drawn numbers
        trainer.train()
        return logged(trainer)

    def _first(self, pairs: int) -> Any:
        return replace(self.tokens, pairs=self.tokens.pairs[:pairs])


def logged(trainer: Any) -> list[Any]:
    """(step, name, value) of the losses, gradients, rates and evaluations in the log; its last line has none."""
    lines = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    names = ("loss", "grad_norm", "learning_rate", "rewards/margins", "eval_loss", "eval_rewards/margins")
    return [(entry["step"], name, entry[name]) for entry in lines for name in names if name in entry]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
    for (step, name, value), (_, _, wanted) in zip(found, expected, strict=True):
        tolerance = 1e-5 if "loss" in name or name == "learning_rate" else 1e-4
        assert value == pytest.approx(wanted, abs=tolerance, rel=tolerance), f"{name} at step {step}"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, make_experiment: Callable[..., Experiment]) -> Iterator[Bench]:
    import transformers

    kept = dict(os.environ)
    bench = Bench(tmp_path_factory.mktemp("fields"), make_experiment)
    gc.collect()
    gc.freeze()  # accelerate collects garbage at each start, and what was imported is much
    yield bench
    gc.unfreeze()
    torch.use_deterministic_algorithms(False)
    transformers.logging.set_verbosity_warning()
    os.environ.clear()
    os.environ.update(kept)


def fate(name: str) -> Fate:
    """Keys of this project are honoured on both paths."""
    return FIELDS[name].fate if name in FIELDS else Fate.BOTH


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.trains and fate(name) is not Fate.NOTHING])
def test_a_field_gives_what_trl_logs_on_both_paths(bench: Bench, name: str) -> None:
    case = CASES[name]
    settings = {**case.beside, name: case.value}
    expected = bench.theirs(settings if case.changes else case.beside, case.pairs, case.precomputed)
    if case.changes:
        assert expected != bench.theirs(case.beside, case.pairs, case.precomputed), "its value says something"
    found, sentence = bench.ours(settings, "plain", case.pairs)
    assert_equal(found, expected)
    if fate(name) is Fate.PLAIN:
        assert bench.chosen(settings, case.pairs).startswith("plain path: ")
        return
    found, sentence = bench.ours(settings, "auto", case.pairs)
    assert sentence.startswith("fast path on"), sentence
    assert_equal(found, expected)


@pytest.mark.parametrize("name", [name for name in CASES if fate(name) is Fate.NOTHING])
def test_a_field_without_effect_does_not_reach_trl_and_is_said(bench: Bench, name: str) -> None:
    from launcher.experiment.unused import without_effect

    settings = {**CASES[name].beside, name: CASES[name].value}
    with_it, without = (bench.arguments(bench.experiment(s)).to_dict() for s in (settings, {}))
    of_the_run = {"output_dir", "run_name"}  # each run has its own
    assert {key for key in with_it if with_it[key] != without[key]} == of_the_run
    assert without_effect({"hyperparameters": settings}) == (f"{name} has no effect: {FIELDS[name].why}",)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.trains])
def test_a_field_that_cannot_be_tried_here_reaches_trl(bench: Bench, name: str, tmp_path: Path) -> None:
    from trainer.inputs.arguments import arguments
    from trainer.step.packed import why_plain

    case = CASES[name]
    settings = {**case.beside, name: case.value}
    args = arguments(bench.experiment(settings), RunDir(tmp_path), bench.precision, replace(bench.device, cuda=True))
    assert getattr(args, name) == case.value
    if fate(name) is Fate.PLAIN:
        assert why_plain(bench.model, args, LONGEST) in {field.why for field in FIELDS.values() if field.fate is Fate.PLAIN}


@pytest.mark.parametrize(("of_model", "of_file", "path"), [(0.0, 0.5, "plain path: router_aux"), (0.5, 0.0, "fast path on")])
def test_the_router_s_coefficient_is_that_of_the_file(bench: Bench, of_model: float, of_file: float, path: str) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(1)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    size |= {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": len(bench.tokenizer)}
    experts = bench.of(MixtralForCausalLM(MixtralConfig(**size, router_aux_loss_coef=of_model)), f"experts-{of_model}")
    expected = experts.theirs({"router_aux_loss_coef": of_file}, PAIRS, False)
    first = next(value for _, name, value in expected if name == "loss")
    assert (first > 1) == (of_file > 0), "the router's loss is in it"
    found, sentence = experts.ours({"router_aux_loss_coef": of_file}, "auto", PAIRS)
    assert sentence.startswith(path)
    assert_equal(found, expected)
