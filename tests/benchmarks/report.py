"""How long the report of 5 runs with 20,000 steps takes to be made and opened, and how large it is.

python -m tests.benchmarks.report     JSON into build/bench/report.json, a table for the docs to stdout

Made: `launcher report` as a process of its own, wall time, median of five after a first one. Opened: from the request to the
charts of the first screen, in headless Chromium; left out where it is not installed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.run_folders import Made

REPOSITORY = Path(__file__).parents[2]
RUNS, STEPS, TIMES = 5, 20_000, 5
MOST = {"made": 3.0, "megabytes": 5.0, "opened": 1.0}  # seconds, MB, seconds
DRAWN = """
const done = arguments[0], look = () => {
  const near = [...document.querySelectorAll('#main figure')].filter((box) => box.getBoundingClientRect().top < innerHeight);
  if (near.length && near.every((box) => box.querySelector('.uplot canvas'))) done(performance.now()); else setTimeout(look, 5);
};
look();
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, page = Path(folder), Path(folder) / "report.html"
        names = [f"demo-20261128-{number}" for number in range(RUNS)]
        for number, name in enumerate(names):
            Made(name, steps=STEPS, seed=number, settings={"learning_rate": 1e-3 * (number + 1)}, learned=True).write(home)
        both = [seconds(home, names, page) for _ in range(TIMES + 1)][1:]
        made, computed = [wall for wall, _ in both], [cpu for _, cpu in both]
        seen = times_to_open(page)
        opened, busy = [wall for wall, _ in seen], [thread for _, thread in seen]
        size = page.stat().st_size / 1e6
    report = {
        "cores": os.cpu_count(),
        "runs": RUNS,
        "steps": STEPS,
        "at_most": MOST,
        "made": {"median": statistics.median(made), "fastest": min(made), "slowest": max(made)},
        "cpu": {"median": statistics.median(computed), "fastest": min(computed), "slowest": max(computed)},
        "megabytes": size,
        "opened_thread": {"median": statistics.median(busy), "fastest": min(busy), "slowest": max(busy)} if busy else None,
        "opened": {"median": statistics.median(opened), "fastest": min(opened), "slowest": max(opened)} if opened else None,
    }
    file = REPOSITORY / "build" / "bench" / "report.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print("| | median of 5 | fastest | slowest | at most |\n|---|---|---|---|---|")
    for name, times in (("made", made), ("cpu", computed), ("opened", opened), ("its thread", busy)):
        if times:
            cells = [
                statistics.median(times),
                min(times),
                max(times),
                MOST.get(name, MOST["opened" if name == "its thread" else "made"]),
            ]
            print(f"| {name} | " + " | ".join(f"{cell:.2f} s" for cell in cells) + " |")
    print(f"| size | {size:.1f} MB | | | {MOST['megabytes']:.1f} MB |\n\n{file.relative_to(REPOSITORY)}")
    found = {"made": statistics.median(made), "megabytes": size, "opened": statistics.median(opened) if opened else 0.0}
    if any(found[name] > most for name, most in MOST.items()):
        sys.exit(1)


def seconds(home: Path, names: list[str], page: Path) -> tuple[float, float]:
    """From fork to exit, and those of the CPU among them: what the machine's other work does not change."""
    command = [str(Path(sys.executable).with_name("launcher")), "report", *names, "-o", str(page)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=home, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def times_to_open(page: Path) -> list[tuple[float, float]]:
    """Seconds from the request to the charts of the first screen, and those in which the page's thread computed, whatever else
    the machine does; empty without a browser.
    """
    tools = shutil.which("chromium"), shutil.which("chromedriver")
    if None in tools:
        return []
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(tools[0])
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1400,1800"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(tools[1])))
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    try:
        return [opened(driver, page) for _ in range(TIMES + 1)][1:]
    finally:
        driver.quit()


def opened(driver: Any, page: Path) -> tuple[float, float]:
    driver.get(page.as_uri())
    wall = float(driver.execute_async_script(DRAWN)) / 1000
    metrics = {one["name"]: one["value"] for one in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    return wall, float(metrics["ThreadTime"])


if __name__ == "__main__":
    main()
