"""The page as a person sees it, in a real browser: at three widths, in both themes, and what clicks do."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.report.page import index, write
from launcher.report.reported import Reported
from tests.browser import chromium
from tests.launcher.report.test_server import ROW
from tests.run_folders import Made, evaluate, finding

pytestmark = pytest.mark.browser

EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 2'>"
MAIN = ["loss", "accuracy", "margin", "rewards", "learning_rate", "grad_norm", "speed"]
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"

# Text that stands on other text: rectangles of the words, less what a scrolled box hides.
OVERLAPS = """
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, parent = node.parentElement;
  if (!node.data.trim() || parent.closest('script,style,noscript,.unseen') || !parent.checkVisibility()) continue;
  const box = parent.closest('.wide,pre')?.getBoundingClientRect(), range = document.createRange();
  range.selectNodeContents(node);
  for (const r of range.getClientRects()) {
    const right = box ? Math.min(r.right, box.right) : r.right;
    const text = node.data.trim().slice(0, 40);
    if (right - r.left > 1) found.push({ left: r.left, right, top: r.top + 3, bottom: r.bottom - 3, text, node });
  }
}
found.sort((a, b) => a.top - b.top);
const overlaps = [];
found.forEach((a, i) => {
  for (let j = i + 1; j < found.length && found[j].top < a.bottom; j += 1) {
    const b = found[j];
    if (a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2) overlaps.push(`${a.text} | ${b.text}`);
  }
});
return overlaps;
"""
# For each chart how many pixels have each run's colour.
PIXELS = """
const marks = [...document.querySelectorAll('.compared thead .mark')]
  .map((mark) => getComputedStyle(mark).backgroundColor.match(/\\d+/g).map(Number));
const pixels = (canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data;
};
const boxes = [...document.querySelectorAll('figure')].filter((box) => box.querySelector('canvas'));
return Object.fromEntries(boxes.map((box) => {
  const data = pixels(box.querySelector('canvas')), counts = marks.map(() => 0);
  for (let i = 0; i < data.length; i += 4) marks.forEach((mark, n) => {
    if (data[i + 3] > 200 && [0, 1, 2].every((c) => Math.abs(data[i + c] - mark[c]) < 12)) counts[n] += 1;
  });
  return [box.dataset.chart, counts];
}));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--disable-gpu", logs=True) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of them with 2,500 steps, that have all parts; their texts try to be HTML."""
    home = tmp_path_factory.mktemp("home")
    health = [finding("margin_flat", 900), finding("loss_spikes", 300), {**finding("loss_spikes", 310), "sentence": EVIL}]
    made = [
        Made("demo-20261128-083222-e7eb", steps=2500, seed=4, learned=True, record={"health": health}),
        Made("demo-20261128-091500-11aa", steps=1200, total=2500, data="f", settings={"learning_rate": 5e-4}, learned=True),
    ]
    runs = [one.write(home) for one in made]
    for run in runs:
        evaluate(run, text=f"Open the window for ten minutes. {EVIL} {'long' * 60}")
    write([Reported.of(run) for run in runs], home / "report.html")
    return home / "report.html"


