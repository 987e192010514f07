"""The pass over the reference, with a scorer that is a pure function of the ids; and once with a model, against TRL."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import HealthError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.waiting import wait_for
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.reference.reference import Reference, answer_keys, reference_logps
from trainer.reference.shards import Shards

REPOSITORY = Path(__file__).parents[3]


class Scorer:
    """Log-probabilities that are a pure function of the ids, and a list of the pairs that were asked for."""

    def __init__(self) -> None:
        self.calls: list[list[TokenPair]] = []

    @property
    def scored(self) -> int:
        return sum(map(len, self.calls))

    def __call__(self, pairs: Sequence[TokenPair]) -> torch.Tensor:
        self.calls.append(list(pairs))
        return direct(pairs)


def direct(pairs: Sequence[TokenPair]) -> torch.Tensor:
    def logp(prompt: list[int], answer: list[int]) -> float:
        return -sum((place + 1) * (i + 1) for place, i in enumerate([*prompt, -5, *answer])) / 7

    return torch.tensor([[logp(p.prompt, p.chosen), logp(p.prompt, p.rejected)] for p in pairs], dtype=torch.float64).view(-1, 2)


def look_up(pairs: TokenPairs, score: Any, cache: Path, **options: Any) -> Reference:
    settings: dict[str, Any] = {
        "key": "k",
        "budget": 40,
        "source": "pairs.csv",
        "rank": 0,
        "world": 1,
        "gather": lambda value: [value],
        "say": lambda line: None,
    }
    return reference_logps(pairs, score=score, cache=cache, **{**settings, **options})


def some_pairs(count: int) -> TokenPairs:
    return TokenPairs.of(TokenPair([1] * (n % 5 + 1), [n, 2, 3], [n, 4] * (n % 3 + 1), line=n + 2) for n in range(count))


ids = st.lists(st.integers(0, 3), min_size=1, max_size=4)
pairs_of_ids = st.lists(st.builds(TokenPair, ids, ids, ids, st.integers(2, 99)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(first=pairs_of_ids, second=pairs_of_ids, budget=st.integers(1, 60))
def test_any_rows_in_any_order_have_the_numbers_of_direct_scoring(
    tmp_path_factory: pytest.TempPathFactory, first: list[TokenPair], second: list[TokenPair], budget: int
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    seen: set[bytes] = set()
    for pairs in map(TokenPairs.of, (first, second, second[::-1] + first[::2])):
        score = Scorer()
        found = look_up(pairs, score, cache, budget=budget)
        assert torch.equal(found.logps, direct(pairs))
        unseen = 0
        keys = answer_keys(pairs)
        for both in zip(keys[::2], keys[1::2], strict=True):
            unseen += not seen.issuperset(both)
            seen.update(both)
        assert score.scored == found.misses == unseen
        assert found.hits == len(pairs) - unseen


def test_only_new_rows_are_computed_and_the_line_says_how_many(tmp_path: Path) -> None:
    said: list[str] = []
    look_up(some_pairs(400), Scorer(), tmp_path, say=said.append)
    score = Scorer()
    found = look_up(some_pairs(420)[::-1], score, tmp_path, say=said.append)
    assert (found.hits, found.misses, score.scored) == (400, 20, 20)
    assert said[0].startswith("reference: 0 of 400 pairs from the cache, 400 computed (")
    assert said[1].startswith("reference: 400 of 420 pairs from the cache, 20 computed (")
    assert len(said) == 2


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    look_up(some_pairs(5), Scorer(), tmp_path)
    assert look_up(some_pairs(5), Scorer(), tmp_path, key="other").misses == 5


def test_an_id_that_moves_from_the_prompt_to_the_answer_is_another_answer() -> None:
    keys = answer_keys(TokenPairs.of([TokenPair([1, 2], [3], [4], 2), TokenPair([1], [2, 3], [2, 4], 3)]))
    assert len(set(keys)) == 4
    # A store outlives a version of this project: it keeps the keys of the first one.
    assert keys[0].hex() == "da72f95aa502d5fd17aaa9ed8898384c02a1ceabe69fdc069832b625bf7e26bc"


def test_a_change_of_length_misses_only_where_it_changed_ids(tmp_path: Path) -> None:
    long = [TokenPair([1, 2], list(range(n)), [9] * 3, n) for n in range(1, 11)]
    look_up(TokenPairs.of(long), Scorer(), tmp_path)
    cut = [TokenPair(p.prompt, p.chosen[:6], p.rejected, p.line) for p in long]
    score = Scorer()
    found = look_up(TokenPairs.of(cut), score, tmp_path)
    # Lengths 7 to 10 are cut to range(6), which is the answer of length 6.
    assert (found.misses, found.hits) == (0, 10)
    shorter = [TokenPair(p.prompt, p.chosen[1:6], p.rejected, p.line) for p in long]
    assert look_up(TokenPairs.of(shorter), Scorer(), tmp_path).misses == 6, "five lengths and the empty answer"


def test_slices_hold_the_budget_and_the_longest_pairs_come_first(tmp_path: Path) -> None:
    score = Scorer()
    look_up(some_pairs(50), score, tmp_path, budget=40)

    def size(pair: TokenPair) -> int:
        return len(pair.prompt) + len(pair.chosen) + len(pair.rejected)

    sizes = [size(pair) for call in score.calls for pair in call]
    assert sizes == sorted(sizes, reverse=True)
    assert all(sum(map(size, call)) <= 40 for call in score.calls)
    assert len(score.calls) <= 1.4 * sum(sizes) / 40


@pytest.mark.parametrize(("count", "budget"), [(1, 40), (7, 40), (101, 40), (101, 10_000), (30, 1)])
def test_ranks_share_the_work_make_equally_many_calls_and_end_with_the_same_bits(tmp_path: Path, count: int, budget: int) -> None:
    pairs = some_pairs(count)
    scorers, results = _ranks(4, pairs, [tmp_path / "shared"] * 4, budget=budget)
    assert all(torch.equal(result.logps, direct(pairs)) for result in results)
    assert len({len(scorer.calls) for scorer in scorers}) == 1
    if count == 101:
        tokens = [sum(len(p.prompt + p.chosen + p.rejected) for c in s.calls for p in c) for s in scorers]
        assert max(tokens) <= 1.3 * sum(tokens) / 4
    again, _ = _ranks(4, pairs, [tmp_path / "shared"] * 4, budget=budget)
    assert [scorer.scored for scorer in again] == [0] * 4


def test_what_another_run_stores_meanwhile_is_taken_over_and_not_computed_twice(tmp_path: Path) -> None:
    pairs, lines, mine = some_pairs(50), list[str](), Scorer()
    alone = Scorer()
    look_up(pairs, alone, tmp_path / "alone")
    half = len(alone.calls) // 2
    middle = {answer for call in alone.calls[half:] for pair in call for answer in answer_keys(TokenPairs.of([pair]))}

    def score(part: Sequence[TokenPair]) -> torch.Tensor:
        if not mine.calls:  # a point of the same sweep has done these
            there = zip(answer_keys(pairs), direct(pairs).flatten().tolist(), strict=True)
            Shards(tmp_path / "cache" / "reference" / "v1" / "k", lines.append).add({k: n for k, n in there if k in middle})
        return mine(part)

    found = look_up(pairs, score, tmp_path / "cache", every=0, say=lines.append)
    assert torch.equal(found.logps, direct(pairs))
    computed = sum(map(len, alone.calls[:half]))
    assert (mine.scored, found.misses) == (computed, computed)
    assert computed < 50
    assert lines[-1].startswith(
        f"reference: 0 of 50 pairs from the cache, {computed} computed, {50 - computed} by another run at the same time ("
    )


def test_runs_that_started_together_continue_in_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    for place in (0, 3):
        monkeypatch.setattr("trainer.reference.reference._somewhere", lambda count, place=place: place)
        score = Scorer()
        look_up(some_pairs(30), score, tmp_path / str(place), every=0)
        orders.append([call[0].line for call in score.calls])
    (first, *rest), other = orders
    assert other == [first, *rest[-3:], *rest[:-3]], "the longest pair comes first; each slice is computed once"


def test_machines_with_a_cache_of_their_own_end_with_the_same_numbers(tmp_path: Path) -> None:
    pairs = some_pairs(20)
    caches = [tmp_path / "first", tmp_path / "second"]
    _, results = _ranks(2, pairs, caches, budget=40)
    assert all(torch.equal(result.logps, direct(pairs)) for result in results)
    again, _ = _ranks(2, pairs, caches, budget=40)
    assert [scorer.scored for scorer in again] == [0, 0]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_names_its_line_and_is_never_stored(tmp_path: Path, number: float) -> None:
    pairs = some_pairs(6)

    def broken(asked: Sequence[TokenPair]) -> torch.Tensor:
        numbers = direct(asked)
        for row, pair in enumerate(asked):
            if pair.line == 4:
                numbers[row, 1] = number
        return numbers

    with pytest.raises(HealthError) as caught:
        look_up(pairs, broken, tmp_path, budget=1000)
    assert str(caught.value) == (
        "pairs.csv:4: the base model's log-probability is not finite; "
        "the weights are damaged, or the precision is too low for them"
    )
    score = Scorer()
    assert torch.equal(look_up(pairs, score, tmp_path).logps, direct(pairs))
    assert [pair.line for call in score.calls for pair in call] == [4], "the others' numbers were kept"


def test_a_pass_that_is_broken_off_keeps_what_it_computed(tmp_path: Path) -> None:
    pairs = some_pairs(30)
    score = Scorer()

    def stopped(asked: Sequence[TokenPair]) -> torch.Tensor:
        if len(score.calls) == 3:
            raise KeyboardInterrupt
        return score(asked)

    with pytest.raises(KeyboardInterrupt):
        look_up(pairs, stopped, tmp_path)
    rest = Scorer()
    look_up(pairs, rest, tmp_path)
    assert score.scored + rest.scored == 30


def test_a_cache_that_cannot_be_written_costs_the_entries_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "reference").write_text("in the way")
    said: list[str] = []
    pairs = some_pairs(5)
    assert torch.equal(look_up(pairs, Scorer(), tmp_path, say=said.append).logps, direct(pairs))
    assert "cannot write the reference cache" in said[0]
    assert "0 of 5 pairs from the cache, 5 computed" in said[1]


PROCESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.trainer.reference.test_reference import direct, look_up, some_pairs

def score(pairs):
    with open({log!r}, "a+") as log:
        log.writelines(f"{{pair.line}}\\n" for pair in pairs)
        log.seek(0)
        far = len(log.readlines())
    time.sleep({pause} if far < {hold} else 600)
    return direct(pairs)

pairs = some_pairs({count})
while not Path({start!r}).exists():
    time.sleep(0.001)
found = look_up(pairs, score, Path({cache!r}), every={every})
print((found.logps == direct(pairs)).all().item(), found.misses)
"""


