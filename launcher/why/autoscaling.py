"""What an autoscaler of nodes does about a pod that no node can take: the cluster autoscaler or Karpenter. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from .evidence import Event, Evidence, Explanation

_COMING: Final = {"TriggeredScaleUp": "pod triggered scale-up:", "Nominated": "Pod should schedule on:"}
_REFUSED: Final = "NotTriggerScaleUp"
_BY_KARPENTER: Final = "Failed to schedule pod, "
_LONGEST: Final = 240  # characters of a reason: Karpenter's lists every pool


def scaled(seen: Evidence, pod: str, why: Explanation) -> Explanation:
    """``why`` no node can take ``pod``, with what the autoscaler has done about it last, if there is one."""
    if why.cause != "unschedulable":
        return why
    last = max((one for one in seen.events if one.name == pod and _is_of_autoscaler(one)), key=lambda one: one.time, default=None)
    if last is None:
        return why
    if last.reason in _COMING:
        node = _short(last.message.removeprefix(_COMING[last.reason]).strip("[{}] "))
        wait = "wait: a new node takes minutes; if none comes, see: kubectl get nodes"
        return replace(why, sentence=f"{why.sentence}; the autoscaler has asked for a node ({node})", suggestion=wait)
    reason = _short(re.sub(r"^pod didn't trigger scale-up( \(.*?\))?:|^Failed to schedule pod, ", "", last.message))
    sentence = f"{why.sentence}; the autoscaler adds no node{f': {reason}' if reason else ''}"
    return replace(why, sentence=sentence)


def _is_of_autoscaler(event: Event) -> bool:
    return event.reason in (*_COMING, _REFUSED) or event.message.startswith(_BY_KARPENTER)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
