"""What every test needs: a process as a machine that nobody has set up would start it, whoever starts it here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).parents[1]

# What the machine itself may need. Everything else would reach what a test starts: a proxy, a profile, a width, a run's DPO_….
_OF_THE_MACHINE = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|LANGUAGE|LC_\w+|LOCPATH|LD_\w+|PYTHON(HOME|UTF8|COERCECLOCALE|DONTWRITEBYTECODE)"
    r"|VIRTUAL_ENV|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|CI|PYTEST_\w+|REWRITE_GOLDEN"
)
for _name in [name for name in os.environ if not _OF_THE_MACHINE.fullmatch(name)]:
    del os.environ[_name]

# A job that a script starts in the background ignores SIGINT, one under nohup or a supervisor perhaps others, and so would
# every process that a test starts and signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGTERM, signal.SIGCHLD):
    signal.signal(_number, signal.SIG_DFL)

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model, made once and as `make demo` makes it."""
    folder = tmp_path_factory.mktemp("demo") / "qwen3-tiny"
    csv = REPOSITORY / "configs" / "demo" / "training_data.csv"
    subprocess.run([sys.executable, "-m", "trainer.demo_model", str(folder), str(csv)], cwd=REPOSITORY, check=True)
    return folder


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests that need no GPU see none: they expect what a CPU computes, bit for bit."""
    if not any(item.get_closest_marker("gpu") for item in session.items):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
