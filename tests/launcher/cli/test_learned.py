"""What the end of a run prints of what it has learned."""

from __future__ import annotations

import pytest

from launcher.cli.learned import draw
from launcher.runs.learned import Learned


def test_the_figures_are_explained_and_what_rounds_to_zero_has_no_minus_sign(capsys: pytest.CaptureFixture[str]) -> None:
    before = {"eval_rewards/accuracies": 0.0, "eval_rewards/margins": -2e-7, "eval_loss": 0.69314}
    after = {"eval_rewards/accuracies": 0.83, "eval_rewards/margins": 0.1271, "eval_loss": 0.6314}
    draw(Learned("/runs/x/adapter", before, after, 56, None, ("from peft import X", 'X("a")'), ("tensorboard x", "run demo")))
    assert capsys.readouterr().out == (
        """\
learned, on validation pairs that were not trained on:
              before    after
  accuracy      0.00     0.83
  margin      +0.000   +0.127
  loss        0.6931   0.6314
  accuracy  share of validation pairs whose chosen answer has the higher reward
  margin    reward of chosen minus reward of rejected; reward = beta × log-probability ratio to the reference
  loss      ln 2 = 0.6931 means no preference
  (before: a fresh adapter changes nothing, so every margin is 0)
adapter     /runs/x/adapter (56 tensors, read back and compared)
next        launcher tensorboard x
            launcher run demo
in Python   from peft import X
            X("a")
"""
    )


def test_without_validation_pairs_only_the_adapter_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    draw(Learned("/runs/x/adapter", uploaded="s3://b/x"))
    assert capsys.readouterr().out == "adapter     /runs/x/adapter\nuploaded    s3://b/x\n"
