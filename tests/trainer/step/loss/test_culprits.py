from __future__ import annotations

import math

import torch

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.step.loss.culprits import Culprits

NAN = math.nan


def said(*losses: float, mean: float = NAN) -> str:
    culprits = Culprits()
    culprits.name_rows("train.csv", TokenPairs.of([TokenPair([1], [2], [3], line) for line in range(2, 2 + len(losses))]))
    culprits.add([(tuple(range(len(losses))), torch.tensor(losses))])
    culprits.find(mean)
    return culprits.in_words()


def test_the_rows_whose_loss_is_no_number_are_named() -> None:
    assert said(0.6, NAN, 0.7, math.inf) == " (rows train.csv:3, train.csv:5)"
    assert said(NAN) == " (rows train.csv:2)", "of one pair, nothing tells the row from the weights"
    assert said(0.6, 0.7, mean=0.65) == ""


def test_where_no_pair_has_a_loss_the_weights_are_named_and_no_row() -> None:
    assert said(NAN, NAN, math.inf) == " (in all 3 pairs: the cause is the weights, not a row)"
