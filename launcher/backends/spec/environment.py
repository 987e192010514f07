"""The environment, files and script of a run on a machine. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ...errors import CredentialError, ExperimentError, Mistake
from ...experiment.resolved import resolved
from ...experiment.variables import secret_proxies, settings
from ...job.job import Job
from ...job.topology import torchrun
from ...runs.processes import MARK
from ...runs.run_dir import RunDir

GRACE: Final = 120  # seconds between the request to stop and the end by force


def environment(job: Job, caller: Mapping[str, str], roots: Mapping[str, str], folder: str, cores: int) -> dict[str, str]:
    """``roots`` are the folders of runs, data and cache by the names RUN, DATA and CACHE; ``folder`` is the run's.

    Raises ExperimentError if a name under launch.env is not in the caller's environment, or an address has a password in it.
    """
    missing = [name for name in job.env_names if name not in caller]
    if missing:
        raise ExperimentError(
            [Mistake("launch.env", f"{name} is not set", "a variable of your environment or .env", name) for name in missing]
        )
    threads = int(min(cores, job.resources.cpus or cores)) // job.topology.nproc
    env = {
        MARK: folder,
        "DPO_RUN": job.run,
        **{f"DPO_{name}_ROOT": path for name, path in roots.items()},
        **job.topology.environment(f"{folder}/deepspeed.json"),
        **job.node.environment,
        "DPO_GRACE": str(GRACE),
        "HF_HOME": f"{roots['CACHE']}/huggingface",
        "OMP_NUM_THREADS": str(max(1, threads)),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return env | settings(job.experiment, caller) | chosen(job, caller)


def check_secrets(names: Sequence[str], caller: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Raises CredentialError where the caller lacks one of the secrets ``names``; ``record`` holds the run's experiment."""
    notify = (record.get("experiment") or {}).get("notify")
    missing = [name for name in names if not caller.get(name)]
    places = {"launch.secrets": [name for name in missing if name != notify], "notify": [n for n in missing if n == notify]}
    wrong = [f"{place}: {', '.join(found)} not set" for place, found in places.items() if found]
    if wrong:
        raise CredentialError(f"{'; '.join(wrong)}; set it in your environment or in .env")


def chosen(job: Job, caller: Mapping[str, str]) -> dict[str, str]:
    """What launch.env sets, without the address of a proxy that has a password: that is a secret."""
    hidden = secret_proxies(caller)
    return dict(job.env) | {name: caller[name] for name in job.env_names if name not in hidden}


def files(job: Job, run: RunDir) -> dict[Path, str]:
    """The files that the ranks read, by their paths in the run's folder."""
    found = {run.experiment: resolved(job.experiment)}
    if job.topology.parallelism.deepspeed is not None:
        found[run.deepspeed] = json.dumps(dict(job.topology.parallelism.deepspeed), indent=2) + "\n"
    return found


def script(comments: Sequence[str], made: Mapping[Path, str], command: Sequence[str], *, full: bool) -> str:
    """A shell script: the first of ``comments``, with ``full`` the files ``made`` that the run reads, the command, the rest."""
    head, *others = comments
    lines = [f"# {head}"]
    if full:
        for path, content in made.items():
            quoted = shlex.quote(str(path))
            lines += [f"mkdir -p {shlex.quote(str(path.parent))}", f"cat > {quoted} <<'END'", content + "END"]
    else:
        lengths = {path: len(content.splitlines()) for path, content in made.items()}
        others += [f"needs {path} ({count} lines): --full prints the script that writes it" for path, count in lengths.items()]
    return "\n".join([*lines, *command, "", *(f"# {comment}" for comment in others)]) + "\n"


def facts(job: Job, entry: str = "the entry") -> tuple[str, ...]:
    """How a step's pairs are split and which command starts the ranks, for readers of what is rendered."""
    options = torchrun(job.topology.nodes, job.topology.nproc, job.node, "<free>")
    why = job.topology.parallelism.why
    data: tuple[str, ...] = ()
    if job.experiment.spreadsheet_id is not None:
        data = ("the spreadsheet is read once, into data/read of the run's folder",)
    return *([why] if why else []), *data, f"a step: {job.batch}", f"{entry} starts: torchrun {' '.join(options)} -m trainer"
