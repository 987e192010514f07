from __future__ import annotations

import os
import subprocess
import sys


def test_deepspeed_is_imported_without_a_word_about_the_device() -> None:
    code = "from trainer.processes.ranks.machine import Device; Device.here(0.9); import deepspeed; deepspeed.get_accelerator()"
    env = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
