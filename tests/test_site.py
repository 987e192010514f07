"""The site of docs/: it builds without a warning, its links lead where they say, its search finds, and it fits on a phone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from docs import conf
from docs.generate.pages import DOCS, ROOT
from docs.generate.site import tree
from tests.browser import chromium

REPOSITORY = "https://github.com/dpo-launcher/dpo-launcher/blob/main/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, strictly: a broken link, an unknown language or a page outside the menu fails here."""
    built = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(built / "trees")]
    done = subprocess.run([*sphinx, str(DOCS), str(built / "html")], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return built / "html"


class Links(HTMLParser):
    """The addresses and the ids of one page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.found.append(value)
            if name == "id" and value:
                self.ids.add(value)


def test_every_link_of_the_built_site_leads_to_a_page_and_an_id(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    missing = []
    for page, links in pages.items():
        for link in links.found:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages[there].ids if there in pages else None
            if not there.exists() or (parts.fragment and known is not None and unquote(parts.fragment) not in known):
                missing.append(f"{page.relative_to(site)}: {link}")
    assert missing == []


def test_nothing_is_loaded_from_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"""<(?:script|img|link rel="(?:stylesheet|preload)")[^>]*(?:src|href)="(https?://[^"]+)""", page.read_text()
        )
        assert loaded == [], page


def test_links_to_files_of_the_repository_lead_to_the_repository_and_to_files_that_exist(site: Path) -> None:
    found = {link for page in site.rglob("*.html") for link in Links(page).found if link.startswith(REPOSITORY)}
    paths = {urlsplit(link.removeprefix(REPOSITORY)).path for link in found}
    assert {"k8s/README.md", "k8s/examples/pods"} <= paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert not list(site.glob("_downloads/*"))


def test_the_menu_follows_the_headings_of_the_index_and_names_each_page_once() -> None:
    index = "## A\n[x](one/x.md) [y](one/y.md#z)\n## B\n[x](one/x.md) [book](two/b.ipynb) [z](../README.md)\n"
    assert tree(index) == (
        "```{toctree}\n:hidden:\n:caption: A\n\none/x\none/y\n```\n\n```{toctree}\n:hidden:\n:caption: B\n\ntwo/b\n```"
    )


@pytest.mark.parametrize("setting", ["pygments_style", "pygments_dark_style"])
def test_outputs_and_comments_in_examples_have_the_contrast_that_small_text_needs(setting: str) -> None:
    from pygments.styles import get_style_by_name
    from pygments.token import Comment, Generic, Name, String

    style = get_style_by_name(getattr(conf, setting))
    kinds = (Comment.Single, Generic.Output, Generic.Prompt, Name.Tag, Name.Variable, String.Double)
    faint = {}
    for kind in kinds:
        colour = style.style_for_token(kind)["color"]
        if colour and contrast(colour, style.background_color) < 4.5:  # WCAG 2.2, 1.4.3
            faint[str(kind)] = colour
    assert faint == {}


def contrast(*colours: str) -> float:
    """Of two colours, by WCAG 2.2: 1 to 21."""
    light = sorted(map(luminance, colours))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# --- In a browser


@pytest.fixture(scope="module")
def phone(site: Path) -> Iterator[Any]:
    with chromium("--allow-file-access-from-files") as driver:
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.implicitly_wait(20)
        yield driver


@pytest.mark.browser
def test_a_page_does_not_scroll_sideways_on_a_phone(site: Path, phone: Any) -> None:
    wide = []
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.parts:
            continue
        phone.get(page.as_uri())
        over = phone.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0:
            wide.append(f"{page.relative_to(site)}: {over} px")
    assert wide == []


@pytest.mark.browser
def test_names_of_keys_stay_in_one_piece_in_a_table_that_scrolls_within_itself(site: Path, phone: Any) -> None:
    phone.get((site / "reference" / "experiment-file.html").as_uri())
    lines = phone.execute_script(
        "return [...document.querySelectorAll('td:first-child code')].map(e => [e.innerText, e.getClientRects().length])"
    )
    assert "experiment_id" in dict(lines)
    assert [name for name, count in lines if count != 1] == []
    phone.get((site / "how-to" / "recipes.html").as_uri())
    links = "[...document.querySelectorAll('td:first-child a')].map(e => [e.innerText, e.getClientRects().length])"
    recipes = dict(phone.execute_script(f"return {links}"))
    assert recipes["qwen3-0.6b-lora-8gb"] == 1
    assert set(recipes.values()) == {1}
    table = "[...document.querySelectorAll('.table-wrapper')].map(e => [e.scrollWidth, e.clientWidth])"
    assert any(inner > outer for inner, outer in phone.execute_script(f"return {table}"))


def searched(site: Path, phone: Any, words: str) -> Any:
    """The results for ``words``, when the search has finished."""
    from selenium.webdriver.common.by import By

    phone.get((site / "search.html").as_uri())
    field = phone.find_element(By.CSS_SELECTOR, "[role=main] input[name=q], .content input[name=q], input.sidebar-search")
    phone.execute_script("arguments[0].value = arguments[1]; arguments[0].form.submit()", field, words)
    phone.find_element(By.XPATH, "//*[@id='search-results']/p[contains(., 'finished')]")
    return phone.find_elements(By.CSS_SELECTOR, "#search-results li > a")


@pytest.mark.browser
def test_the_search_finds_a_key_without_a_server(site: Path, phone: Any) -> None:
    from selenium.webdriver.common.by import By

    found = next(one for one in searched(site, phone, "beta") if "reference/experiment-file" in one.get_attribute("href"))
    phone.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", found)
    found.click()
    assert "reference/experiment-file.html" in phone.current_url
    assert "beta" in phone.find_element(By.TAG_NAME, "article").text


@pytest.mark.browser
@pytest.mark.parametrize(
    "message",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 17.25 GiB. GPU 3 has a total capacity of 79.10 GiB",
        "error: configs/mine.yml:12:5: hyperparameters.load_in_8bit conflicts with load_in_4bit; keep one",
        "data/mine/pairs.csv: 17 cells contain a byte order mark (U+FEFF)",
        'Error creating: pods "mine-1-0-xyzzy" is forbidden: violates PodSecurity "restricted:v1.31": host namespaces',
        "[rank7]:[E1218] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=991, OpType=ALLREDUCE)",
    ],
)
def test_a_pasted_message_finds_the_page_of_errors(site: Path, phone: Any, message: str) -> None:
    found = [one.get_attribute("href") for one in searched(site, phone, message)[:5]]
    assert [link for link in found if "reference/errors.html" in link] != []
