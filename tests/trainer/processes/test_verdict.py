"""How an attempt ended, by what torchrun left."""

import pytest

from trainer.processes.children import Children
from trainer.processes.kills import Kills
from trainer.processes.verdict import Ending, judge


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "torch.distributed.DistStoreError: Timed out after 1801 seconds waiting for clients. 1/2 clients joined.",
            "only 1 of 2 nodes joined within 1801 s: see the logs of the others",
        ),
        (
            "DistNetworkError: The client socket has timed out after 1800000ms while trying to connect to (one-0.one, 29500).",
            "cannot connect to the first node at one-0.one:29500: see its log",
        ),
    ],
)
def test_nodes_that_do_not_meet_say_who_is_missing(words, sentence):
    assert judge([], 1, 1, Children(120), words, Kills.now()) == Ending("failed", 1, sentence, is_consequence=True)


def test_a_torchrun_that_was_killed_is_not_called_a_rank():
    found = judge([], 1, -9, Children(120), "", Kills.now())
    assert found.sentence.startswith("torchrun was killed (SIGKILL)")
