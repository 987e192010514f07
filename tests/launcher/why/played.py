"""Runs as they are seen, in few words."""

from __future__ import annotations

import json
from typing import Any

from launcher.why import Condition, Container, Event, Evidence, Pod


def seen(state: str = "starting", backend: str = "kubernetes", **more: Any) -> Evidence:
    known = {"namespace": "dpo"} if backend == "kubernetes" else {}
    return Evidence("big", backend, state, **{**known, **more})


def pending(message: str, name: str = "big-0-x7k2p") -> Pod:
    return Pod(name, "Pending", 0, conditions=(Condition("PodScheduled", False, "Unschedulable", message),))


def waits(reason: str, message: str = "") -> Pod:
    return Pod("big-0-x7k2p", "Pending", 0, host="gpu-1", container=Container("waiting", reason, message))


def on_node(phase: str = "Pending") -> Pod:
    return Pod("big-0-x7k2p", phase, 0, host="gpu-1", container=Container("waiting", "ContainerCreating"))


def event(reason: str, message: str, name: str = "big-0-x7k2p", kind: str = "Pod") -> Event:
    return Event(kind, name, reason, message, "2026-11-24T12:00:00Z")


def failed(code: int, message: str = "", reason: str = "Error", **pod: Any) -> Pod:
    container = Container("terminated", reason, message, code, "2026-11-24T12:00:00Z")
    return Pod(pod.pop("name", "big-0-x7k2p"), "Failed", pod.pop("index", 0), container=container, **pod)


def last_word(code: int, sentence: str, state: str = "failed") -> str:
    return json.dumps({"code": code, "sentence": sentence, "state": state}) + "\n"
