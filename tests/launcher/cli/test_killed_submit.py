"""A submit that is killed (SIGKILL) after each of its writes: what it leaves runs nothing by half, and `rm` removes all of it."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli import _run
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.store import Change

CONFIG = """\
demo:
  experiment_id: 1
  model_name: team/model
  datasets_path: data
  hyperparameters: {eval_strategy: "no", model_output_dir: out}
  launch: {gpus: 0, image: "registry.example.com/team/dpo@sha256:%s", memory: 3Gi}
"""
KINDS = ("services", "configmaps", "jobs", "pods")
CREATED = 3  # a Service and two ConfigMaps, at the same time; then the Job; then the owners of the three


class Folder:
    """Types commands in this process, in a directory with the experiment ``demo``; what is killed is a process of its own."""

    def __init__(self, home: Path, api: ClusterApi, capsys: pytest.CaptureFixture[str]):
        self.api, self._home, self._capsys = api, home, capsys
        (home / "configs").mkdir()
        (home / "data").mkdir()
        (home / "configs" / "demo.yml").write_text(CONFIG % ("a" * 64))
        (home / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")

    def submit(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "launcher", "submit", "demo", "--name", "first"]
        return subprocess.Popen(command, cwd=self._home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def type(self, line: str) -> tuple[int, str]:
        self._capsys.readouterr()
        code = _run(shlex.split(line), debug=False)
        told = self._capsys.readouterr()
        return code, told.out + told.err

    def there(self) -> dict[str, list[str]]:
        return {kind: names for kind in KINDS if (names := self.api.objects.names(kind, "default"))}


@pytest.fixture
def folder(
    tmp_path: Path, cluster_api: ClusterApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Folder:
    controllers.ready(cluster_api)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path, cluster_api, capsys)


@pytest.mark.parametrize("writes", range(1, 2 * CREATED + 2))
def test_what_a_submit_leaves_that_is_killed_after_a_write_is_removed_by_rm(writes: int, folder: Folder) -> None:
    api = folder.api
    submit, seen = folder.submit(), list[Change]()

    def kill(change: Change) -> None:
        """Before the answer is sent: the launcher never hears of this write."""
        if change.plural in KINDS[:3]:
            seen.append(change)
            if len(seen) == writes:
                submit.send_signal(signal.SIGKILL)
                submit.wait(60)

    api.objects.listeners.append(kill)
    told, _ = submit.communicate(timeout=120)
    api.settle()
    api.objects.listeners.remove(kill)
    assert submit.returncode == -signal.SIGKILL, told
    has_job = "jobs" in folder.there()
    assert has_job == (writes > CREATED)
    if has_job:  # all that its pods read exists, so the run is whole
        assert {kind: len(names) for kind, names in folder.there().items()} == {"services": 1, "configmaps": 2, "jobs": 1}
        (pod,) = controllers.make_pods(api, "first")
        controllers.running(api, pod)
        assert folder.type("submit demo --name first")[0] == 1
        controllers.terminated(api, pod, 0)
        controllers.complete(api, "first")
    code, told = folder.type("rm first -n default")
    assert (code, folder.there()) == (0, {}), told
    code, told = folder.type("submit demo --name first")
    assert (code, folder.there()["jobs"]) == (0, ["first"]), told


def test_a_job_that_ends_by_itself_leaves_what_a_killed_submit_did_not_give_it(folder: Folder) -> None:
    """The owners were never set: the cluster removes the Job after a week, and nothing else. `rm` goes by the labels."""
    submit = folder.submit()

    def kill(change: Change) -> None:
        if change.plural == "jobs":
            submit.send_signal(signal.SIGKILL)
            submit.wait(60)

    folder.api.objects.listeners.append(kill)
    submit.communicate(timeout=120)
    folder.api.settle()
    folder.api.objects.listeners.remove(kill)
    controllers.complete(folder.api, "first")
    controllers.expire(folder.api, "first")
    assert sorted(folder.there()) == ["configmaps", "services"]
    code, told = folder.type("rm first -n default")
    assert (code, folder.there()) == (0, {}), told
