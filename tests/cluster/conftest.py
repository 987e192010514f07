"""One namespace for the suite, one experiment in a working directory, and the cluster's own words where a test fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.place import REPOSITORY, Place, Settings

_PLACE: pytest.StashKey[Place] = pytest.StashKey()


@dataclass(frozen=True)
class Home:
    """A working directory with the experiment ``demo``, from which a person types."""

    folder: Path
    env: Mapping[str, str]

    def launcher(self, *args: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "launcher", *args]
        return subprocess.run(
            command, cwd=self.folder, env=dict(self.env), capture_output=True, text=True, timeout=timeout, check=False
        )

    def begin(self, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "launcher", *args]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=dict(self.env), **pipes)

    def json(self, *args: str) -> Any:
        done = self.launcher(*args, "--json")
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)

    def status(self, run: str) -> dict[str, Any]:
        return dict(self.json("status", run, "--cluster"))

    def wait(self, run: str, what: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """The first status that fits; fails with the last one and what `why` says of it."""
        deadline = time.monotonic() + seconds
        while not what(now := self.status(run)):
            if time.monotonic() > deadline:
                pytest.fail(
                    f"{run} did not come so far in {seconds:.0f} s: {now}\n{self.launcher('why', run, '--cluster').stdout}"
                )
            time.sleep(1)
        return now


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest, caller: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The namespace, ready for runs; it is removed at the end, also after failures."""
    if not caller.get("DPO_TEST_IMAGE") and caller.get("DPO_TEST_CLUSTER") != "1":
        pytest.skip("neither DPO_TEST_IMAGE nor DPO_TEST_CLUSTER is set: tests/cluster/README.md says what a cluster needs")
    there = Place(Settings.of(caller), tmp_path_factory.mktemp("place"))
    there.fill()
    request.config.stash[_PLACE] = there
    try:
        there.make()
        yield there
    finally:
        there.remove()


@pytest.fixture(scope="session")
def home(place: Place, demo_model: Path, tmp_path_factory: pytest.TempPathFactory, caller: Mapping[str, str]) -> Home:
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(demo_model, folder / "model")
    (folder / "data").mkdir()
    for name, rows in (("training_data.csv", 64), ("prompt_data.csv", 8)):  # few, as the reference's pass reads them all
        lines = (REPOSITORY / "configs" / "demo" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "data" / name).write_text("".join(lines[: rows + 1]), encoding="utf-8")
    (folder / "configs").mkdir()
    (folder / "configs" / "demo.yml").write_text(yaml.safe_dump({"demo": experiment(place.settings.image)}), encoding="utf-8")
    known = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "NO_PROXY", "no_proxy")
    env = {name: caller[name] for name in known if name in caller}
    env |= {"KUBECONFIG": str(place.submitter()), "PYTHONPATH": str(REPOSITORY), "DOCKER_HOST": "unix:///no/such/engine"}
    return Home(folder, env)


def experiment(image: str) -> dict[str, Any]:
    """The demo, short: some seconds on one CPU. Its folder is a new one, as a host path has that of the suite before."""
    return {
        "experiment_id": "suite",
        "model_name": "model",
        "datasets_path": "data",
        "dpo_column_mapping_config": {"input_columns": {"question": "question"}, "chosen": "concrete", "rejected": "vague"},
        "hyperparameters": {
            "max_seq_length": 128,
            "r": 4,
            "lora_alpha": 8,
            "learning_rate": 1e-3,
            "max_steps": 6,
            "save_steps": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "model_output_dir": f"suite-{os.urandom(3).hex()}",
        },
        # Without launch.cpus a pod requests half a core and may use a whole one, which halves the time of a start.
        "launch": {"image": image, "gpus": 0, "memory": "1536Mi", "shm_size": "64Mi", "max_restarts": 2},
    }


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    there = item.config.stash.get(_PLACE, None)
    if report.failed and there is not None:
        report.sections.append(("the cluster", there.described()))
