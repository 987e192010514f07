"""Executes docs/tutorial/notebook.ipynb on the demo's model and keeps its outputs: ``python -m docs.generate.notebook``.

`make notebook` calls it. The notebook remembers which code its outputs are of, and a test compares; another test executes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

from launcher.launch.demo import DATA, MODEL

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docs" / "tutorial" / "notebook.ipynb"
_KEPT: Final = ("kernelspec", "language_info")
_TIMEOUT: Final = 300  # seconds of a cell
_OF_A_SLOW_MACHINE: Final = re.compile(r"^.*(?:\(\d+ s\)|: [\d,]+ of [\d,]+ \w+|^answering .*)\n", re.MULTILINE)
_LINK: Final = re.compile(r"<a [^>]*>(.*?)</a>")  # to the report of a run that readers do not have


def read() -> Any:
    return nbformat.read(FILE, as_version=4)


def executed(model: Path) -> Any:
    """The notebook with fresh outputs, run in an empty folder that has what `launcher demo` leaves; ``model`` is the demo's.

    Raises nbclient.exceptions.CellExecutionError for a cell that fails.
    """
    notebook = read()
    with tempfile.TemporaryDirectory() as folder:
        for place, target in ((DATA, ROOT / DATA), (MODEL, model)):
            (Path(folder) / place).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / place).symlink_to(target.resolve())
        here = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=_TIMEOUT, kernel_name="python3", resources=here, coalesce_streams=True)
        client.execute(env={**os.environ, "DPO_CACHE_ROOT": f"{folder}/cache"})
    return notebook


def digest(notebook: Any) -> str:
    """Of the code of all cells, which its outputs depend on."""
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code").encode()).hexdigest()


def main() -> None:
    notebook = executed(ROOT / MODEL)
    for cell in notebook.cells:
        cell.metadata = {}  # times, which differ whenever it is executed
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = _OF_A_SLOW_MACHINE.sub("", output.text)
            elif "text/html" in output.data:
                output.data["text/html"] = _LINK.sub(r"\1", output.data["text/html"])
    kept = {name: notebook.metadata[name] for name in _KEPT}
    kept["language_info"] = {"name": kept["language_info"]["name"]}  # without the version of this machine's Python
    notebook.metadata = {**kept, "outputs_of": digest(notebook)}
    nbformat.write(notebook, FILE)


if __name__ == "__main__":
    main()