def see(browser: Any, page: Path, width: int, *, dark: bool = False, height: int = 9000) -> None:
    """Opens the page in a window of this size and waits until its main charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    charts = "return [...document.querySelectorAll('#main figure')].filter((box) => !box.querySelector('.uplot')).length"
    if height > 1000:  # charts are drawn when they come near
        WebDriverWait(browser, 120).until(lambda driver: driver.execute_script(charts) == 0)


def wait_for(browser: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 120).until(lambda driver: driver.execute_script(script))


def picture(browser: Any, file: Path) -> None:
    """What a person looks at when a test has failed, or the page was changed."""
    file.write_bytes(base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))


def steps(browser: Any) -> tuple[int, int]:
    return tuple(int(browser.find_element("id", name).get_property("value")) for name in ("from", "to"))  # type: ignore[return-value]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_every_line_is_drawn_and_nothing_overlaps_or_overflows(
    browser: Any, page: Path, width: int, dark: bool, tmp_path: Path
) -> None:
    see(browser, page, width, dark=dark)
    picture(browser, tmp_path / "page.png")
    assert browser.execute_script(OVERFLOW) == 0
    assert browser.execute_script(OVERLAPS) == []
    drawn = browser.execute_script(PIXELS)
    assert set(drawn) == set(MAIN)
    assert {chart: min(counts) > 40 for chart, counts in drawn.items()} == dict.fromkeys(MAIN, True), drawn
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(14, 17, 22)" if dark else "rgb(251, 251, 250)")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.evil") is None


def test_a_click_on_a_run_takes_it_from_all_charts_and_brings_it_back(browser: Any, page: Path) -> None:
    see(browser, page, 1400)
    first, second = browser.find_elements("css selector", "#runs button")
    first.click()
    assert (first.get_attribute("aria-pressed"), second.get_attribute("aria-pressed")) == ("false", "true")
    drawn = browser.execute_script(PIXELS)
    assert {chart: (counts[0], counts[1] > 40) for chart, counts in drawn.items()} == dict.fromkeys(MAIN, (0, True)), drawn
    assert len(browser.find_elements("css selector", "figure[data-chart=rewards] .legend tbody tr")) == 2
    first.click()
    assert all(min(counts) > 40 for counts in browser.execute_script(PIXELS).values())
    assert len(browser.find_elements("css selector", "figure[data-chart=rewards] .legend tbody tr")) == 4


def test_a_drag_zooms_all_charts_and_a_double_click_shows_all_steps(browser: Any, page: Path) -> None:
    from selenium.webdriver import ActionChains

    see(browser, page, 1400, height=1200)
    assert steps(browser) == (0, 2500)
    plot = browser.find_element("css selector", "figure[data-chart=accuracy] .u-over")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    quarter = plot.size["width"] // 4
    drag = ActionChains(browser, duration=20).move_to_element_with_offset(plot, -quarter, 0).click_and_hold()
    drag.move_by_offset(quarter, 0).move_by_offset(quarter, 0).release().perform()
    low, high = steps(browser)
    assert (abs(low - 625) < 30, abs(high - 1875) < 30) == (True, True), (low, high)
    heads = browser.find_elements("css selector", "#main .legend thead th:first-child")
    assert {head.text.partition(" ")[0] for head in heads if head.text} == {"step"}  # one cursor in all charts
    ActionChains(browser).double_click(plot).perform()
    assert steps(browser) == (0, 2500)
    browser.execute_script("const to = document.getElementById('to'); to.value = 100; to.dispatchEvent(new Event('change'))")
    before = browser.execute_script(PIXELS)
    browser.find_element("id", "reset").click()
    assert steps(browser) == (0, 2500)
    assert browser.execute_script(PIXELS) != before


def fingers(browser: Any, kind: str, *places: tuple[float, float]) -> None:
    """``kind``: Start, Move or End; with the places of all fingers that are down."""
    points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})


def test_two_fingers_zoom_one_moves_and_a_double_tap_shows_all_steps(browser: Any, page: Path, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    try:
        see(browser, page, 390, height=844)
        plot = browser.find_element("css selector", "figure[data-chart=accuracy]")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
        wait_for(browser, "return document.querySelector('figure[data-chart=accuracy] .u-over') !== null")
        box = browser.execute_script(
            "const r = document.querySelector('figure[data-chart=accuracy] .u-over').getBoundingClientRect();"
            "return [r.left, r.width, r.top + r.height / 2]"
        )

        def at(*shares: float) -> list[tuple[float, float]]:
            return [(box[0] + share * box[1], box[2]) for share in shares]

        fingers(browser, "Start", *at(0.4, 0.6))
        for apart in (0.15, 0.2, 0.3, 0.4):
            fingers(browser, "Move", *at(0.5 - apart, 0.5 + apart))
        picture(browser, tmp_path / "pinched.png")
        fingers(browser, "End")
        assert near(steps(browser), (937, 1562)), steps(browser)
        assert browser.execute_script("return visualViewport.scale") == 1, "the browser has zoomed the page"

        fingers(browser, "Start", *at(0.8))
        for share in (0.7, 0.6, 0.5):
            fingers(browser, "Move", *at(share))
        fingers(browser, "End")
        assert near(steps(browser), (1125, 1750)), steps(browser)
        fingers(browser, "Start", *at(0.1))
        for share in (0.3, 0.6, 0.9, 0.99):
            fingers(browser, "Move", *at(share))
        fingers(browser, "End")
        assert near(steps(browser), (568, 1193)), steps(browser)

        before = browser.execute_script("return scrollY")
        fingers(browser, "Start", *at(0.5))
        for up in range(30, 300, 30):
            fingers(browser, "Move", (at(0.5)[0][0], box[2] - up))
        fingers(browser, "End")
        wait_for(browser, f"return scrollY > {before} + 100")
        assert near(steps(browser), (568, 1193)), steps(browser)

        browser.execute_script("scrollTo(0, arguments[0])", before)
        for _ in range(2):
            fingers(browser, "Start", *at(0.5))
            fingers(browser, "End")
        assert steps(browser) == (0, 2500)
        fingers(browser, "Start", *at(0.5))
        for share in (0.4, 0.3, 0.25):
            fingers(browser, "Move", *at(share))
        picture(browser, tmp_path / "read.png")
        head = browser.find_element("css selector", "figure[data-chart=accuracy] .legend thead th").text
        fingers(browser, "End")
        assert (steps(browser), head) == ((0, 2500), "step 625"), "one finger reads the values of a step"
        assert "Pinch a chart" in browser.find_element("id", "curves").text
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def near(found: tuple[int, int], expected: tuple[int, int]) -> bool:
    return all(abs(one - other) < 25 for one, other in zip(found, expected, strict=True))


def test_theme_smoothing_raw_and_more_figures_are_set_by_hand(browser: Any, page: Path) -> None:
    see(browser, page, 800)
    button = browser.find_element("id", "theme")
    seen = [button.text]
    for _ in range(3):
        button.click()
        seen.append(f"{button.text} {browser.execute_script('return getComputedStyle(document.body).backgroundColor')}")
    assert seen == [
        "Theme: auto",
        "Theme: light rgb(251, 251, 250)",
        "Theme: dark rgb(14, 17, 22)",
        "Theme: auto rgb(251, 251, 250)",
    ]
    value = "return document.querySelector('figure[data-chart=loss] .legend td').textContent"
    smooth = browser.execute_script(value)
    browser.execute_script("const s = document.getElementById('smoothing'); s.value = 0; s.dispatchEvent(new Event('input'))")
    assert browser.find_element("id", "smoothed").text == "0.00"
    assert browser.execute_script(value) != smooth
    with_raw = browser.execute_script(PIXELS)
    browser.find_element("id", "raw").click()
    assert browser.execute_script(PIXELS)["loss"] != with_raw["loss"]
    browser.find_element("css selector", "#more summary").click()
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 120).until(lambda driver: len(driver.execute_script(PIXELS)) == len(MAIN) + 2)
    assert browser.execute_script(OVERLAPS) == []
    assert browser.get_log("browser") == []


def test_paper_gets_every_chart_in_light_colours(browser: Any, page: Path) -> None:
    see(browser, page, 718, dark=True, height=900)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(min(counts) > 30 for counts in browser.execute_script(PIXELS).values())
    assert len(browser.execute_script(PIXELS)) == len(MAIN) + 2
    assert browser.execute_script(OVERFLOW) == 0
    assert browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1400])
def test_the_list_of_runs_fits(browser: Any, tmp_path: Path, width: int) -> None:
    (tmp_path / "index.html").write_text(index([ROW, {**ROW, "run": "a-long-name-of-a-run-20261128-083222-e7eb"}]))
    see(browser, tmp_path / "index.html", width, height=800)
    assert browser.execute_script(OVERFLOW) == 0
    assert browser.execute_script(OVERLAPS) == []
    assert browser.get_log("browser") == []


@pytest.fixture
def listed(browser: Any, tmp_path: Path) -> Any:
    rows = [
        {**ROW, "run": "first", "margin": 0.5, "found": "margin_flat"},
        {**ROW, "run": "second", "margin": None, "state": "failed"},
        {**ROW, "run": "third", "margin": 2.0, "experiment": "other"},
    ]
    (tmp_path / "index.html").write_text(index(rows))
    see(browser, tmp_path / "index.html", 1400, height=800)
    return browser


def names(browser: Any) -> list[str]:
    return [one.text for one in browser.find_elements("css selector", "td.run") if one.is_displayed()]


def test_typed_words_choose_rows_of_the_list(listed: Any) -> None:
    listed.find_element("id", "filter").send_keys("DONE flat")
    assert names(listed) == ["first"]
    assert listed.find_element("id", "shown").text == "1 of 3"


def test_a_click_on_a_column_sorts_the_list_and_a_run_without_a_value_stays_last(listed: Any) -> None:
    by = {one.text: one for one in listed.find_elements("css selector", ".sort")}
    by["margin"].click()
    assert names(listed) == ["third", "first", "second"]
    by["margin"].click()
    assert names(listed) == ["first", "third", "second"]
    by["experiment"].click()
    assert names(listed)[-1] == "third"


def test_two_selected_runs_can_be_compared_and_one_cannot(listed: Any) -> None:
    button, boxes = listed.find_element("id", "compare"), listed.find_elements("css selector", "input[type=checkbox]")
    boxes[0].click()
    assert not button.is_enabled()
    boxes[2].click()
    assert button.is_enabled()
