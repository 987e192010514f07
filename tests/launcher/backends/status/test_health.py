from __future__ import annotations

from launcher.backends.status.health import cut


def test_steps_that_a_later_attempt_computed_again_count_once() -> None:
    steps = [
        ("eval", 0),
        ("train", 1),
        ("train", 2),
        ("eval", 2),
        ("train", 3),
        ("train", 2),
        ("eval", 2),
        ("train", 3),
        ("summary", 3),
    ]
    events = [{"type": kind, "step": step, "n": number} for number, (kind, step) in enumerate(steps)]
    assert [(event["type"], event["step"], event["n"]) for event in cut(iter(events))] == [
        ("eval", 0, 0),
        ("train", 1, 1),
        ("train", 2, 5),
        ("eval", 2, 6),
        ("train", 3, 7),
    ]
