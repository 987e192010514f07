"""Base and trained model answer as they did in their run: one by one in a conversation, and many prompts in batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.cli import launcher
from launcher.errors import UsageError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.processes.stop import StopRequest

pytestmark = pytest.mark.slow

TEXT = "How do I peel an egg?"
LONG = "How long does it take to peel two eggs, and how hot should the water be before I put them into it? " * 2
SYSTEM = {"role": "system", "content": "You answer questions about everyday work."}
MOST = 12


@pytest.fixture(scope="module")
def make_run(
    tmp_path_factory: pytest.TempPathFactory, few_pairs: Path, make_experiment: Callable[..., Experiment], new_run: Any
) -> Callable[..., RunDir]:
    root = tmp_path_factory.mktemp("answers")

    def make(name: str, adapter: Path | None = None, **settings: Any) -> RunDir:
        from trainer.train import Roots, train

        more: dict[str, Any] = {"datasets_path": str(few_pairs), "samples": {"prompts": [TEXT], "max_new_tokens": MOST}}
        more |= {} if adapter is None else {"adapter": str(adapter)}
        experiment = make_experiment(experiment=more, **{"max_steps": 2, "learning_rate": 5e-2, **settings})
        run = new_run(root, experiment, name)
        train(run, experiment, Roots(root, root, root / "cache"), StopRequest(), attempt=1)
        return run

    return make


@pytest.fixture(scope="module")
def run(make_run: Callable[..., RunDir]) -> RunDir:
    return make_run("one")


@pytest.fixture(scope="module")
def loaded(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from trainer.after.loaded import load

    return load(run.path, tmp_path_factory.mktemp("cache"))


def conversation(loaded: Any, most: int = MOST, temperature: float = 0.0, base: bool = True) -> Any:
    from trainer.after.conversation import Conversation, sides_of
    from trainer.after.prompted import Prompted
    from trainer.evaluation.generation import Wish

    return Conversation(loaded, Prompted.of(loaded), Wish(most, temperature), sides_of(loaded, with_base=base))


def independently(tiny_model: Path, adapter: Path | None, messages: list[dict[str, str]], most: int = MOST) -> str:
    """The same answer by transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = (model if adapter is None else PeftModel.from_pretrained(model, str(adapter))).eval()
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    found = model.generate(**asked, max_new_tokens=most, do_sample=False)
    return str(tokenizer.decode(found[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def test_the_first_answers_are_the_samples_of_the_run(run: RunDir, loaded: Any) -> None:
    (sample,) = [json.loads(line) for line in (run.evaluation / "samples.jsonl").read_text().splitlines()]
    answers = conversation(loaded).ask(TEXT)
    assert list(answers) == ["base", "trained"]
    assert [answers["base"].text, answers["trained"].text] == [sample["base"], sample["adapter"]]
    assert sample["base"] != sample["adapter"]


def test_each_side_remembers_its_own_answers_and_a_reset_forgets_them(run: RunDir, loaded: Any, tiny_model: Path) -> None:
    chat = conversation(loaded)
    first, second = chat.ask(TEXT), chat.ask("And two?")
    for side, adapter in (("base", None), ("trained", run.adapter)):
        history = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": first[side].text}]
        expected = independently(tiny_model, adapter, [SYSTEM, *history, {"role": "user", "content": "And two?"}])
        assert second[side].text == expected
    chat.reset()
    assert chat.ask(TEXT) == first


def test_answers_are_told_in_pieces_and_end_on_request(loaded: Any) -> None:
    chat, told = conversation(loaded), list[tuple[str, str]]()
    answers = chat.ask(TEXT, lambda side, piece: told.append((side, piece)))
    for side, answer in answers.items():
        assert "".join(piece for one, piece in told if one == side).strip() == answer.text
    assert len(told) > 2

    count = 0

    def stopped() -> bool:
        nonlocal count
        count += 1
        return count > 3

    cut = conversation(loaded).ask(TEXT, stopped=stopped)
    assert list(cut) == ["base"], "the sides after it do not answer"
    assert (cut["base"].finish, cut["base"].tokens) == ("stopped", 3)
    assert answers["base"].text.startswith(cut["base"].text)


def test_sampled_answers_repeat_with_the_conversation_and_leave_the_random_numbers_alone(loaded: Any) -> None:
    import torch

    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, other = (conversation(loaded, temperature=2.0) for _ in range(2))
    assert [one.ask(TEXT), one.ask(TEXT)] == [other.ask(TEXT), other.ask(TEXT)]
    assert torch.equal(torch.get_rng_state(), state)
    one.reset()
    assert one.ask(TEXT) != conversation(loaded, temperature=2.0).ask(TEXT), "a later turn draws other numbers"
    assert conversation(loaded).ask(TEXT) != conversation(loaded, temperature=2.0).ask(TEXT)


def test_an_answer_ends_where_the_model_has_no_more_positions(loaded: Any) -> None:
    chat = conversation(loaded, most=5000)
    limit = loaded.causal.config.max_position_embeddings
    ids = len(chat._prompted.ids([("user", LONG)]))
    assert chat._fitting(ids).most == limit - ids
    with pytest.raises(UsageError, match=r"no room for an answer: .* tokens, and the model reads 512"):
        chat.ask(LONG * 20)
    assert conversation(loaded, most=2).ask(TEXT).keys() == {"base", "trained"}


def test_batches_give_the_answers_of_prompts_alone(loaded: Any, run: RunDir, tiny_model: Path) -> None:
    from trainer.after.batches import answered
    from trainer.after.prompted import Prompted
    from trainer.evaluation.generation import Wish

    texts = [TEXT, LONG, "Why?", "How hot?", LONG + TEXT, "How do I keep bread fresh over the weekend?", TEXT[:9], "A b c", "No."]
    prompted = Prompted.of(loaded)
    ids = [prompted.ids([("user", text)]) for text in texts]
    found: dict[int, dict[str, Any]] = {}

    def told(batch: list[int], done: dict[str, Any]) -> None:
        found.update({place: {side: done[side][number] for side in done} for number, place in enumerate(batch)})

    answered(loaded, ids, Wish(MOST), ["base", "trained"], told)
    assert sorted(found) == list(range(len(texts)))
    for place, text in enumerate(texts):
        assert found[place] == conversation(loaded).ask(text)
    expected = independently(tiny_model, run.adapter, [SYSTEM, {"role": "user", "content": LONG}])
    assert found[1]["trained"].text == expected


def test_a_batch_that_does_not_fit_is_halved_and_no_prompt_is_lost(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from trainer.after import batches
    from trainer.evaluation.generation import Answer, Wish

    sizes: list[int] = []

    def generate(model: Any, tokenizer: Any, prompts: list[list[int]], wish: Wish) -> list[Answer]:
        sizes.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [Answer(str(len(ids)), 1, "stop") for ids in prompts]

    monkeypatch.setattr(batches, "generate", generate)
    done: list[int] = []
    prompts = [[1] * length for length in range(1, 21)]
    batches.answered(loaded, prompts, Wish(4), ["trained"], lambda batch, answers: done.extend(batch))
    assert sizes == [8, 4, *[2] * 10]
    assert sorted(done) == list(range(20))


def test_batches_hold_the_longest_first_and_apart_what_cannot_share_one() -> None:
    from trainer.after.batches import batches

    prompts = [[0] * length for length in (3, 9, 3, 12, 5, 11)]
    assert batches(prompts, 2, one_length=False, room=None) == [[3, 5], [1, 4], [0, 2]]
    assert batches(prompts, 4, one_length=False, room=10) == [[3], [5], [1, 4, 0, 2]]
    assert batches(prompts, 4, one_length=True, room=None) == [[3], [5], [1], [4], [0, 2]]


def test_full_weights_an_adapter_alone_and_a_model_alone_have_the_sides_that_there_are(
    make_run: Callable[..., RunDir], run: RunDir, loaded: Any, tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    from trainer.after.loaded import load

    whole = load(make_run("whole", full_finetuning=True, learning_rate=1e-2).path, tmp_path)
    model = load(tiny_model, tmp_path)
    adapter = load(Path(shutil.copytree(run.adapter, tmp_path / "lora")), tmp_path)
    assert [conversation(one).sides for one in (whole, model, adapter)] == [("trained",), ("model",), ("base", "trained")]
    assert conversation(loaded, base=False).sides == ("trained",)
    answers = conversation(adapter).ask(TEXT)
    assert answers["trained"].text == independently(tiny_model, run.adapter, [{"role": "user", "content": TEXT}]), (
        "no system text"
    )
    assert conversation(model).ask(TEXT)["model"] == answers["base"]
    sample = json.loads((whole.target.run.evaluation / "samples.jsonl").read_text().splitlines()[-1])
    assert conversation(whole).ask(TEXT)["trained"].text == sample["adapter"]


def test_the_base_side_of_a_run_that_continued_an_adapter_is_the_model_that_it_began_with(
    make_run: Callable[..., RunDir], run: RunDir, loaded: Any, tmp_path: Path
) -> None:
    from trainer.after.loaded import find

    second = make_run("second", adapter=run.adapter)
    answers = conversation(find(second.path, tmp_path, with_start=True).load()).ask(TEXT)
    assert answers["base"] == conversation(loaded).ask(TEXT)["trained"]
    (sample,) = [json.loads(line) for line in (second.evaluation / "samples.jsonl").read_text().splitlines()]
    assert [answers["base"].text, answers["trained"].text] == [sample["base"], sample["adapter"]]
    assert sample["base"] != sample["adapter"]


def test_the_verb_generate_answers_a_file_and_resumes_a_torn_one(
    run: RunDir, loaded: Any, few_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    data = str(few_pairs / "validation_data.csv")
    asked = ["generate", str(run.path), "--data", data, "-o", "answers.jsonl", "--base", "--max-tokens", str(MOST), "--json"]
    done = CliRunner().invoke(launcher, asked)
    assert done.exit_code == 0, done.output
    output = Path("answers.jsonl")
    whole = output.read_text()
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["row"] for line in lines] == [2, 3, 4, 5]
    for line in lines:
        answers = conversation(loaded).ask(line["prompt"])
        trained = answers["trained"]
        assert line == {
            "row": line["row"],
            "prompt": line["prompt"],
            "answer": trained.text,
            "base": answers["base"].text,
            "tokens": trained.tokens,
            "finish": trained.finish,
        }

    output.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in (lines[3], lines[0])) + '{"row": 3, "pro')
    again = CliRunner().invoke(launcher, asked)
    assert "answers.jsonl: 2 of 4 prompts are answered, resuming" in again.output
    assert '"kept": 2' in again.stdout
    assert output.read_text() == whole


def test_the_verb_chat_answers_prompts_and_ends(
    run: RunDir, loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    done = CliRunner().invoke(launcher, ["chat", str(run.path), "--max-tokens", str(MOST)], input=f"{TEXT}\n\nWhy?\n")
    assert done.exit_code == 0, done.output
    expected = ""
    for text in (TEXT, "Why?"):
        answers = conversation(loaded).ask(text)
        expected += "\n" if expected else ""  # between two prompts
        expected += f"{'prompt':<12}{text}\n"
        for side, answer in answers.items():
            expected += f"{side:<12}" + answer.text.replace("\n", f"\n{'':<12}") + "\n"
        cut = [side for side, answer in answers.items() if answer.finish == "length"]
        expected += f"{'':<12}({' and '.join(cut)}: cut at {MOST} tokens, see --max-tokens)\n" if cut else ""
    assert done.stdout == expected


def test_a_run_whose_starting_adapter_is_not_here_answers_without_its_base(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was trained on a cluster, where the adapter was at another place."""
    from trainer.after import chat

    folder = shutil.copytree(run.path, tmp_path / "downloaded")
    experiment = json.loads((folder / "experiment.json").read_text())
    (folder / "experiment.json").write_text(json.dumps({**experiment, "adapter": "/dpo/cache/staged/0/adapter"}))
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(chat, "tell", told.append)
    chat.talk([], folder, {"max_tokens": MOST, "temperature": 0.0, "base": True}, tmp_path / "cache")  # type: ignore[arg-type]
    ready = told[-1]["ready"]
    assert ready["sides"] == ("trained",)
    assert ready["notices"][0].startswith(
        "warning: no base model beside the trained one: folder /dpo/cache/staged/0/adapter not found"
    )


def test_a_chat_warns_where_the_rows_had_system_messages_of_their_own(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.after import chat

    folder = shutil.copytree(run.path, tmp_path / "copy")
    prompt = RunDir(folder).prompt
    prompt.write_text(json.dumps({**json.loads(prompt.read_text()), "has_own": True}))
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(chat, "tell", told.append)
    chat.talk([], folder, {"max_tokens": MOST, "temperature": 0.0, "base": True}, tmp_path / "cache")  # type: ignore[arg-type]
    warning = "warning: the data have system messages, but this conversation has none"
    assert told[-1]["ready"]["notices"] == [warning]
