"""The page of the data as a person sees it, in a real browser: at three widths, in both themes, and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.report.data_page import write
from tests.browser import chromium
from tests.launcher.report.test_data_page import page
from tests.launcher.report.test_page import EVIL
from tests.launcher.report.test_page_in_browser import OVERFLOW, OVERLAPS, picture, see

pytestmark = pytest.mark.browser

TITLES = ["Prompt", "Chosen answer", "Rejected answer", "Chosen less rejected"]
# For each histogram how many pixels have the colour of its bars.
BARS = """
const own = arguments[0];
return Object.fromEntries([...document.querySelectorAll('figure')].map((box) => {
  const canvas = box.querySelector('canvas'), copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4) if (own.every((value, c) => Math.abs(data[i + c] - value) < 12)) count += 1;
  return [box.dataset.bars, count];
}));
"""
LIGHT, DARK = [11, 98, 196], [108, 178, 255]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--disable-gpu", logs=True) as driver:
        yield driver


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose texts try to be HTML, and one of them has no blank to break at."""
    file = tmp_path_factory.mktemp("page") / "data.html"
    write(page(f"{EVIL} {'long' * 60}"), file)
    return file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_every_histogram_is_drawn_and_nothing_overlaps_or_overflows(
    browser: Any, file: Path, width: int, dark: bool, tmp_path: Path
) -> None:
    see(browser, file, width, dark=dark)
    picture(browser, tmp_path / "page.png")
    assert browser.execute_script(OVERFLOW) == 0
    assert browser.execute_script(OVERLAPS) == []
    drawn = browser.execute_script(BARS, DARK if dark else LIGHT)
    assert {title: count > 400 for title, count in drawn.items()} == dict.fromkeys(TITLES, True), drawn
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.evil") is None


def test_the_pointer_shows_the_range_and_the_number_of_a_bar(browser: Any, file: Path) -> None:
    from selenium.webdriver import ActionChains

    see(browser, file, 1400, height=1500)
    box = browser.find_element("css selector", "figure[data-bars='Prompt']")
    plot = box.find_element("css selector", ".u-over")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    assert box.find_element("css selector", "figcaption span").text == "characters; median 12, longest 12"
    ActionChains(browser).move_to_element_with_offset(plot, plot.size["width"] // 2 - 4, 20).perform()
    assert box.find_element("css selector", "figcaption span").text == "12 characters: 52 pairs"


def test_the_borders_of_tokens_and_the_cut_are_seen(browser: Any, file: Path) -> None:
    see(browser, file, 800)
    color = (
        "return [...document.querySelectorAll('.tokens span')].slice(2, 4).map((one) => getComputedStyle(one).backgroundColor)"
    )
    first, second = browser.execute_script(color)
    assert first != second
    assert browser.find_element("css selector", ".here").text == "cut here, at 96 tokens"


def test_paper_gets_every_histogram_in_light_colours(browser: Any, file: Path) -> None:
    see(browser, file, 718, dark=True, height=900)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert all(count > 300 for count in browser.execute_script(BARS, LIGHT).values())
    assert browser.execute_script(OVERFLOW) == 0
    assert browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert browser.get_log("browser") == []
