"""The output of a notebook's cell: what matters of a run, harmless with any text, readable in light and dark and on a phone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from launcher.report.reported import Reported
from launcher.report.summary import summary
from launcher.runs.run_dir import RunDir
from tests.browser import chromium
from tests.run_folders import Made, evaluate, finding

EVIL = "</style></details><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} & \u2028"


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside the styles."""

    def __init__(self, part: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._is_style = "", False
        self.feed(part)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._is_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._is_style = False
        self.text += " "

    def handle_data(self, data: str) -> None:
        if not self._is_style:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def whole(tmp_path: Path, text: str = "Open the window.") -> RunDir:
    """A run with all that a summary shows."""
    run = Made("first", steps=300, learned=True, record={"health": [finding()]}).write(tmp_path)
    evaluate(run, text=text)
    run.report.write_text("")
    return run


def test_it_has_settings_figures_with_intervals_findings_answers_and_the_places(tmp_path: Path) -> None:
    run = whole(tmp_path)
    words = Elements(summary(Reported.of(run), tmp_path)).words
    place = "data/dpo/model/exp_demo/qwen3-tiny/runs/first"
    for part in (
        "first done, 300 of 300 steps",
        "model data/demo/qwen3-tiny method DPO, sigmoid loss, beta 0.1 trained LoRA adapter, rank 16, alpha 16",
        "learning rate 0.002, linear",
        "steps 300 of 16 pairs rows 420 train, 420 validation device CPU, 1 process",
        "On validation pairs, which were not trained on: after 95 % interval loss 0.1314 entropy 5.880",
        "accuracy 0.89 0.84 to 0.94",
        "Line: training batches; dots: validation.",
        f"2 of 420 training pairs look mislabelled: see {place}/evaluation/suspects.jsonl",
        "margin_flat : the margin is flat since step 20 (step 20–30). What to do: raise learning_rate.",
        "Answers before and after Prompt 2: Open the window. before It depends. Open the window. after 40: Open the window.",
        f"adapter {place}/adapter report {place}/report.html",
    ):
        assert part in words, part


def test_the_report_is_linked_where_the_notebook_s_server_can_reach_it(tmp_path: Path) -> None:
    home = tmp_path / "my runs"
    run = whole(home)
    (link,) = [attrs["href"] for tag, attrs in Elements(summary(Reported.of(run), tmp_path)).found if tag == "a"]
    assert link == "my%20runs/data/dpo/model/exp_demo/qwen3-tiny/runs/first/report.html"
    elsewhere = Elements(summary(Reported.of(run), tmp_path / "other"))
    assert "a" not in [tag for tag, _ in elsewhere.found]
    assert f"report {run.report}" in elsewhere.words
    run.report.unlink()
    assert "report.html" not in summary(Reported.of(run), tmp_path)


def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    found = Elements(summary(Reported.of(whole(tmp_path)), tmp_path)).found
    lines = [str(attrs["points"]).split() for tag, attrs in found if tag == "polyline"]
    assert [len(line) for line in lines] == [100, 100, 100], "of 300 steps: three a point"
    first, last = (tuple(map(float, point.split(","))) for point in (lines[0][0], lines[0][-1]))
    assert first[0] < 6, "from the left end"
    assert last[0] == 237, "to the right one"
    assert first[1] < 12 < 50 < last[1], "the loss falls, from the top to the bottom"
    assert [tag for tag, _ in found].count("circle") == 3 * 11, "each evaluation is a dot"


def test_texts_of_data_answers_and_records_are_text(tmp_path: Path) -> None:
    health = [{**finding(), "rule": EVIL, "sentence": EVIL, "suggestion": EVIL}]
    run = Made("r", learned=True, record={"health": health, "model_name": EVIL}).write(tmp_path)
    evaluate(run, text=EVIL + "\ud800")
    part = summary(Reported.of(run), tmp_path)
    assert part.encode()
    elements = Elements(part)
    assert not {"script", "img"} & {tag for tag, _ in elements.found}
    assert [tag for tag, _ in elements.found].count("style") == 1
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]
    assert elements.text.count("<script>alert(1)</script>") >= 6
    assert "{{ 7 * 7 }}" in elements.text


def test_styles_are_those_of_the_summary_alone_and_nothing_is_loaded(tmp_path: Path) -> None:
    part = summary(Reported.of(whole(tmp_path)), tmp_path)
    (styles,) = re.findall(r"<style>(.*?)</style>", part, re.DOTALL)
    selectors = [one.strip() for rule in re.findall(r"([^{}]+)\{", styles) for one in rule.split(",")]
    assert selectors
    assert [one for one in selectors if not one.startswith(".dpo-summary")] == []
    assert "url(" not in part
    assert "src=" not in part


def test_what_a_run_lacks_is_left_out(tmp_path: Path) -> None:
    made = Made("r", steps=1, validation=False, record={"data": None, "hardware": None, "work": {"pairs": 12}, "experiment": {}})
    run = made.write(tmp_path)
    words = Elements(summary(Reported.of(run), tmp_path)).words
    assert "Health findings were not recorded." in words
    assert "rows 12 train" in words
    for absent in ("None", "Line: training", "device", "learning rate", "Answers"):
        assert absent not in words, absent
    healthy = Made("h", record={"health": []}).write(tmp_path)
    assert "No health findings." in summary(Reported.of(healthy), tmp_path)


@pytest.mark.browser
def test_it_takes_the_colours_of_its_page_and_fits_a_phone(tmp_path: Path) -> None:
    part = summary(Reported.of(whole(tmp_path)), tmp_path)
    page = tmp_path / "page.html"
    with chromium() as browser:
        for back, fore in (("rgb(255, 255, 255)", "rgb(17, 17, 17)"), ("rgb(17, 17, 17)", "rgb(238, 238, 238)")):
            body = f"<body style='background: {back}; color: {fore}'><p id=other>of the page</p>{part}"
            page.write_text(f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>{body}")
            for width in (360, 900):
                browser.set_window_size(width, 900)
                browser.get(page.as_uri())
                browser.execute_script("document.querySelector('details').open = true")
                wide = browser.execute_script(
                    "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert wide <= 0, f"nothing is cut off at {width}"
            colour = "return getComputedStyle(document.querySelector('{}')).color"
            for place in (".dpo-title", ".dpo-figures td", ".dpo-warning", ".dpo-curve"):
                assert browser.execute_script(colour.format(place)) == fore, place
            assert browser.execute_script(colour.format("#other")) == fore
