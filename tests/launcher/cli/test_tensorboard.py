"""TensorBoard's page as a person sees it, in a real browser: two experiments side by side, from the host and from a container."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from launcher.runs.run_dir import RunDir
from tests.browser import chromium

REPOSITORY = Path(__file__).parents[3]
# What the cards of rewards/margins and loss list at the last step: the run, its smoothed value, its value, the step.
LAST = ("exp_1/low-rate 1.8501 2 20", "exp_2/high-rate 3.7001 4 20", "exp_1/low-rate 0.0364 0.0333 20")

# Curves are drawn by WebGL, in software where there is no GPU.
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a run of each of two experiments, whose events the trainer's own writer has written."""
    from torch.utils.tensorboard import SummaryWriter

    home = tmp_path_factory.mktemp("home")
    for number, run in ((1, "low-rate"), (2, "high-rate")):
        folder = RunDir.of(home, "data/dpo/model", str(number), "tiny", run)
        folder.create({folder.experiment: "{}"}, {"run": run, "backend": "host", "outcome": {"state": "done", "exit_code": 0}})
        with SummaryWriter(str(folder.tensorboard)) as writer:
            for step in range(1, 21):
                writer.add_scalar("rewards/margins", number * step / 10, step)
                writer.add_scalar("loss", 0.7 / (1 + number * step), step)
    return home


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--window-size=1400,900", *WEBGL) as driver:
        yield driver


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def begin(home: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **env}
    command = [sys.executable, "-m", "launcher", "tensorboard", *args]
    return subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_server(server: subprocess.Popen[str], port: int) -> None:
    """Waits until the server has read both runs: a page that is opened earlier stays empty."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(OSError, HTTPException), urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=10) as answer:
            if len(json.load(answer)) == 2:
                return
        assert server.poll() is None, server.stdout and server.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def see(browser: Any, port: int, picture: Path) -> str:
    """Opens the page of time series, waits until curves of both runs are drawn, and takes a picture; returns the page's text."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    def text() -> str:
        return " ".join(str(browser.execute_script("return document.body.innerText")).split())

    def is_drawn(driver: Any) -> bool:
        charts = driver.execute_script("return document.querySelectorAll('line-chart canvas').length")
        return charts == 2 and all(line in text() for line in LAST)

    deadline = time.monotonic() + 300
    while True:  # it may have read the runs, and not yet all of their events
        try:
            browser.get(f"http://127.0.0.1:{port}/#timeseries")
            WebDriverWait(browser, 20).until(is_drawn)
            break
        except WebDriverException:
            assert time.monotonic() < deadline, text()
            time.sleep(0.5)
    browser.save_screenshot(str(picture))
    return text()


@pytest.mark.slow
def test_two_experiments_are_seen_side_by_side(home: Path, browser: Any, tmp_path: Path) -> None:
    port = free_port()
    server = begin(home, "--port", str(port), "--backend", "host")
    try:
        wait_for_server(server, port)
        text = see(browser, port, tmp_path / "page.png")
    finally:
        server.send_signal(signal.SIGINT)
        out, _ = server.communicate(timeout=300)
    assert "rewards /margins" in text
    assert "Run exp_1/low-rate exp_2/high-rate" in text
    assert f"TensorBoard shows exp_2/high-rate, exp_1/low-rate at http://localhost:{port}/ (Ctrl-C stops it)" in out
    assert server.returncode == 0


@pytest.mark.slow
@pytest.mark.engine
def test_a_container_shows_the_same_page(
    home: Path, browser: Any, tmp_path: Path, engine: Any, cpu_image: str, build_settings: Mapping[str, str]
) -> None:
    port = free_port()
    server = begin(home, "--port", str(port), "--backend", "docker", **build_settings)
    try:
        wait_for_server(server, port)
        text = see(browser, port, tmp_path / "page.png")
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=300)
    assert "rewards /margins" in text
    assert "Run exp_1/low-rate exp_2/high-rate" in text
    assert server.returncode == 0
    assert [one.name for one in engine.containers.list(all=True) if str(port) in str(one.attrs["HostConfig"])] == []


def test_a_port_that_is_in_use_is_named_with_the_next_one(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        out, _ = begin(home, "--port", str(port)).communicate(timeout=300)
    assert f"--port {port}: address already in use; try --port {port + 1}" in out
