"""Finds problems in a run's metrics: rules over the lines of its log and the facts of its data. Pure.

Others take ``Watch`` (line by line, in the trainer), ``findings`` (a whole log), ``Facts``, ``Finding`` and ``RULES``.
Their thresholds and actions are the experiment's ``health`` section; docs/explanation/health.md has the table of the rules.
"""

from __future__ import annotations

from .answers import Answered
from .facts import Answers, Facts
from .finding import Finding, read_findings, worst
from .rules import RULES, Rule
from .watch import Watch, findings

__all__ = ["RULES", "Answered", "Answers", "Facts", "Finding", "Rule", "Watch", "findings", "read_findings", "worst"]
