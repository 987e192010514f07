"""What the end of a run prints of what it has learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.cli.learned import draw
from launcher.runs.learned import Learned

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
  accuracy: share of pairs whose chosen answer has the higher reward
  margin: reward of chosen minus reward of rejected
  reward: beta × (log-probability − the reference's); below 0: less likely than before the training
  log-probability: of a whole answer, in nats
"""
DISPLACED = (
    "notice: the chosen answers became less likely (log-probability -348.6 → -368.9), the rejected answers even less. "
    "DPO looks at the difference alone, and this is common: read answers of the model before you use it "
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
    monkeypatch.setattr("launcher.cli.screen.columns", lambda err: width)
    draw(learned(before=BEFORE, after=AFTER))
    out = capsys.readouterr().out
    assert out.startswith(TABLE)
    assert max(map(len, out.splitlines())) <= width
    assert " ".join(out.split()).count(" ".join(DISPLACED.split())) == 1


def test_nothing_is_said_of_chosen_answers_that_became_more_likely(capsys: pytest.CaptureFixture[str]) -> None:
    draw(learned(before=BEFORE, after={**AFTER, "eval_rewards/chosen": 0.4, "eval_logps/chosen": -344.62}))
    assert "less likely (" not in capsys.readouterr().out


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
    assert "notice: the chosen answers became less likely (reward -0.500), the rejected answers even less. DPO" in out


def test_a_resumed_run_that_evaluated_nothing_before_shows_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    draw(learned(after=AFTER))
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == ["after"]
    assert out[2].split() == ["loss", "0.1923"]


def test_without_figures_only_the_adapter_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    draw(Learned("/runs/x/adapter", uploaded="s3://b/x"))
    assert capsys.readouterr().out == "adapter     /runs/x/adapter\nuploaded    s3://b/x\n"
