"""What the end of a run prints about what it has learned, and what `launcher learned` does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.cli import launcher
from launcher.cli.learned import _draw_samples, draw
from launcher.errors import LauncherError, UsageError
from launcher.experiment.schema import Experiment
from launcher.runs.learned.samples import Sample
from launcher.runs.learned.summary import Learned, preferences
from launcher.runs.run_dir import RunDir

BEFORE = {
    "eval_loss": 0.69314, "eval_rewards/accuracies": 0.0, "eval_rewards/margins": -2e-7, "eval_rewards/chosen": -1e-7,
    "eval_rewards/rejected": 1e-7, "eval_logps/chosen": -348.62, "eval_logps/rejected": -310.21,
}  # fmt: skip
AFTER = {
    "eval_loss": 0.1923, "eval_rewards/accuracies": 0.95, "eval_rewards/margins": 1.87, "eval_rewards/chosen": -2.031,
    "eval_rewards/rejected": -3.901, "eval_logps/chosen": -368.93, "eval_logps/rejected": -349.22,
}  # fmt: skip
TABLE = """\
on validation pairs, which were not trained on:
                              before     after
  loss                        0.6931    0.1923
  accuracy                      0.00      0.95
  margin                      +0.000    +1.870
  chosen reward               +0.000    -2.031
  rejected reward             +0.000    -3.901
  chosen log-probability     -348.62   -368.93
  rejected log-probability   -310.21   -349.22
