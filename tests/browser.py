"""Headless Chromium for the tests of pages."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium(*arguments: str, logs: bool = False) -> Iterator[Any]:
    """A driver of the browser; skips the test where none is installed, and fails where CI has none. ``logs``: of its console."""
    from selenium import webdriver

    tools = shutil.which("chromium"), shutil.which("chromedriver")
    if None in tools:
        assert not os.environ.get("CI"), "CI needs chromium and chromedriver"
        pytest.skip("no chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = str(tools[0])
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)
    if logs:
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:  # the browser leaves folders behind
        driver = webdriver.Chrome(options, webdriver.ChromeService(str(tools[1]), env={**os.environ, "TMPDIR": temporary}))
        try:
            yield driver
        finally:
            driver.quit()
