"""Checks the training image by hand: `make image-check VARIANT=cuda`. CI builds the CPU image alone.

    python -m tests.benchmarks.image_check cuda|cpu [--image REFERENCE]

Builds the image if it is missing (DPO_BASE_IMAGE and DPO_BUILD_… as for `launcher build`); then, as a user whom neither machine
nor image knows: the imports of a fast run, compilers and lowered kernels as far as they go without a device (``image_inside``),
and four steps of the demo on the CPU. Prints a line for each, writes build/bench/image_check_<variant>.json, exits 1 if one
failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from launcher.backends.docker.backend import Docker
from launcher.backends.docker.build import ensure, layers, size
from launcher.backends.docker.engine import connect
from launcher.experiment.files import load
from launcher.job.image import image_of
from launcher.job.job import plan

REPOSITORY = Path(__file__).parents[2]
LIMITS: Final = {"cpu": 2.0, "cuda": 5.5}  # GiB
STRANGER: Final = (4711, 4712)  # uid and gid
PAIRS: Final = 64
FIRST_LINES: Final = 30  # the log's first screen
MODEL: Final = REPOSITORY / "data" / "demo" / "qwen3-tiny"
SOCKET: Final = Path("/var/run/docker.sock")

Check = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=LIMITS)
    parser.add_argument("--image", help="this one, and build none")
    options = parser.parse_args()
    client = connect(os.environ)
    image = options.image
    if image is None:
        wanted = image_of(options.variant, os.environ, None, REPOSITORY)
        ensure(client, wanted, os.environ, print)
        image = wanted.reference
    found = []
    for check in checks(client, image, options.variant):
        found.append(check)
        print(f"{'ok    ' if check['ok'] else 'FAILED'} {check['name']:22} {check['detail']}", flush=True)
    file = REPOSITORY / "build" / "bench" / f"image_check_{options.variant}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"image": image, "checks": found}, indent=2) + "\n")
    return int(not all(check["ok"] for check in found))


def checks(client: Any, image: str, variant: str) -> Iterator[Check]:
    yield unpacked(client, image, variant)
    yield from inside(image, variant)
    yield doctor()
    yield demo(image)


def unpacked(client: Any, image: str, variant: str) -> Check:
    total, limit = sum(layer.size for layer in layers(client, image)), LIMITS[variant]
    return {
        "name": "size",
        "ok": total <= limit * 2**30,
        "detail": f"{size(total)} unpacked (at most {limit} GiB)",
        "bytes": total,
    }


def inside(image: str, variant: str) -> Iterator[Check]:
    """The checks in a container: read-only, without a network, as a stranger."""
    folder = Path(tempfile.mkdtemp())
    for name in ("image_inside.py", "image_kernel.py"):
        shutil.copy(Path(__file__).with_name(name), folder / name)
    folder.chmod(0o755)
    command = ["docker", "run", "--rm", "--user", ":".join(map(str, STRANGER)), "--network", "none", "--read-only"]
    command += ["--tmpfs", "/tmp:exec", "-v", f"{folder}:/check:ro", image, "python", "/check/image_inside.py", variant]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(folder)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    yield from found
    if done.returncode or not found or not all(one["ok"] for one in found):
        print(done.stderr[-6000:], file=sys.stderr)
    if done.returncode or not found:
        yield {"name": "container", "ok": False, "detail": f"ended with {done.returncode}"}


def doctor() -> Check:
    command = [sys.executable, "-m", "launcher", "doctor", "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    return {
        "name": "doctor",
        "ok": done.returncode == 0,
        "detail": "ready to train" if done.returncode == 0 else done.stdout.strip(),
    }


def demo(image: str) -> Check:
    """Four steps of the demo in a container, for a caller whom nobody knows."""
    if os.getuid() != 0:
        return {"name": "demo", "ok": False, "detail": "run this check as root: only root can become somebody else"}
    home = Path(tempfile.mkdtemp())  # pytest's and root's own folders are closed to others
    for source, place in ((MODEL, home / "data" / "demo" / MODEL.name), (REPOSITORY / "configs", home / "configs")):
        shutil.copytree(source, place)
    few = home / "configs" / "demo" / "everyday" / "training_data.csv"
    few.write_text("".join(few.read_text(encoding="utf-8").splitlines(keepends=True)[: 1 + PAIRS]), encoding="utf-8")
    for path in (home, *home.rglob("*")):
        os.chown(path, *STRANGER)
    settings = ["max_steps=4", "eval_strategy=no", "load_best_model_at_end=false", "metric_for_best_model=null"]
    overrides = [f"hyperparameters.{setting}" for setting in settings] + ["validation_filename=null", f"launch.image={image}"]
    experiment = load("demo", root=home, overrides=overrides).experiment
    theirs = Docker(home, {"HOME": str(home), "PATH": os.environ["PATH"]})
    spec = plan(experiment, run="check", key="demo", gpus_there=0)
    theirs.render(spec)  # loads what root alone may read
    mode = SOCKET.stat().st_mode & 0o777
    SOCKET.chmod(0o666)
    try:
        child = os.fork()
        if child == 0:
            os._exit(train(home, spec))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        SOCKET.chmod(mode)
    return judged(home, code)


def train(home: Path, job: Any) -> int:
    """As the stranger: the run's exit code."""
    try:
        os.setgroups([])
        os.setgid(STRANGER[1])
        os.setuid(STRANGER[0])
        theirs = Docker(home, {"HOME": str(home), "PATH": os.environ["PATH"]})
        run = theirs.submit(theirs.render(job))
        while not theirs.status(run).is_over:
            time.sleep(0.5)
        return theirs.status(run).exit_code or 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def judged(home: Path, code: int) -> Check:
    run = next(home.rglob("runs/check"), None)
    log = next(iter(sorted(home.rglob("logs/rank-0.log"))), None)
    text = "" if log is None else log.read_text(encoding="utf-8", errors="replace")
    steps = text.count('"type": "train"')
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in home.rglob("*")}
    noise = [line for line in text.splitlines()[:FIRST_LINES] if "WARNING" in line or "Traceback" in line or "warn(" in line]
    is_well = code == 0 and steps == 4 and run is not None and (run / "adapter").is_dir() and owners == {STRANGER} and not noise
    said = f"{steps} steps, exit {code}, files of {len(owners)} owner(s)" + (f"; noise: {noise[0]}" if noise else ", a quiet log")
    if not is_well:
        print(text[-4000:], file=sys.stderr)
    shutil.rmtree(home)
    return {"name": "demo", "ok": is_well, "detail": said, "first_lines": text.splitlines()[:FIRST_LINES]}


if __name__ == "__main__":
    sys.exit(main())