"""
MEANINGS = """\
  loss: ln 2 = 0.6931 means no preference
  accuracy: share of pairs whose chosen answer has the higher reward; 0 before the training, when all rewards are equal
  margin: reward of chosen minus reward of rejected
  reward: beta × (log-probability − the reference's); below 0: less likely than before the training
  log-probability: of a whole answer, in nats
"""
DISPLACED = (
    "notice: the chosen answers became less likely (log-probability -348.6 → -368.9), the rejected answers even less. "
    "This is common, because DPO trains only the difference: read answers of the model before you use it "
    "(Razin et al., arXiv 2410.08847; Pal et al., arXiv 2402.13228). A lower learning_rate, a larger beta, "
    "or loss_type: [sigmoid, sft] with loss_weights: [1, 0.5] keeps chosen answers more likely.\n"
)


def learned(**result: Any) -> Learned:
    record = {"result": {**result, "verified": {"tensors": 56}}}
    found = Learned.of(record, "/runs/x", "a", ("tensorboard x", "run demo"))
    return replace(found, python=("from peft import X", 'X("a")'))


def test_both_answers_are_shown_before_and_after_and_what_rounds_to_zero_has_no_minus_sign(
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw(learned(before=BEFORE, after=AFTER))
    assert capsys.readouterr().out == (
        TABLE
        + MEANINGS
        + DISPLACED
        + """\
adapter     /runs/x/adapter (56 tensors, read back and compared)
next        launcher tensorboard x
            launcher run demo
in Python   from peft import X
            X("a")
"""
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_stays_a_table_in_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launcher.cli.terminal.screen.columns", lambda err: width)
    draw(learned(before=BEFORE, after=AFTER))
    out = capsys.readouterr().out
    assert out.startswith(TABLE)
    assert max(map(len, out.splitlines())) <= width
    assert " ".join(out.split()).count(" ".join(DISPLACED.split())) == 1


def test_nothing_is_said_of_chosen_answers_that_became_more_likely(capsys: pytest.CaptureFixture[str]) -> None:
    draw(learned(before=BEFORE, after={**AFTER, "eval_rewards/chosen": 0.4, "eval_logps/chosen": -344.62}))
    assert "less likely (" not in capsys.readouterr().out


def test_an_answer_that_is_empty_or_has_not_changed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from launcher.cli.learned import _draw_samples

    _draw_samples([Sample(40, 2, "How hot?", "It depends.", ""), Sample(40, 3, "How long?", "An hour.", "An hour.")])
    assert capsys.readouterr().out == (
        "\nprompt      How hot?\nbase        It depends.\ntrained     (empty)\n"
        "\nprompt      How long?\nbase        An hour.\ntrained     (the same)\n"
    )


def test_rejected_answers_that_win_are_a_warning_and_not_called_common(capsys: pytest.CaptureFixture[str]) -> None:
    flipped = {**AFTER, "eval_rewards/margins": -2.078, "eval_rewards/chosen": -1.877, "eval_rewards/rejected": 0.201}

    def said(high: float) -> str:
        estimate = {"value": -2.078, "low": -2.2, "high": high}
        draw(learned(before=BEFORE, after=flipped, learned={"pairs": 84, "after": {"margin": estimate}}))
        return capsys.readouterr().out

    assert (
        "warning: the rejected answers of these pairs win (margin -2.078): the training teaches the opposite of them. Check "
        "which answers are chosen in the training and in the validation file.\n"
    ) in said(-1.961)
    assert "This is common" not in said(-1.961)
    assert "warning: the rejected" not in said(0.1), "the interval holds 0"


def test_without_validation_pairs_the_first_and_the_last_steps_are_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    first = {"steps": [1, 4], "loss": 0.68, "rewards/margins": 0.03, "rewards/chosen": 0.01, "logps/chosen": -300.0}
    last = {"steps": [37, 40], "loss": 0.3, "rewards/margins": 1.5, "rewards/chosen": -0.5, "logps/chosen": -290.0}
    draw(learned(training={"first": first, "last": last}))
    out = capsys.readouterr().out
    assert out.startswith(
        """\
on the training pairs of these steps; no validation pairs were evaluated:
                          steps 1-4  steps 37-40
  loss                       0.6800       0.3000
  margin                     +0.030       +1.500
  chosen reward              +0.010       -0.500
  chosen log-probability    -300.00      -290.00
"""
    )
    assert "notice: the chosen answers became less likely (reward -0.500), the rejected answers even less. This" in out


def test_a_resumed_run_that_evaluated_nothing_before_shows_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    draw(learned(after=AFTER))
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == ["after"]
    assert out[2].split() == ["loss", "0.1923"]


def test_without_figures_only_the_adapter_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    draw(Learned("/runs/x/adapter", uploaded="s3://b/x"))
    assert capsys.readouterr().out == "adapter     /runs/x/adapter\nuploaded    s3://b/x\n"


LEARNED: dict[str, Any] = {
    "pairs": 84,
    "noise": 1e-4,
    "after": {
        "accuracy": {"value": 0.95, "low": 0.8839, "high": 0.9813},
        "margin": {"value": 1.87, "low": 1.7, "high": 2.04},
        "chosen": {"value": -2.031, "low": -2.2, "high": -1.9},
        "rejected": {"value": -3.901, "low": None, "high": None},
    },
    "suspects": 12,
    "looked_at": 400,
}


def test_figures_of_a_sample_stand_beside_their_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    draw(learned(before=BEFORE, after=AFTER, learned=LEARNED))
    out = capsys.readouterr().out
    assert out.startswith(
        """\
on validation pairs, which were not trained on:
                              before     after     95 % interval
  loss                        0.6931    0.1923
  accuracy                      0.00      0.95      0.88 to 0.98
  margin                      +0.000    +1.870  +1.700 to +2.040
  chosen reward               +0.000    -2.031  -2.200 to -1.900
  rejected reward             +0.000    -3.901
"""
    )
    assert "warning: 12 of 400 training pairs look mislabelled: see /runs/x/evaluation/suspects.jsonl\n" in out


PAIRS = [
    {"row": row, "prompt_tokens": 9, "chosen_tokens": tokens, "rejected_tokens": 4, "chosen": margin, "rejected": 0.0}
    | {"margin": margin, "columns": {"topic": topic}}
    for row, tokens, margin, topic in [(2, 10, 1.0, "bread"), (3, 12, 3.0, "bread"), (4, 30, -1.0, "tea")]
]
SUSPECT = {"row": 7, "margin": -1.234, "score": 3.21, "prompt": "Why?\nAnd how?", "chosen": "c " * 200, "rejected": "r"}
SAMPLES = [
    {"step": step, "row": 2, "prompt": "How hot?", "base": "It depends.", "adapter": f"At {step} °C."} for step in (20, 40)
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the run ``first``, which is done."""
    monkeypatch.chdir(tmp_path)
    run = RunDir.of(tmp_path, "data/dpo/model", "1", "m", "first")
    result = {"before": BEFORE, "after": AFTER, "learned": {**LEARNED, "suspects": 1, "samples": 1}}
    outcome = {"state": "done", "exit_code": 0, "sentence": "done", "ended": "2026-11-24T12:00:00+00:00"}
    record = {"run": "first", "key": "exp_1", "backend": "host", "outcome": outcome, "result": result}
    run.create({run.experiment: "{}"}, record)
    run.evaluation.mkdir()
    for name, lines in {"pairs": PAIRS, "suspects": [SUSPECT], "samples": SAMPLES}.items():
        (run.evaluation / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def ask(*args: str) -> Any:
    return CliRunner().invoke(launcher, ["learned", *args])


def test_the_verb_shows_figures_groups_answers_and_suspects(home: Path) -> None:
    done = ask("first", "--by", "topic")
    assert done.exit_code == 0, done.output
    _, _, groups = done.output.partition("by topic:\n")
    assert groups.startswith(
        """\
topic  pairs  accuracy  95 %          margin  95 %
tea    1      0.00      0.00 to 0.79  -1.000  -
bread  2      1.00      0.34 to 1.00  +2.000  -10.71 to +14.71

prompt      How hot?
base        It depends.
trained     At 40 °C.

row 7       margin -1.23, 3.2 spreads below the median
prompt      Why? And how?
chosen      c c """
    )
    assert max(map(len, groups.splitlines()[:-6])) <= 252


def test_the_verb_tells_that_no_pair_is_suspect(home: Path) -> None:
    record = next((home / "data").rglob("run.json"))
    record.write_text(record.read_text().replace('"suspects": 1', '"suspects": 0'))
    next((home / "data").rglob("suspects.jsonl")).unlink()
    assert "\n\nsuspects    none of 400 training pairs looks mislabelled\n" in ask("first").output


def test_without_a_column_pairs_are_grouped_by_the_length_of_their_answers(home: Path) -> None:
    out = ask("exp_1").output
    assert "by length:\nlength     pairs" in out
    assert "30 tokens  1      0.00" in out


def test_an_unknown_column_is_named_with_those_that_there_are(home: Path) -> None:
    done = ask("first", "--by", "topik")
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == (
        "--by topik: the pairs of first have no such column; must be one of length, topic\n    hint:     did you mean 'topic'?"
    )


def test_json_has_everything(home: Path) -> None:
    found = json.loads(ask("first", "--by", "topic", "--json").output)
    assert found["learned"]["after"] == LEARNED["after"]
    assert [(group["value"], group["pairs"]) for group in found["groups"]] == [("tea", 1), ("bread", 2)]
    assert [found["by"], found["suspects"], found["samples"]] == ["topic", [SUSPECT], SAMPLES[1:]]


def test_what_the_health_rules_found_stands_beside_the_figures(home: Path) -> None:
    assert "\nhealth " not in ask("first").output
    (record,) = home.rglob("runs/first/run.json")
    text = {"sentence": "2 of 2 sample answers are degenerate", "suggestion": "lower learning_rate"}
    found = {"rule": "degenerate_answers", "action": "warn", "first_step": 40, "last_step": 40, **text}
    record.write_text(json.dumps({**json.loads(record.read_text()), "health": [found]}))
    done = ask("first")
    assert "health      degenerate_answers (step 40): 2 of 2 sample answers are degenerate: lower learning_rate\n" in done.output
    assert json.loads(ask("first", "--json").output)["health"] == [found]


def test_a_file_that_is_damaged_is_named(home: Path) -> None:
    (file,) = home.rglob("pairs.jsonl")
    file.write_text("nonsense\n")
    done = ask("first")
    assert isinstance(done.exception, LauncherError)
    assert f"{file}: expected lines that a run writes" in str(done.exception)


def test_a_run_without_a_result_has_learned_nothing_yet(home: Path) -> None:
    (record,) = home.rglob("runs/first/run.json")
    record.write_text(json.dumps({"run": "first", "key": "exp_1", "backend": "host"}))
    done = ask("first")
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "first has no result yet. Follow it with: launcher logs -f first"
    record.write_text(json.dumps({"run": "first", "key": "exp_1", "backend": "host", "outcome": {"state": "stopped"}}))
    done = ask("first")
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "first has no result (state: stopped). See the reason with: launcher why first"


def test_of_a_column_with_many_values_the_groups_of_the_lowest_margins_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from launcher.cli.learned import _table
    from launcher.runs.learned.pair_rewards import PairReward, by_column

    pairs = [PairReward(n, 9, 9, 9, chosen=float(n), rejected=0.0, columns={"topic": f"topic {n}"}) for n in range(40)]
    _table("topic", by_column(pairs, "topic", 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert [lines[1].split("  ")[0], lines[30].split("  ")[0]] == ["topic 0", "topic 29"]
    assert lines[31:] == ["… and 10 more with higher margins; all with --json"]


def test_a_narrow_terminal_leaves_the_intervals_out_and_wraps_no_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("learned", "terminal.screen"):
        monkeypatch.setattr(f"launcher.cli.{module}.columns", lambda err: 60)
    evaluated = {key: {"value": 0.5, "low": 0.4, "high": 0.6} for key in ("accuracy", "margin", "chosen", "rejected")}
    draw(learned(before=BEFORE, after=AFTER, learned={"pairs": 84, "noise": 0.0, "before": None, "after": evaluated}))
    printed = capsys.readouterr().out
    assert printed.startswith(TABLE)
    assert "95 %" not in printed


def test_a_run_of_sft_has_no_rewards_to_group_or_to_score(home: Path) -> None:
    run = RunDir(home / "data/dpo/model/exp_1/m/runs/first")
    run.adapter.mkdir()
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "method": "sft"})
    run.experiment.write_text(experiment.model_dump_json())
    after = {"eval_loss": 2.0, "eval_mean_token_accuracy": 0.5}
    run.update_record(method="sft", result={"before": after, "after": after, "learned": {"samples": 1}})
    assert "token accuracy" in ask("first").output
    assert str(ask("first", "--by", "topic").exception) == "--by topic: first is a run of method: sft and has no rewards to group"
    done = CliRunner().invoke(launcher, ["score", "first", "--data", "new.csv"])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "first is a run of method: sft and has no rewards; score a run of method: dpo"


def test_a_run_of_sft_is_followed_by_one_of_dpo_that_starts_from_its_adapter() -> None:
    assert preferences({"method": "sft"}, "warm-up", "run --backend host") == ["run --backend host EXP --set adapter=warm-up"]
    changed = {"method": "sft", "key": "mine", "origin": "configs/mine.yml", "set": ["hyperparameters.seed=3", "method=sft"]}
    assert preferences(changed, "warm", "run") == ["run mine --set hyperparameters.seed=3 --set adapter=warm"]
    assert preferences({"experiment": {}}, "first", "run") == []
    whole = {"method": "sft", "experiment": {"hyperparameters": {"full_finetuning": True}}}
    assert preferences(whole, "first", "run") == [], "it left no adapter"


def test_the_messages_of_a_conversation_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "system: Be brief.\n\nuser: How hot\nis it?\n\nassistant: Where?\n\nWhich room?\n\nuser: Here."
    long = "\n\n".join(f"user: {number}" for number in range(9))
    _draw_samples([Sample(1, 2, prompt, "Warm.\n\nNote: it depends.", "40 °C"), Sample(1, 3, long, "a", "b")])
    assert (
        capsys.readouterr().out
        == """
prompt      system: Be brief.
            user: How hot is it?
            assistant: Where? Which room?
            user: Here.
base        Warm. Note: it depends.
trained     40 °C

prompt      … 3 earlier messages
            user: 3
            user: 4
            user: 5
            user: 6
            user: 7
            user: 8
base        a
trained     b
"""
    )
