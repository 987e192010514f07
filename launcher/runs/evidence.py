"""What a run on this machine shows that explains it: its record, its folder, and the last lines of its logs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from ..health import read_findings
from ..why import Evidence
from .follow import Metric, parse
from .run_dir import RunDir
from .status import Status

_TAIL: Final = 1 << 16  # bytes of a log that are looked at
_LINES: Final = 60  # lines of each log


def gather(run: RunDir, now: Status) -> Evidence:
    """Everything that can be read of the run; ``now`` is its state by its backend."""
    record = run.read_record()
    launch = (record.get("experiment") or {}).get("launch") or {}
    ranks = sorted(run.logs.glob("rank-*.log"))
    logs = [run.logs / "container.log", run.entry_log, *reversed(ranks)]  # the first rank's words are the last ones
    last = last_metric(run)
    said = max((path.stat().st_mtime for path in ranks), default=None)
    return Evidence(
        run=run.name,
        backend=str(record.get("backend", "host")),
        state=now.state,
        exit_code=now.exit_code,
        sentence=now.sentence,
        key=record.get("key"),
        step=last.step if last else None,
        total_steps=last.total if last else None,
        since=max(0.0, time.time() - said) if said is not None and now.state == "running" else None,
        lines=tuple(line for path in logs for line in last_lines(path)[-_LINES:]),
        advice=next((one.suggestion for one in read_findings(record) or () if one.action == "stop"), None),
        memory=launch.get("memory"),
        nodes=int(launch.get("nodes") or 1),
        checkpoints=tuple(path.name for path in run.checkpoints()),
    )


def last_lines(path: Path) -> list[str]:
    """The lines in the last 64 KiB of a file, the first one perhaps cut; none if it does not exist."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode("utf-8", "replace").splitlines()


def last_metric(run: RunDir) -> Metric | None:
    """The last training line near the end of the run's metrics, else the last line of another kind; None without any."""
    metrics = [metric for line in last_lines(run.steps) if (metric := parse(line)) is not None]
    return next((metric for metric in reversed(metrics) if metric.kind == "train"), metrics[-1] if metrics else None)
