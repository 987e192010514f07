"""The page of errors: exit codes, and for each message that the launcher knows what it means and how to fix it.

Rows come from the lists that the launcher decides by, and from the launcher itself, run on the examples that stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import yaml

import launcher.errors
from launcher.backends.docker import engine
from launcher.errors import LauncherError
from launcher.experiment.sections.data_rules import DATA_RULES, DataRule
from launcher.health import RULES
from launcher.why import Condition, Container, Evidence, Explanation, Pod, explain, refusal
from launcher.why.codes import CODES
from launcher.why.creation import CREATION
from launcher.why.image import CAUSES
from launcher.why.known import Known
from launcher.why.lines import MEANINGS, RANKS, in_lines
from launcher.why.refusal import REFUSALS
from launcher.why.scheduling import EXAMPLES, unschedulable

from .mistakes import MISTAKES, parsed
from .raised import raised
from .tables import entries, plain, table, ticked

_OVER: Final = Evidence("RUN", "kubernetes", "failed", namespace="NAMESPACE")
_SHORT: Final = ("memory", "ephemeral-storage", "inodes", "pids")  # what a node runs out of
_DISRUPTIONS: Final = ("PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByTaintManager")


def codes() -> str:
    """The exit codes of runs and commands."""
    rows = [("code", "meaning", "set by", "a cluster retries", "what to do")]
    for one in CODES.values():
        retried = "" if one.code == 0 else "yes" if one.is_retried else "no"
        fix = one.fix.replace("ADVICE", "do what launcher health RUN tells") or (
            "resume it with: launcher resume RUN" if one.code else "use the adapter"
        )
        rows.append((str(one.code), one.meaning, one.set_by, retried, plain(fix)))
    return table(rows)


def classes() -> str:
    """The classes of errors, with their exit codes."""
    classes = [one for one in vars(launcher.errors).values() if isinstance(one, type) and issubclass(one, LauncherError)]
    rows = [("class", "exit code", "meaning")]
    for one in sorted(classes, key=lambda one: one.exit_code):
        if not one.__name__.startswith("_"):
            of_files = "; `mistakes` has each `Mistake`" if hasattr(one, "shown") else ""
            rows.append((f"`{one.__name__}`", str(one.exit_code), CODES[one.exit_code].meaning + of_files))
    return table(rows)


def runs() -> str:
    """What the last lines of a run mean, then what keeps its pods from starting, and what ends them."""
    ranks = [(one[-1], in_lines(_OVER, [one[-1]])) for one in RANKS]
    refused = [(example, refusal(_OVER, example)) for _, _, example in REFUSALS]
    placed = [(message, unschedulable(_OVER, "the pod", message)) for message in EXAMPLES]
    parts = (
        ("The end of a log", _known(MEANINGS)),
        ("A rank that others wait for", _explained(ranks)),
        ("An image that is not pulled", _known(CAUSES)),
        ("A container that does not start", _known(CREATION)),
        ("Pods that the cluster refuses", _explained(refused)),
        ("Pods that no node takes", _explained(placed)),
        ("Pods that a cluster ends", _explained(_ended())),
        ("Docker", ((_said(one), plain(str(engine.explained(one))), "") for one in engine.EXAMPLES)),
    )
    return "\n\n".join(f"### {title}\n\n{entries(rows)}" for title, rows in parts)


def experiments() -> str:
    """Mistakes in an experiment file, as the launcher prints them."""
    found = ((_said(_yaml(one)), problem) for one in MISTAKES for problem in parsed(one))
    return entries((plain(one.what), f"Input: {written}", plain(one.hint or one.expected or "")) for written, one in found)


def data() -> str:
    """What is found in the rows, by rule."""
    return entries(_of_rule(rule) for rule in DATA_RULES.values())


def health() -> str:
    """The rules that watch a run."""
    return entries((f"`{rule.name}`", plain(rule.about), plain(rule.suggestion)) for rule in RULES.values())


def others() -> str:
    """Every other message of the launcher and the trainer, from their source, by exit code."""
    parts = []
    for code, messages in sorted(raised().items()):
        listed = "\n".join(f"- {plain(one.text)}{f' ({plain(one.fix)})' if one.fix else ''}" for one in messages)
        parts.append(f"### Exit code {code}: {CODES[code].meaning}\n\n{listed}")
    return "\n\n".join(parts)


def _of_rule(rule: DataRule) -> tuple[str, str, str]:
    limit = {"threshold": rule.threshold or 0}
    message = f"{rule.one.format(**limit)}; 3 … {rule.many.format(**limit)}"
    return f"`{rule.name}`: {plain(message)}", plain(rule.about), plain(rule.hint or "")


def _known(messages: Iterable[Known]) -> Iterator[tuple[str, str, str]]:
    return ((_said(one.example), plain(one.meaning), plain(one.suggestion)) for one in messages)


def _explained(rows: Sequence[tuple[str, Explanation | None]]) -> Iterator[tuple[str, str, str]]:
    for message, why in rows:
        assert why is not None, message
        yield _said(message), plain(why.sentence), plain(why.suggestion)


def _said(message: str) -> str:
    return ticked(message)


def _yaml(mistake: dict[str, Any]) -> str:
    return yaml.safe_dump(mistake, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000).strip()[1:-1]


def _ended() -> list[tuple[str, Explanation | None]]:
    """Pods that a kubelet, the scheduler or a controller ended."""
    low = "The node was low on resource: {}. Threshold quantity: 100Mi, available: 17348Ki."
    full = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
    evicted = [*(low.format(what) for what in _SHORT), 'Usage of EmptyDir volume "shm" exceeds the limit "8Gi".', full]
    shutdown = "Pod was terminated in response to imminent node shutdown."
    pods = {
        "OOMKilled": Pod("the pod", "Failed", container=Container("terminated", "OOMKilled", "", 137)),
        **{words: _pod("Evicted", words) for words in evicted},
        **{reason: _disrupted(reason) for reason in _DISRUPTIONS},
        shutdown: _pod("Terminated", shutdown),
        "UnexpectedAdmissionError": _pod("UnexpectedAdmissionError", "Allocate failed due to no such device"),
        "OutOfnvidia.com/gpu": _pod("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu"),
    }
    return [(said, explain(replace(_OVER, pods=(pod,)))) for said, pod in pods.items()]


def _pod(reason: str, message: str) -> Pod:
    return Pod("the pod", "Failed", reason=reason, message=message)


def _disrupted(reason: str) -> Pod:
    return Pod("the pod", "Failed", conditions=(Condition("DisruptionTarget", True, reason),))
