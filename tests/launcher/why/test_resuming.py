"""Whether a run that is over can be resumed, in the same words wherever it is asked."""

from __future__ import annotations

import pytest

from launcher.why import begins, explain
from tests.launcher.why.played import seen

FROM_6 = "resume it with: launcher resume big (from checkpoint-6)"
NOTHING = "start it again with: launcher resume big (from the beginning: it has no checkpoint)"
UNSEEN = "resume it with: launcher resume big (from its newest checkpoint, if it has one)"


@pytest.mark.parametrize(("checkpoints", "words"), [(("checkpoint-3", "checkpoint-6"), FROM_6), ((), NOTHING), (None, UNSEEN)])
@pytest.mark.parametrize(
    "over",
    [
        {"state": "stopped", "exit_code": 143, "step": 6},
        {"state": "lost", "exit_code": 137},
        {"state": "aborted", "exit_code": 130, "sentence": "killed on request"},
    ],
)
def test_a_run_that_was_stopped_or_killed_says_whether_there_is_something_to_resume(over, checkpoints, words):
    assert explain(seen(backend="host", checkpoints=checkpoints, **over)).suggestion == words


def test_a_run_that_was_stopped_before_its_first_step_says_so():
    found = explain(seen("stopped", "host", exit_code=143, checkpoints=()))
    assert (found.sentence, found.suggestion) == ("big was stopped on request before its first step", NOTHING)
    resumed = explain(seen("stopped", "host", exit_code=143, checkpoints=("checkpoint-6",)))
    assert (resumed.sentence, resumed.suggestion) == ("big was stopped on request", FROM_6)


def test_a_failure_that_the_same_experiment_may_not_have_again_can_be_resumed():
    found = explain(seen("failed", "host", exit_code=1, sentence="ValueError: odd", checkpoints=("checkpoint-6",)))
    assert found.suggestion.endswith(f"; {FROM_6}")


def test_a_run_that_a_server_kept_from_starting_can_be_resumed():
    found = explain(seen("failed", "host", exit_code=48, sentence="the hub cannot be reached", checkpoints=("checkpoint-6",)))
    assert found.suggestion == (
        f"wait until the server answers; check DNS and proxy where it runs, or copy model and data there; {FROM_6}"
    )


@pytest.mark.parametrize("code", [42, 43, 45, 46])
def test_a_failure_that_the_same_experiment_has_again_is_not_resumed(code):
    found = explain(seen("failed", "host", exit_code=code, sentence="odd", checkpoints=("checkpoint-6",)))
    assert "launcher resume" not in found.suggestion


@pytest.mark.parametrize(
    ("checkpoints", "words"),
    [
        (None, "resumes from its newest checkpoint, if it has one"),
        ([], "starts from the beginning: it has no checkpoint"),
        (["checkpoint-3", "checkpoint-6"], "resumes from checkpoint-6"),
    ],
)
def test_a_run_that_is_resumed_says_how_it_begins(checkpoints, words):
    assert begins(checkpoints) == words
