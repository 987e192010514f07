"""The Role of k8s/ is enough for everything that the launcher does, and no verb of it is there for nothing."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.api.permissions import PERMISSIONS, VIEW
from launcher.cli import launcher
from tests.cluster_api import controllers, trainer

RUNTIME = Path(__file__).parents[5] / "k8s" / "trainjob" / "runtime.yaml"
ALLOWED = {(verb, one.resource) for one in PERMISSIONS for verb in one.verbs}
_PATH = re.compile(r"/apis?(?:/[\w.-]+)?/v\w+(?:/namespaces/[\w-]+)?/(?P<plural>[a-z]+)(?:/(?P<name>[\w.-]+))?(?:/(?P<sub>\w+))?")
_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


def used(api: Any) -> set[tuple[str, str]]:
    """Verbs and resources of all requests so far, as a Role names them."""
    found = set()
    for request in api.requests:
        path = _PATH.fullmatch(request.path.partition("?")[0])
        if path is None:
            continue
        if path["sub"] in ("exec", "portforward"):
            found |= {(verb, f"pods/{path['sub']}") for verb in ("create", "get")}
            continue
        read = "watch" if request.query.get("watch") == "true" else "get" if path["name"] else "list"
        found.add((_VERBS.get(request.method, read), path["plural"] + (f"/{path['sub']}" if path["sub"] else "")))
    return found


# A Role cannot give these: everybody has the reviews, and without the others the launcher goes on.
BEYOND = {("create", "selfsubjectaccessreviews"), ("create", "selfsubjectreviews"), ("list", "nodes"), ("list", "storageclasses")}
# What the runs below do not come to, and what does.
ELSEWHERE = {
    ("delete", "services"): "a submission that fails half-way",
    ("delete", "configmaps"): "a submission that fails half-way",
    ("get", "services"): "a submission whose answer was lost",
    ("delete", "jobsets"): "resume of a run that has ended",
    ("watch", "jobsets"): "submit --follow",
    ("delete", "trainjobs"): "resume of a run that has ended",
    ("delete", "pods"): "stop --now while pods are there",
    ("create", "pods/portforward"): "tensorboard --cluster",
    ("get", "pods/portforward"): "tensorboard --cluster",
    ("get", "pods"): "kubectl describe, which messages suggest",
    ("get", "events"): "kubectl describe, which messages suggest",
    ("get", "resourcequotas"): "kubectl describe, which messages suggest",
    ("get", "workloads"): "kubectl describe, which messages suggest",
    ("list", "persistentvolumeclaims"): "kubectl get, which messages suggest",
    ("list", "localqueues"): "kubectl get, which messages suggest",
}


@pytest.fixture
def role(cluster_api: Any) -> None:
    """The cluster allows what the Role does, and nothing else."""
    cluster_api.addons |= {"JobSet", "Kueue", "Trainer"}
    cluster_api.is_denied = lambda verb, resource: (verb, resource) not in ALLOWED


@pytest.fixture
def home(tmp_path: Path, cluster_api: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one experiment, and a namespace that has what k8s/ makes."""
    for role in ("runs", "cache"):
        spec = {"accessModes": ["ReadWriteMany"]}
        claim = {"metadata": {"name": f"dpo-{role}"}, "spec": spec, "status": {"phase": "Bound", **spec}}
        cluster_api.objects.put({"kind": "PersistentVolumeClaim", **claim})
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
    pod = {"metadata": {"name": "reader", "labels": labels}, "spec": {"containers": [{"name": "tensorboard", "image": "x:1"}]}}
    cluster_api.objects.put({"kind": "Pod", **pod})
    controllers.running(cluster_api, "reader")
    controllers.condition(cluster_api, "pods", "reader", "Ready")
    (tmp_path / "claim").mkdir()
    cluster_api.commands["default", "reader"] = tmp_path / "claim"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\nHow?,So.,What?\n")
    experiment = {
        "experiment_id": 1,
        "model_name": "/dpo/cache/model",
        "datasets_path": "data",
        "hyperparameters": {"model_output_dir": "out", "per_device_train_batch_size": 1},
        "launch": {"image": "registry.example.com/x:1", "gpus": 0},
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(yaml.safe_dump({"demo": experiment}))
    (tmp_path / ".env").write_text("HF_TOKEN=hf_notarealtoken\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")
    return tmp_path


def settle(api: Any, change: Any) -> None:
    """The pods of a suspended Job end, at once or after a moment, and the Job controller writes that they are gone."""
    job = change.after
    if change.plural == "jobs" and job and job["spec"].get("suspend") and (job.get("status") or {}).get("active"):
        name = job["metadata"]["name"]
        if api.objects.is_graceful:
            threading.Timer(0.3, gone, (api, name)).start()
        else:
            gone(api, name)


def gone(api: Any, job: str) -> None:
    for pod in controllers.pods_of(api, job):
        api.objects.delete("pods", pod["metadata"]["name"], grace=0)
    api.objects.change("jobs", job, lambda one: one["status"].update(active=0))


def typed(*args: str) -> int:
    code = launcher.main(args=list(args), prog_name="launcher", standalone_mode=False)
    return code if isinstance(code, int) else 0


def test_everything_that_is_done_with_a_run_is_allowed_by_the_role(
    role: None, home: Path, cluster_api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_api.objects.put({"kind": "LocalQueue", "metadata": {"name": "gpus"}, "spec": {}, "status": {}})
    cluster_api.objects.put(yaml.safe_load(RUNTIME.read_text()))
    controllers.play(cluster_api)
    trainer.play(cluster_api)
    cluster_api.objects.listeners.append(lambda change: settle(cluster_api, change))
    assert typed("doctor", "--cluster") == 0
    assert typed("secrets", "push") == 0
    assert typed("secrets", "push") == 0  # a second time it is changed
    for name, more in (("one", ()), ("two", ("--nodes", "2", "--kind", "job")), ("queued", ("--queue", "gpus"))):
        assert typed("submit", "demo", "--name", name, *more) == 0
    for kind, name in (("jobset", "set"), ("trainjob", "by-trainer")):
        assert typed("submit", "demo", "--name", name, "--nodes", "2", "--kind", kind) == 0
    for pod in controllers.pods_of(cluster_api, "one"):
        cluster_api.log(pod["metadata"]["name"]).write("[rank 0] hello\n")
    assert typed("ps", "--cluster") == 0
    assert typed("status", "two", "--cluster") == 0
    assert typed("logs", "one", "--cluster") == 0
    capsys.readouterr()
    assert typed("why", "queued", "--cluster", "--json") == 0
    assert json.loads(capsys.readouterr().out)["unseen"] == []
    cluster_api.objects.is_graceful = True
    assert typed("stop", "one", "--cluster") == 0
    cluster_api.objects.is_graceful = False
    assert typed("resume", "one", "--cluster", "--detach") == 0
    assert typed("stop", "two", "--now", "--cluster") == 0
    assert typed("stop", "queued", "--now", "--cluster") == 0
    assert typed("stop", "set", "--now", "--cluster") == 0
    cluster_api.objects.is_graceful = True
    assert typed("stop", "by-trainer", "--cluster") == 0
    asked = used(cluster_api)
    assert asked - ALLOWED == BEYOND
    assert ALLOWED - asked == set(ELSEWHERE)


def test_a_viewer_can_list_look_ask_why_and_read_logs_with_no_other_right(
    home: Path, cluster_api: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster_api.addons |= {"JobSet", "Kueue"}
    cluster_api.objects.put({"kind": "LocalQueue", "metadata": {"name": "gpus"}, "spec": {}, "status": {}})
    controllers.play(cluster_api)
    assert typed("secrets", "push") == 0
    for name, more in (("one", ()), ("set", ("--nodes", "2", "--kind", "jobset")), ("queued", ("--queue", "gpus"))):
        assert typed("submit", "demo", "--name", name, *more) == 0
    (pod,) = controllers.pods_of(cluster_api, "one")
    cluster_api.log(pod["metadata"]["name"]).write("[rank 0] hello\n")
    allowed = {(verb, one.resource) for one in VIEW for verb in one.verbs}
    cluster_api.is_denied = lambda verb, resource: (verb, resource) not in allowed
    cluster_api.requests.clear()
    capfd.readouterr()
    assert typed("ps", "--cluster") == 0
    assert typed("ps", "--cluster", "--by", "user") == 0
    assert typed("status", "one", "--cluster") == 0
    for name in ("one", "set", "queued"):
        assert typed("why", name, "--cluster") == 0
    assert typed("logs", "one", "--cluster") == 0
    told = capfd.readouterr()
    assert told.out.endswith("hello\n")
    controllers.terminated(cluster_api, pod["metadata"]["name"], 0)
    controllers.complete(cluster_api, "one")
    assert typed("logs", "-f", "one", "--cluster") == 0  # it follows with watches
    denied = used(cluster_api) - allowed
    assert denied <= {("create", "pods/exec"), ("get", "pods/exec"), ("list", "persistentvolumeclaims")}, denied
    assert ("watch", "jobs") in used(cluster_api)
