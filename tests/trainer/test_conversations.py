"""A run on conversations, whole: both paths, what it writes of them, and what answers them afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.trainer.conftest import run_of
from tests.trainer.trained import events, train_in

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]

SYSTEM = {"role": "system", "content": "You are brief."}
THINGS = ("bread", "soup", "rice", "tea", "eggs", "beans", "fish", "cake", "jam", "corn", "milk", "oats")


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def row(thing: str, place: int) -> dict[str, Any]:
    """A question about ``thing`` after an earlier one; every third answer goes on to a further question."""
    asked = [SYSTEM, said("user", f"Do you know {thing}?"), said("assistant", "I do."), said("user", "How long does it take?")]
    more = [said("user", "Sure?"), said("assistant", "Yes.")] if place % 3 == 0 else []
    return {
        "prompt": asked,
        "chosen": [said("assistant", f"{place + 2} minutes for {thing}."), *more],
        "rejected": [said("assistant", "It depends on many things.")],
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    rows = [row(thing, place) for place, thing in enumerate((*THINGS, *(f"{thing} at home" for thing in THINGS)))]
    for name, some in (("train", rows[:20]), ("validation", rows[20:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in some), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def make(make_experiment: Make, data: Path) -> Make:
    def made(experiment: dict[str, Any] | None = None, **hyper: Any) -> Experiment:
        files = {"datasets_path": str(data), "train_filename": "train.jsonl", "validation_filename": "validation.jsonl"}
        columns = {"dpo_column_mapping_config": None}
        steps = {"max_steps": 5, "learning_rate": 1e-2}
        return make_experiment(experiment={**files, **columns, **(experiment or {})}, **{**steps, **hyper})

    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, make: Make) -> dict[str, RunDir]:
    """A run on each path; the fast one writes down samples."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for path in ("fast", "plain"):
        experiment = make({"samples": {"prompts": [2], "max_new_tokens": 4} if path == "fast" else False}, dpo_path=path)
        found[path] = run_of(root, experiment, path)
        train_in(root, found[path], experiment)
    return found


def test_several_turns_learn_the_same_on_the_fast_path_as_on_trl_s(runs: dict[str, RunDir]) -> None:
    fast, plain = (events(runs[path], "train") for path in ("fast", "plain"))
    assert [runs[path].read_record()["dpo_path"]["path"] for path in ("fast", "plain")] == ["fast", "plain"]
    assert [line["loss"] for line in fast] == pytest.approx([line["loss"] for line in plain], abs=1e-4)
    assert [line["rewards/margins"] for line in fast] == pytest.approx([line["rewards/margins"] for line in plain], abs=1e-3)
    assert fast[-1]["loss"] < fast[0]["loss"]


def test_what_the_run_writes_of_its_pairs_reads_as_a_conversation(runs: dict[str, RunDir]) -> None:
    run, asked = (
        runs["fast"],
        "system: You are brief.\n\nuser: Do you know {}?\n\nassistant: I do.\n\nuser: How long does it take?",
    )
    first = json.loads((run.data / "train.jsonl").read_text().splitlines()[0])
    assert first["user"] == asked.format("bread")
    assert first["chosen"] == "assistant: 2 minutes for bread.\n\nuser: Sure?\n\nassistant: Yes."
    assert first["messages"]["prompt"][1] == said("user", "Do you know bread?")
    samples = [json.loads(line) for line in (run.evaluation / "samples.jsonl").read_text().splitlines()]
    held_out = [json.loads(line)["user"] for line in (run.data / "validation.jsonl").read_text().splitlines()]
    assert {sample["prompt"] for sample in samples} <= set(held_out)
    suspects = [json.loads(line) for line in (run.evaluation / "suspects.jsonl").read_text().splitlines()]
    assert len(suspects) == 20
    assert all(one["prompt"].endswith("user: How long does it take?") for one in suspects)
    notices = json.loads((run.data / "report.json").read_text())["notices"]
    what = "recognised: lists of messages (role, content) in prompt, chosen and rejected; 4 messages before an answer"
    assert [one for one in notices if one.endswith(f"train.jsonl: {what}")]


def test_the_run_answers_a_conversation_as_its_chat_template_writes_it(
    runs: dict[str, RunDir], tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from trainer.after.loaded import find
    from trainer.after.merge import _first_pairs
    from trainer.after.prompted import Prompted

    found = find(runs["fast"].path, tmp_path)
    asked = [SYSTEM, said("user", "Do you know tea?"), said("assistant", "I do."), said("user", "And soup?")]
    expected = AutoTokenizer.from_pretrained(tiny_model).apply_chat_template(asked, add_generation_prompt=True, return_dict=True)
    assert Prompted.of(found).ids_of(asked) == expected["input_ids"]
    (first,) = _first_pairs(found.target, 1)
    assert first.chat is not None
    assert [dict(one) for one in first.chat.prompt[:2]] == [SYSTEM, said("user", "Do you know bread?")]
