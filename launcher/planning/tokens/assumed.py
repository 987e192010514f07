"""Assumed: the work of an experiment whose data do not exist yet. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ...experiment.schema import Experiment
from .work import Work

PAIRS: Final = 1000  # training pairs
HELD_OUT: Final = 100  # validation pairs, where the experiment names some


def full_work(experiment: Experiment) -> Work:
    """1,000 pairs as long as the experiment allows: every answer has ``max_seq_length`` tokens."""
    most = Work.at_most(experiment.hyperparameters.max_seq_length, PAIRS, answers=1 if experiment.is_sft else 2)
    return replace(most, held_out=HELD_OUT if experiment.has_validation else 0)
