"""What torchrun is given by the entry, in a process of its own: the entry ends all children of its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = "import sys; from pathlib import Path; from trainer.processes.children import Children\n"
RUN += "sys.exit(Children(120).run(['env'], log=Path(sys.argv[1]), env={'DPO_ATTEMPT': '1'}))"


def test_torchrun_takes_no_options_from_the_environment(tmp_path: Path) -> None:
    """A pod of Kubeflow has them for another torchrun: a rank of 1 would wait for a node that does not come."""
    env = {"PATH": "/usr/bin:/bin", "PET_NODE_RANK": "1", "PET_NNODES": "4", "MASTER_ADDR": "here"}
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "log")], env=env, check=True, timeout=300)
    given = dict(line.split("=", 1) for line in (tmp_path / "log").read_text().splitlines())
    assert (given["DPO_ATTEMPT"], given["MASTER_ADDR"]) == ("1", "here")
    assert [name for name in given if name.startswith("PET_")] == []