def test_a_killed_pass_goes_on_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = _process(tmp_path, log, pause=0.05, every=0.0, hold=200)
    (tmp_path / "start").touch()
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 40)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    scored = log.read_text().splitlines()
    last = len(scored) - 20  # what was under way when it was killed, at the most
    rest = Scorer()
    pairs = some_pairs(400)
    assert torch.equal(look_up(pairs, rest, tmp_path / "cache").logps, direct(pairs))
    assert 0 < 400 - len(scored) <= rest.scored <= 400 - last


def test_two_processes_at_once_on_one_store_lose_nothing(tmp_path: Path) -> None:
    processes = [_process(tmp_path, tmp_path / f"log-{n}", pause=0.001, every=0.0) for n in range(2)]
    time.sleep(0.1)
    (tmp_path / "start").touch()
    assert [process.communicate(timeout=600)[0].split()[0] for process in processes] == ["True", "True"]
    score = Scorer()
    pairs = some_pairs(400)
    assert torch.equal(look_up(pairs, score, tmp_path / "cache").logps, direct(pairs))
    assert score.scored == 0
    assert list((tmp_path / "cache").rglob("*.part")) == []


@pytest.mark.slow
def test_the_numbers_are_those_of_trl_for_the_models_own_reference(
    tmp_path: Path, make_experiment: Callable[..., Experiment], new_run: Callable[[Path, Experiment, str], RunDir]
) -> None:
    from launcher.data.pairs import read_pairs
    from launcher.data.tables.reading import Reading
    from trainer.inputs.arguments import arguments
    from trainer.inputs.models.adapter import lora_config
    from trainer.inputs.models.model import choose_precision, load_model, load_tokenizer
    from trainer.inputs.tokens.tokens import tokenize
    from trainer.processes.ranks.machine import Device
    from trainer.step.dpo import DPOTrainer

    experiment = make_experiment()
    hyper = experiment.hyperparameters
    tokenizer = load_tokenizer(experiment, experiment.model_name)
    tokens = tokenize(read_pairs(experiment, Reading(tmp_path)).train, tokenizer, hyper, source="train", cache=tmp_path)
    pairs = tokens.pairs[:12]
    precision = choose_precision(hyper, cuda=False, bf16=False)
    trainer = DPOTrainer(
        model=load_model(experiment, experiment.model_name, precision, cuda=False),
        args=arguments(experiment, new_run(tmp_path, experiment, "r"), precision, Device(False, False, rank=0, world=1)),
        train_dataset=tokens.dataset(),
        processing_class=tokenizer,
        peft_config=lora_config(hyper),
    )
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(12)])
    theirs = torch.stack(trainer.compute_ref_log_probs(trainer.model, batch), dim=1)
    base = load_model(experiment, experiment.model_name, precision, cuda=False)

    def score(asked: Sequence[TokenPair]) -> torch.Tensor:
        return torch.tensor([[_logp(base, p.prompt, p.chosen), _logp(base, p.prompt, p.rejected)] for p in asked])

    for _ in range(2):  # computed, and read
        ours = look_up(pairs, score, tmp_path, budget=2000).logps
        torch.testing.assert_close(ours, theirs.double(), rtol=1e-4, atol=0)
    assert look_up(pairs[::-1], score, tmp_path).misses == 0


