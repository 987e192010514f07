"""Which checkpoint a run may go on from, and what is said where the result will not be the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import DataError, ExperimentError
from launcher.experiment.schema import Experiment
from trainer.checkpoints.origin import FILE, check, check_base, day_of, origin
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.inputs.tokens.tokens import Tokens
from trainer.processes.ranks.machine import Device

Make = Callable[..., Experiment]
PAIRS = [TokenPair([1, 2], [3, n], [4, n], n) for n in range(5, 9)]


def made(experiment: Experiment, pairs: list[TokenPair] = PAIRS, world: int = 1, stage: int = 0) -> dict[str, Any]:
    return origin(experiment, Tokens(TokenPairs.of(pairs), 0), None, Device(cuda=False, bf16=False, rank=0, world=world), stage)


def checkpoint(folder: Path, origin: dict[str, Any] | None, *, adapter: bool = True) -> Path:
    folder.mkdir()
    if adapter:
        (folder / "adapter_config.json").write_text("{}")
    if origin is not None:
        (folder / FILE).write_text(json.dumps(origin))
    return folder


def test_the_same_experiment_goes_on_without_a_word(tmp_path: Path, make_experiment: Make) -> None:
    kept = checkpoint(tmp_path / "kept", made(make_experiment()))
    others = {"logging_steps": 5, "save_steps": 3, "eval_strategy": "no", "model_output_dir": "elsewhere", "dpo_path": "plain"}
    assert check(kept, made(make_experiment())) == []
    assert check(kept, made(make_experiment(**others))) == [], "where and when things are written changes no number"
    same = make_experiment(per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert check(kept, made(same)) == [], "a global batch of four is four, however it is split"


def test_other_settings_are_refused_each_with_both_values(tmp_path: Path, make_experiment: Make) -> None:
    kept = checkpoint(tmp_path / "kept", made(make_experiment(adam_beta2=0.98)))
    with pytest.raises(ExperimentError) as caught:
        check(kept, made(make_experiment(beta=0.2, gradient_accumulation_steps=2)))
    assert str(caught.value) == "\n".join(
        f"{where}: {kept} was trained with another value\n    expected: {then}\n    found:    {now}\n"
        "    hint:     restore the old value, or start over with resume_from_checkpoint: false"
        for where, then, now in [
            ("hyperparameters.adam_beta2", "0.98", "null"),
            ("hyperparameters.beta", "0.1", "0.2"),
            ("launch.global_batch_size", "4", "8"),
        ]
    )


def test_a_setting_that_an_earlier_version_did_not_have_was_at_its_default(tmp_path: Path, make_experiment: Make) -> None:
    old = made(make_experiment())
    for name in ("use_dora", "rank_pattern", "modules_to_save"):
        del old["mathematics"][name]
    kept = checkpoint(tmp_path / "kept", old)
    assert check(kept, made(make_experiment())) == []
    with pytest.raises(ExperimentError) as caught:
        check(kept, made(make_experiment(use_dora=True, rank_pattern={"q_proj": 4})))
    assert str(caught.value).splitlines()[1:3] == ["    expected: {}", '    found:    {"q_proj": 4}']
    assert "hyperparameters.use_dora: " in str(caught.value)


def test_another_date_of_the_chat_template_is_refused_with_the_setting_that_brings_it_back(
    tmp_path: Path, make_experiment: Make
) -> None:
    dated = {**made(make_experiment()), "template_date": "2026-07-04"}
    kept = checkpoint(tmp_path / "kept", dated)
    assert day_of(kept) == "2026-07-04"
    assert day_of(None) is None
    same = {**made(make_experiment(template_date="2026-07-04")), "template_date": "2026-07-04"}
    assert check(kept, same) == [], "the same date, now written into the file"
    other = {**made(make_experiment(), PAIRS[::-1]), "template_date": "2026-07-05"}
    with pytest.raises(DataError) as caught:
        check(kept, other)
    assert str(caught.value) == (
        f"hyperparameters.template_date: the chat template wrote another date into the pairs of {kept}\n"
        "    expected: 2026-07-04\n    found:    2026-07-05\n"
        "    hint:     restore the old value, or start over with resume_from_checkpoint: false"
    )


def test_other_pairs_are_refused_and_so_is_another_order(tmp_path: Path, make_experiment: Make) -> None:
    kept = checkpoint(tmp_path / "kept", made(make_experiment()))
    with pytest.raises(DataError, match=r"expected: 4 pairs, [0-9a-f]{12}\n    found:    3 pairs, [0-9a-f]{12}\n"):
        check(kept, made(make_experiment(), PAIRS[:3]))
    with pytest.raises(DataError, match="other text, prompt, order or tokenizer"):
        check(kept, made(make_experiment(), PAIRS[::-1]))


def test_an_epoch_of_other_pairs_is_refused_whatever_made_it_one(tmp_path: Path, make_experiment: Make) -> None:
    size: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    drops = make_experiment(**size, dataloader_drop_last=True)
    kept = checkpoint(tmp_path / "kept", made(drops, PAIRS[:3]))
    assert check(kept, made(drops, PAIRS[:3])) == []
    same = make_experiment(per_device_train_batch_size=1, gradient_accumulation_steps=4, dataloader_drop_last=True)
    others = {"no longer": (make_experiment(**size), 1, 3), "smaller": (same, 1, 3), "two processes": (drops, 2, 0)}
    for experiment, world, found in others.values():
        with pytest.raises(ExperimentError) as caught:
            check(kept, made(experiment, PAIRS[:3], world=world))
        assert str(caught.value) == (
            f"hyperparameters.dataloader_drop_last: {kept} was trained on epochs of other pairs (an epoch holds what fills "
            f"micro-batches on all processes)\n    expected: 2 of 3 pairs\n    found:    {found} of 3 pairs\n"
            "    hint:     restore the old value, or start over with resume_from_checkpoint: false"
        )
    of_an_earlier_version = {name: value for name, value in made(drops, PAIRS[:3]).items() if name != "per_epoch"}
    assert check(checkpoint(tmp_path / "older", of_an_earlier_version), made(make_experiment(**size), PAIRS[:3])) == []


def test_another_kind_of_training_and_other_base_weights_are_refused(tmp_path: Path, make_experiment: Make) -> None:
    full, lora = make_experiment(full_finetuning=True), make_experiment()
    with pytest.raises(ExperimentError, match="is from a run with another full_finetuning"):
        check(checkpoint(tmp_path / "full", made(full), adapter=False), made(lora))
    with pytest.raises(ExperimentError, match="is from a run with another full_finetuning"):
        check(checkpoint(tmp_path / "old", None, adapter=False), made(lora))
    kept = checkpoint(tmp_path / "kept", {**made(lora), "base_model": "a" * 64})
    check_base(kept, "a" * 64)
    with pytest.raises(ExperimentError, match="was trained on another base model"):
        check_base(kept, "b" * 64)


def test_what_will_not_be_bit_for_bit_the_same_is_said(tmp_path: Path, make_experiment: Make) -> None:
    then = made(make_experiment())
    then["machine"]["packages"]["torch"] = "1.0"
    kept = checkpoint(tmp_path / "kept", then)
    ranks, length, machine = check(kept, made(make_experiment(max_steps=9), world=2, stage=3))
    assert ranks.startswith("resumed on 2 process(es) under ZeRO 3; the checkpoint was written by 1 process(es). Weights")
    assert length.startswith("the run has another length (max_steps 4 → 9)")
    assert machine == "not bit for bit the run of the checkpoint: another packages"


def test_a_checkpoint_that_says_nothing_of_itself_is_taken_and_that_is_said(tmp_path: Path, make_experiment: Make) -> None:
    kept = checkpoint(tmp_path / "kept", None)
    (sentence,) = check(kept, made(make_experiment()))
    assert "has no origin.json: it was not checked" in sentence


@pytest.mark.parametrize(
    ("splits", "remembered", "expected"),
    [(0, None, 12), (1, None, 6), (2, None, 3), (3, None, 1), (9, None, 1), (0, 6, 6), (1, 12, 6), (2, 6, 3)],
)
def test_a_micro_batch_shrinks_with_every_shortage_whatever_the_checkpoint_took(
    splits: int, remembered: int | None, expected: int
) -> None:
    from trainer.inputs.arguments import smaller

    assert smaller(12, splits, remembered) == expected
