"""pip, with a line about its progress at least every 5 seconds: ``python .ci/install.py -e '.[trainer]' -c FILE``.

pip prints a line per package and is silent while it downloads or unpacks gigabytes. This prints large downloads with their size,
and reads the progress from the disk. Errors are pip's own. Needs nothing but Python.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

EVERY = 4.0  # seconds
LARGE = 20  # MB: a download that is worth a line of its own
_DOWNLOAD = re.compile(r"\s*Downloading (?:\S*/)?(?P<name>[^\s-]+-[^\s-]+)\S* \((?P<size>[\d.]+) (?P<unit>[kMG]?B)\)")
_MB = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


class Progress:
    """What pip is doing, and when a line was printed last."""

    def __init__(self, downloads: Path, packages: Path) -> None:
        self._downloads, self._packages = downloads, packages
        self._begun, self._said = time.monotonic(), 0.0
        self._what, self._size, self._before = "looking for packages", 0.0, 0.0
        self._lock = threading.Lock()

    def heard(self, line: str) -> None:
        """Takes a line of pip's output."""
        found = _DOWNLOAD.match(line)
        if found is not None:
            size = float(found["size"]) * _MB[found["unit"]]
            self._before = _megabytes(self._downloads)
            self._what, self._size = f"downloading {found['name'].replace('-', ' ').replace('_', '-')}", size
            if size >= LARGE:
                self.say(f"{self._what} ({_amount(size)})")
        elif line.startswith("Installing collected packages"):
            self._what, self._size = f"installing {line.count(',') + 1} packages", 0.0
            self.say(self._what)
        elif line.lstrip().startswith(("Collecting", "Obtaining", "Using cached", "Requirement already")):
            self._what, self._size = "looking for packages", 0.0

    def tick(self) -> None:
        """Prints the progress if nothing was printed for EVERY seconds."""
        if time.monotonic() - self._said < EVERY:
            return
        if self._what.startswith("installing"):
            far = f", {_amount(_megabytes(self._packages))} in {self._packages.name}"
        elif self._size >= LARGE:
            far = f": {_amount(min(self._size, max(0.0, _megabytes(self._downloads) - self._before)))} of {_amount(self._size)}"
        else:
            far = ""
        self.say(f"{self._what}{far}")

    def say(self, words: str) -> None:
        with self._lock:
            self._said = time.monotonic()
            sys.stdout.write(f"  {self._said - self._begun:4.0f} s  {words}\n")
            sys.stdout.flush()


def _megabytes(folder: Path) -> float:
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_size  # noqa: PTH118
            except OSError:  # pip has moved it meanwhile
                continue
    return total / 1e6


def _amount(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def main(args: list[str]) -> int:
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *args]
    if not sys.dont_write_bytecode:  # a process compiles what it imports, a fifth of the 26,000 modules, and others find that
        pip.append("--no-compile")
    packages = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    with tempfile.TemporaryDirectory(prefix="dpo-install-") as downloads:
        progress, is_over = Progress(Path(downloads), packages), threading.Event()

        def tell() -> None:
            while not is_over.wait(min(0.5, EVERY / 2)):
                progress.tick()

        teller = threading.Thread(target=tell, daemon=True)
        with subprocess.Popen(pip, env={**os.environ, "TMPDIR": downloads}, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            progress.say("looking for packages")
            teller.start()
            for line in process.stdout:
                progress.heard(line)
            code = process.wait()
        is_over.set()
        teller.join()
    progress.say("installed" if code == 0 else f"pip failed (exit code {code})")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
