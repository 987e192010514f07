"""Answers of the base model and of the trained one, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from launcher.data.prompt import Prompt
from launcher.data.text.pair import Pair
from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.trainer.trained import train_in

pytestmark = pytest.mark.slow

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
TWO: dict[str, Any] = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "learning_rate": 5e-2}
TEXT = "How do I peel an egg?"


def samples_of(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.evaluation / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, few_pairs: Path, make_experiment: Make, new_run: NewRun
) -> Callable[..., RunDir]:
    root = tmp_path_factory.mktemp("samples")

    def make(name: str, samples: Any, **settings: Any) -> RunDir:
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs), "samples": samples}, **{**TWO, **settings})
        run = new_run(root, experiment, name)
        train_in(root, run, experiment)
        return run

    return make


@pytest.fixture(scope="module")
def often(made: Callable[..., RunDir]) -> RunDir:
    return made("often", {"prompts": [3, TEXT], "max_new_tokens": 8, "every_evaluation": True})


def test_answers_are_those_of_the_base_model_and_of_the_saved_adapter(often: RunDir, tiny_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = samples_of(often)
    assert [(one["step"], one["row"]) for one in found] == [(1, 3), (1, None), (2, 3), (2, None)]
    assert found[1]["prompt"] == found[3]["prompt"] == TEXT
    assert often.read_record()["result"]["learned"]["samples"] == 2
    tokenizer = AutoTokenizer.from_pretrained(often.adapter)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(often.adapter)).eval()
    system = {"role": "system", "content": "You answer questions about everyday work."}
    for one in found[2:]:
        chat = [system, {"role": "user", "content": one["prompt"]}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        for name in ("base", "adapter"):
            text = _greedy(model, tokenizer, ids["input_ids"], 8, with_adapter=name == "adapter")
            assert one[name] == text
    assert any(one["base"] != one["adapter"] for one in found), "the training changed the answers"
    for one in found:
        for name in ("base", "adapter"):
            assert one[f"{name}_tokens"] <= 8
            assert one[f"{name}_is_cut"] is False or one[f"{name}_tokens"] == 8


def _greedy(model: Any, tokenizer: Any, ids: Any, count: int, *, with_adapter: bool) -> str:
    """The likeliest token, again and again, without a cache or `generate`."""
    from contextlib import nullcontext

    import torch

    begin = ids.shape[1]
    with torch.no_grad(), nullcontext() if with_adapter else model.disable_adapter():
        for _ in range(count):
            token = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], 1)
            if int(token) == tokenizer.eos_token_id:
                break
    return str(tokenizer.decode(ids[0, begin:], skip_special_tokens=True)).strip()


def test_samples_change_no_weight(often: RunDir, made: Callable[..., RunDir]) -> None:
    without = made("without", False)
    one, other = ((run.adapter / "adapter_model.safetensors").read_bytes() for run in (often, without))
    assert one == other
    assert not (without.evaluation / "samples.jsonl").exists()
    assert without.read_record()["result"]["learned"]["samples"] == 0


def test_tensorboard_shows_them_as_text(often: RunDir) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(often.tensorboard)).Reload()
    assert {"samples/1/text_summary", "samples/2/text_summary"} <= set(events.Tags()["tensors"])
    text = events.Tensors("samples/2/text_summary")[-1]
    assert text.step == 2
    assert f"> {TEXT}" in text.tensor_proto.string_val[0].decode()


def test_full_fine_tuning_keeps_the_base_models_answers_before_it_replaces_the_weights(
    made: Callable[..., RunDir], often: RunDir, few_pairs: Path, tmp_path: Path
) -> None:
    run = made("full", {"prompts": [3, TEXT], "max_new_tokens": 8}, full_finetuning=True, learning_rate=1e-2)
    found = samples_of(run)
    assert [one["base"] for one in found] == [one["base"] for one in samples_of(often)[2:]]
    assert any(one["base"] != one["adapter"] for one in found)

    from trainer.after.score import scored

    found = scored(run, few_pairs / "validation_data.csv", tmp_path / "cache")["pairs"]
    own = [json.loads(line) for line in (run.evaluation / "pairs.jsonl").read_text().splitlines()]
    assert max(abs(one["margin"]) for one in own) > 1e-3
    assert [one["chosen"] for one in found] == pytest.approx([one["chosen"] for one in own], abs=2e-4)


def test_a_model_that_cannot_generate_loses_its_samples_and_not_its_run(
    made: Callable[..., RunDir], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Qwen3ForCausalLM

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no kernel\nfor this device")

    monkeypatch.setattr(Qwen3ForCausalLM, "generate", fails)
    run = made("failing", 1)
    assert run.adapter.is_dir()
    assert not (run.evaluation / "samples.jsonl").exists()
    said = "warning: no sample answers: generating them failed (no kernel); the training is not affected\n"
    assert capsys.readouterr().out.count(said) == 1


def test_the_default_is_evenly_spaced_validation_prompts_and_a_row_that_is_missing_is_named(
    few_pairs: Path, make_experiment: Make, tiny_model: Path
) -> None:
    from launcher.data.pairs import read_pairs
    from launcher.data.tables.reading import Reading
    from trainer.evaluation.prompts import sample_prompts
    from trainer.inputs.models.model import load_tokenizer
    from trainer.inputs.tokens.clock import Clock

    def prompts(samples: Any, **experiment: Any) -> list[int | None]:
        made = make_experiment(experiment={"datasets_path": str(few_pairs), "samples": samples, **experiment})
        pairs = read_pairs(made, Reading(few_pairs))
        found = sample_prompts(made, pairs, load_tokenizer(made, str(tiny_model)), Clock(date(2026, 1, 1)))
        return [one.row for one in found]

    assert prompts(2) == [2, 4]
    assert prompts(9) == [2, 3, 4, 5], "there are only four validation pairs"
    assert prompts(2, validation_filename=None) == [2, 8]
    assert prompts(0) == []
    with pytest.raises(ExperimentError) as raised:
        prompts([5, 6])
    (mistake,) = raised.value.mistakes
    assert (mistake.where, mistake.expected, mistake.found) == ("samples.prompts[2]", "a row from 2 to 5", "6")


def test_a_text_takes_the_place_of_the_one_placeholder_and_of_the_whole_message_where_there_are_several() -> None:
    from trainer.evaluation.prompts import spread

    assert Prompt(None, ("Q: ", "question", "\nA:")).message("Why?") == "Q: Why?\nA:"
    assert Prompt(None, ("About ", "topic", ": ", "question", "")).message("Why?") == "Why?"
    pairs = [Pair(None, str(n), "a", "b", n) for n in range(10)]
    assert [pair.line for pair in spread(pairs, 4)] == [0, 2, 5, 7]


def test_weights_that_are_spread_over_the_ranks_have_no_samples_and_that_is_said_once(
    tmp_path: Path, make_trainer: Any, make_experiment: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from launcher.experiment.sections.samples import Samples
    from launcher.experiment.sections.watched import Health
    from trainer.evaluation import samples
    from trainer.evaluation.prompts import SamplePrompt
    from trainer.health import HealthCallback

    trainer, *_ = make_trainer(tmp_path, make_experiment(), pairs=4)
    monkeypatch.setattr(samples, "zero_stage", lambda _: 3)
    prompts = [SamplePrompt("Why?", None, [1, 2])]
    sampler = samples.Sampler(RunDir(tmp_path), Samples(), prompts, trainer.processing_class, None, HealthCallback(Health()))
    sampler.before(trainer)
    assert [sampler.after(trainer, step) for step in (1, 2)] == [0, 0]
    assert capsys.readouterr().out.count("notice: no sample answers: ZeRO-3 spreads the weights") == 1


def test_the_answers_before_and_after_are_announced_once(
    tmp_path: Path, make_trainer: Any, make_experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from launcher.experiment.sections.samples import Samples
    from launcher.experiment.sections.watched import Health
    from trainer.evaluation import samples
    from trainer.evaluation.generation import Answer
    from trainer.evaluation.prompts import SamplePrompt
    from trainer.health import HealthCallback

    named: list[str] = []
    monkeypatch.setattr(samples, "stage", lambda what: nullcontext(named.append(what)))
    monkeypatch.setattr(samples, "answers", lambda *_, with_adapter: [Answer("after" if with_adapter else "before", 2, "stop")])
    trainer, *_ = make_trainer(tmp_path, make_experiment(), pairs=4)
    prompts, health = [SamplePrompt("Why?", None, [1])], HealthCallback(Health())
    sampler = samples.Sampler(RunDir(tmp_path), Samples(), prompts, trainer.processing_class, None, health)
    assert sampler.after(trainer, 1) == 1
    assert named == ["answering the sample prompts"]
