"""Records what README and pages show of a training: ``python -m docs.generate.pictures``.

It trains the demo and the tutorial's experiment in a copy of the checkout. Of the demo it takes the terminal and, in headless
Chromium, light and dark, the page of the run and that of its data; of the tutorial the page of its run, and the terminal's text,
which goes into the page. Needs the trainer, the demo's model, chromium and chromedriver.
"""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.browser import chromium

from . import packed, terminal
from .blocks import Checkout, blocks
from .pages import DOCS, ROOT, write_part

MODEL: Final = ROOT / "data" / "demo" / "qwen3-tiny"
TUTORIAL: Final = DOCS / "tutorial" / "first-run.md"
LARGEST: Final = 150_000  # bytes of a picture
# Commands whose output the tutorial shows, by the name of its part of the page.
RECORDED: Final = {
    "check": "launcher check bakery",
    "data": "launcher data bakery",
    "run": "launcher run bakery --backend host --name first-loaf",
    "chat": 'launcher chat first-loaf --prompt "How long do I bake corn buns?"',
}
_SIZE: Final = (1180, 860)  # CSS pixels
# Lines that tell how far something is: how many there are depends on what else the machine does.
_WAITING: Final = re.compile(r"^(?:importing|loading|waiting|tokenizing|computing|answering|starting the)\b.*\n", re.M)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder))
        shutil.copytree(MODEL, checkout.folder / MODEL.relative_to(ROOT))
        for block in blocks(TUTORIAL):
            checkout.save(block)
        terminal.RECORD.write_text(terminal.record(checkout, terminal.COMMAND), encoding="utf-8")
        terminal.main()
        packed.main()
        for name, command in RECORDED.items():
            write_part(TUTORIAL, name, _block(checkout, command))
        terminal.record(checkout, ("data", "demo", "--html", "data.html"))
        runs = checkout.folder / "data" / "dpo" / "model"
        take(runs / "exp_demo" / "qwen3-tiny" / "runs" / "first" / "report.html", "report", at="#curves")
        take(runs / "exp_bakery" / "qwen3-tiny" / "runs" / "first-loaf" / "report.html", "tutorial-report")
        take(checkout.folder / "data.html", "data-page")


def _block(checkout: Checkout, command: str) -> str:
    shown = _WAITING.sub("", terminal.plain(terminal.record(checkout, tuple(shlex.split(command)[1:]))))
    return f"```text\n$ {command}\n{shown.strip()}\n```"


def take(page: Path, name: str, at: str = "") -> None:
    """Writes a screen of a page, from ``at`` on, as images/NAME.webp and NAME-dark.webp; raises ValueError for large ones."""
    with chromium(f"--window-size={_SIZE[0]},{_SIZE[1]}", "--hide-scrollbars") as driver:
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            picture = _shot(driver, page.as_uri() + at, theme)
            if len(picture) > LARGEST:
                raise ValueError(f"{name}{suffix}.webp has {len(picture):,} bytes, more than {LARGEST:,}")
            (DOCS / "images" / f"{name}{suffix}.webp").write_bytes(picture)


def _shot(driver: Any, address: str, theme: str) -> bytes:
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    width, height = _SIZE
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1.5, "mobile": False}
    )
    driver.get("about:blank")  # an address with an anchor alone would not be loaded again
    driver.get(address)
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[0], 500)))")
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 70})
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main()
