"""`python -m trainer`: a rank that cannot begin says why, without a traceback."""

import json
import subprocess
import sys
from pathlib import Path

from launcher.published import VERSION
from launcher.runs.run_dir import RunDir
from tests.run_folders import Made


def test_an_experiment_of_another_version_is_refused_with_what_this_one_does_not_know(tmp_path: Path) -> None:
    run = Made("one").write(tmp_path)
    written = json.loads(run.experiment.read_text())
    written["launch"]["quantum"] = 3
    run.experiment.write_text(json.dumps(written))
    done = subprocess.run([sys.executable, "-m", "trainer", str(run.path)], check=False)
    assert (done.returncode, RunDir(run.path).rank_log(0).read_text().splitlines()) == (
        42,
        [
            f"error: {run.experiment}: dpo-launcher {VERSION}, which trains here, does not know launch.quantum",
            "    hint:     it was written by a launcher of another version: use the image of that version (launch.image)",
        ],
    )
