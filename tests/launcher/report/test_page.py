"""The page: whole without a network, harmless with any text, and honest about what is missing."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import launcher.report
from launcher.data.pairs import Pairs
from launcher.data.survey import survey
from launcher.data.text.pair import Pair
from launcher.report.page import index, render, write_own
from launcher.report.reported import Reported
from launcher.runs.run_dir import RunDir
from tests.run_folders import Made, evaluate, finding

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} <!-- ' \" &amp; \u2028"
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the visible text."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.text += " "
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page_of(*runs: RunDir) -> str:
    return render([Reported.of(run) for run in runs])


def points(page: str) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="points">(.*?)</script>', page, re.DOTALL)
    return dict(json.loads(text))


def test_what_is_vendored_is_what_npm_has():
    folder = Path(launcher.report.__file__).parent / "web" / "uplot"
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in UPLOT} == UPLOT


def test_nothing_is_loaded_from_anywhere(tmp_path: Path):
    found = Elements(page_of(Made("r").write(tmp_path))).found
    loaded = [(tag, attrs) for tag, attrs in found if attrs.get("src") or (tag == "link" and attrs["href"] != "data:,")]
    assert loaded == []
    policy = next(attrs["content"] for tag, attrs in found if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_texts_of_data_and_samples_are_text(tmp_path: Path):
    health = [{**finding(), "rule": EVIL, "sentence": EVIL, "suggestion": EVIL}]
    data = [{"role": "train", "name": EVIL, "sha256": EVIL, "rows": 3}]
    record = {"health": health, "data": data, "topic": EVIL, "key": EVIL, "packages": {"x": EVIL}}
    run = Made("r", learned=True, record=record).write(tmp_path)
    evaluate(run, text=EVIL + "\ud800")
    harmless = page_of(Made("h").write(tmp_path))
    page = page_of(run)
    assert page.encode()
    elements = Elements(page)
    assert [tag for tag, _ in elements.found if tag in ("script", "img")] == ["script"] * 6
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]
    assert elements.text.count("<script>alert(1)</script>") >= 10
    assert "{{ 7 * 7 }}" in elements.text
    assert set(points(harmless)) == set(points(page))


def test_a_name_in_the_points_cannot_end_the_script(tmp_path: Path):
    run = Made("r").write(tmp_path)
    run.steps.write_text("".join(json.dumps({"type": "train", "step": n, "</script><b>&": float(n)}) + "\n" for n in (1, 2)))
    page = page_of(run)
    assert points(page)["charts"][0]["title"] == "</script><b>&"  # type: ignore[index]
    assert "</script><b>&" not in page


def test_one_run_shows_its_parts(tmp_path: Path):
    run = Made("r", learned=True, record={"health": [finding()], "topic": "concrete answers"}).write(tmp_path)
    evaluate(run, suspects=25)
    words = Elements(page_of(run)).words
    for part in (
        "done, step 40/40 · experiment demo (concrete answers)",
        "accuracy 0.893 [0.843, 0.943]",
        "1 margin_flat the margin is flat since step 20 (step 20–30) What to do: raise learning_rate",
        "On 84 validation pairs, which were not trained on, with 95 % intervals:",
        "20–40 tokens 42 0.893 [0.843, 0.943]",
        "before It depends. Open the window. after 40: Open the window.",
        "topic: travel 21 ",
        "25 of 420 training pairs look mislabelled: see",
        "The 20 most likely ones of 25.",
        "tokens per epoch: 81,857",
        "The chosen answer is the longer one in 40 % of 10 pairs.",
        "From its record, with a comparison of the losses: launcher again r Without the record:",
        "launcher run demo -f r.yml --backend host",
    ):
        assert part in words


def test_columns_group_the_validation_pairs_where_a_group_has_more_than_one_of_them(tmp_path: Path):
    run = Made("r", learned=True).write(tmp_path)
    evaluate(run, columns={"serial": 84, "author": 1, "rating": 50, "tone": 2})
    words = Elements(page_of(run)).words
    assert ("tone: 0 42 " in words, "topic: travel 21 " in words) == (True, True)
    assert [part for part in ("serial: ", "author: ", "rating: ") if part in words] == []
    lines = run.evaluation / "pairs.jsonl"
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:3]))
    assert "topic: " not in Elements(page_of(run)).words


def test_pairs_of_one_length_have_no_range(tmp_path: Path):
    run = Made("r", learned=True).write(tmp_path)
    result = run.read_record()["result"]
    parts = [{**part, "from": 40} for part in result["learned"]["by_length"]]
    run.update_record(result={**result, "learned": {**result["learned"], "by_length": parts}})
    assert "40 tokens 42 " in Elements(page_of(run)).words
    assert "40–40" not in page_of(run)


def test_a_part_that_is_missing_is_one_sentence(tmp_path: Path):
    run = Made("r", validation=False, record={"data": None, "packages": None}).write(tmp_path)
    run.steps.unlink()
    words = Elements(page_of(run)).words
    for sentence in (
        "No training step was logged: nothing to draw.",
        "Health findings were not recorded.",
        "The run has no metrics from before and after training.",
        "No answers were sampled.",
        "Training pairs were not scored.",
        "The run has not read its data.",
    ):
        assert sentence in words


def test_where_no_pair_stands_out_the_lowest_margins_are_there_to_be_read(tmp_path: Path):
    run = Made("r", learned=True).write(tmp_path)
    evaluate(run, suspects=0)
    words = Elements(page_of(run)).words
    assert "No training pair looks mislabelled. The 5 pairs with the lowest margins row margin" in words


def test_a_run_without_intervals_shows_the_figures_of_its_log(tmp_path: Path):
    training = {"first": {"steps": [1, 4], "loss": 0.69}, "last": {"steps": [37, 40], "loss": 0.2}}
    words = Elements(page_of(Made("r", validation=False, record={"result": {"training": training}}).write(tmp_path))).words
    assert (
        "On the training pairs of these steps; no validation pairs were evaluated: steps 1-4 steps 37-40 loss 0.6900 0.2000"
        in words
    )


def test_a_run_that_was_stopped_says_which_step_its_validation_figures_are_of(tmp_path: Path):
    record = {"result": None, "outcome": {"state": "stopped", "exit_code": 143, "sentence": "stopped at step 12 of 40"}}
    words = Elements(page_of(Made("r", steps=12, total=40, record=record).write(tmp_path))).words
    assert "r is stopped (143) at step 12/40; its validation metrics are of step 12" in words
    assert "95 % intervals" not in words


def test_several_runs_begin_with_their_differences_and_say_what_is_equal_once(tmp_path: Path):
    runs = [Made(name, settings={"beta": beta}).write(tmp_path) for name, beta in (("a", 0.1), ("b", 0.2), ("c", 0.2))]
    for run in runs[:2]:
        evaluate(run)
    words = Elements(page_of(*runs)).words
    assert words.index("beta 0.1 0.2 0.2") < words.index("Smoothing")
    assert "beta differs: rewards and margins are multiples of beta; compare accuracies" in words
    assert words.count("configs/demo/train.csv") == 1
    assert "Data The same for all runs" in words
    assert "Health findings were not recorded. (a, b, c)" in words
    assert "before It depends. Open the window. a 40: Open the window. b 40: Open the window." in words


@pytest.mark.parametrize("name", ["validation", "beta"])
def test_the_best_run_is_not_marked_where_figures_are_not_comparable(name: str, tmp_path: Path):
    other = Made("b", seed=3, data="f") if name == "validation" else Made("b", seed=3, settings={"beta": 0.2})
    page = page_of(Made("a").write(tmp_path), other.write(tmp_path))
    best = re.findall(r'<td class="best">([^<]*)</td>', page)
    assert best == (["0.3400"] if name == "validation" else ["1.000", "0.0564", "0.3400"])


def test_a_run_writes_its_page_and_a_failure_is_a_sentence(tmp_path: Path):
    run = Made("r").write(tmp_path)
    assert write_own(run) is None
    assert (run.report).read_text().startswith("<!doctype html>")
    (run.report).unlink()
    (run.report).mkdir()
    assert write_own(run) == f"cannot write {run.report}: is a directory; write it with: launcher report r"
    run.record.write_text("no json")
    sentence = write_own(run)
    assert sentence is not None
    assert sentence.startswith(f"cannot write {run.report}: LauncherError: ")


def test_the_list_of_runs_links_to_their_pages():
    row = {
        "run": "a b",
        "experiment": EVIL,
        "state": "failed",
        "exit_code": 45,
        "progress": "3/40",
        "accuracy": 0.75,
        "margin": 0.5,
        "figures": "training",
        "created": "2026-11-28T08:00:00.000+00:00",
        "took": "3 s",
        "step": 3,
        "trained_seconds": 3.0,
        "found": "margin_flat +1",
    }
    elements = Elements(index([row]))
    assert ("a", {"href": "/runs/a%20b"}) in elements.found
    assert "failed (45) 0.750 (train) +0.500 margin_flat +1 3/40 2026-11-28 08:00 3 s" in elements.words
    assert [tag for tag, _ in elements.found if tag == "img"] == []
    assert "No runs yet" in Elements(index([])).words


def test_a_run_shows_the_survey_of_its_pairs(tmp_path: Path):
    run = Made("r").write(tmp_path)
    train = tuple(Pair(None, f"Question {n}?", f"Answer {n}.", "No", n) for n in range(2, 32))
    (run.data / "report.json").write_text(json.dumps({"notices": [], "survey": survey(Pairs(train, (), (), ())).json()}))
    page = page_of(run)
    words = Elements(page).words
    assert "characters median 95 % longest prompt 12 12 12" in words
    assert "a full stop at the end 100 % 0 %" in words
    assert "Median answer" not in words
    (bars,) = re.findall(r'<script type="application/json" id="histograms">(.*?)</script>', page, re.DOTALL)
    places = {one["place"] for one in json.loads(bars)}
    assert all(f'id="{place}"' in page for place in places)


def test_runs_of_one_survey_share_its_histograms_and_a_broken_survey_is_none(tmp_path: Path):
    runs = [Made(name).write(tmp_path) for name in ("one", "two", "three")]
    train = tuple(Pair(None, f"Question {n}?", f"Answer {n}.", "No", n) for n in range(2, 32))
    for run in runs[:2]:
        (run.data / "report.json").write_text(json.dumps({"survey": survey(Pairs(train, (), (), ())).json()}))
    (runs[2].data / "report.json").write_text('{"survey": {"lengths": [7]}}')
    page = page_of(*runs)
    assert [one["place"] for one in json.loads(page.partition('id="histograms">')[2].partition("</script>")[0])] == ["bars-0"] * 4