def _logp(model: Any, prompt: list[int], answer: list[int]) -> float:
    """One sequence alone, without padding or packing."""
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        logps = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=-1)
    return float(logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())


def _ranks(world: int, pairs: TokenPairs, caches: list[Path], *, budget: int) -> tuple[list[Scorer], list[Reference]]:
    """The ranks of one run as threads that meet as processes would: each sees a copy of what the others gave."""
    barrier = threading.Barrier(world, timeout=60)
    given: list[bytes] = [b""] * world
    scorers = [Scorer() for _ in range(world)]
    results: dict[int, Reference] = {}

    def run(rank: int) -> None:
        def gather(value: Any) -> list[Any]:
            given[rank] = pickle.dumps(value)
            barrier.wait()
            everything = [pickle.loads(data) for data in given]
            barrier.wait()
            return everything

        results[rank] = look_up(
            pairs, scorers[rank], caches[rank], budget=budget, rank=rank, world=world, gather=gather, every=0.0
        )

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return scorers, [results[rank] for rank in range(world)]


def _process(root: Path, log: Path, *, pause: float, every: float, hold: int = 1000) -> subprocess.Popen[str]:
    """``hold``: the number of pairs after which it stands still until it is killed."""
    code = PROCESS.format(
        repository=str(REPOSITORY),
        log=str(log),
        pause=pause,
        hold=hold,
        every=every,
        count=400,
        start=str(root / "start"),
        cache=str(root / "cache"),
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
