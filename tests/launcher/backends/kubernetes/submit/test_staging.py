"""Large inputs come to a claim or a bucket once, whole or not at all, and are what they were."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from launcher.backends.kubernetes.api.cluster import ApiError, Cluster, ClusterError
from launcher.backends.kubernetes.render.local import look
from launcher.backends.kubernetes.render.placement import Local
from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.submit import patience, staging
from launcher.backends.kubernetes.submit.staging import packed, stage
from launcher.backends.kubernetes.submit.standing import stands
from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment
from launcher.storage.progress import Meter
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.kinds import BY_PLURAL
from tests.cluster_api.refusal import forbidden
from tests.rendered import rendered
from tests.s3.server import MotoServer

KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush-hush", "AWS_REGION": "us-east-1"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of a few files, one of which is larger than what is sent at once."""
    folder = tmp_path / "models" / "tiny"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 10_000)
    (folder / "sub" / "empty.txt").touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("not a part of it")
    return folder


@pytest.fixture
def api(cluster_api: ClusterApi) -> ClusterApi:
    """A cluster whose pods run at once, with one folder for all of them."""
    controllers.ready(cluster_api)
    controllers.play(cluster_api)
    (cluster_api.folder / "pods").mkdir()

    def run_in_folder(change: Any) -> None:
        if change.plural == "pods" and change.after is not None:
            metadata = change.after["metadata"]
            cluster_api.commands[metadata["namespace"], metadata["name"]] = cluster_api.folder / "pods"

    cluster_api.objects.listeners.append(run_in_folder)
    return cluster_api


@pytest.fixture
def cluster(api: ClusterApi) -> Cluster:
    found = Cluster.connect({"KUBECONFIG": str(api.kubeconfig)})
    found.pauses = (0.01,)
    return found


def spec_of(model: Path, **fields: Any) -> KubernetesSpec:
    experiment = {"experiment_id": "1", "model_name": str(model), "datasets_path": "s3://data/answers", **fields}
    local = look(Experiment.parse(experiment), model.parent)
    launch = experiment.pop("launch", {"gpus": 0})
    return rendered(launch, local=Local(model=local.model), **experiment)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cache_of(api: ClusterApi) -> Path:
    return api.folder / "pods" / "dpo" / "cache"


def staged(api: ClusterApi, spec: KubernetesSpec) -> dict[str, bytes]:
    (one,) = spec.staged
    return contents(api.folder / "pods" / one.target.lstrip("/"))


def test_a_model_comes_to_the_claim_as_it_is(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    spec, said = spec_of(model), list[str]()
    stage(cluster, spec, "default", None, {}, said.append)
    assert staged(api, spec) == {name: text for name, text in contents(model).items() if not name.startswith(".git")}
    (one,) = spec.staged
    assert one.target == f"/dpo/cache/staged/{one.folder.digest}/tiny"
    assert said == [f"staging  {model} (2.6 MB) to {one.target} on claim dpo-cache", f"staged   {one.target}"]


def test_the_job_that_stages_is_gone_afterwards(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    stage(cluster, spec_of(model), "default", None, {}, lambda _: None)
    assert (api.objects.names("jobs"), api.objects.names("pods")) == ([], [])


@pytest.mark.parametrize("rule", ["none", "Kueue manages all", "default queue", "policy"])
def test_the_job_that_stages_waits_in_the_run_s_queue_only_where_it_would_be_held_or_refused_without_one(
    rule: str, api: ClusterApi, cluster: Cluster, model: Path
) -> None:
    is_managed = rule != "none"
    api.addons |= {"Kueue", "every Job"} if rule == "Kueue manages all" else {"Kueue"}
    if rule == "default queue":
        api.objects.mutate = _with_default_queue(api.objects.mutate)
    if rule == "policy":
        api.refuse("queues.example.com", _wants_queue)

    def admit(change: Any) -> None:
        if change.plural == "jobs" and change.before is None:
            name, admitted = change.after["metadata"]["name"], {"spec": {"suspend": False}}
            api.objects.patch(BY_PLURAL["jobs"], "default", name, admitted, strict=True, dry_run=False)

    api.objects.listeners.append(admit)
    stage(cluster, spec_of(model, launch={"gpus": 0, "kubernetes": {"queue": "research"}}), "default", None, {}, lambda _: None)
    (job,) = [one.body for one in api.asked("POST", "/jobs") if "dryRun" not in one.query]
    assert (job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == "research") == is_managed
    requests = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert ("ephemeral-storage" in requests) != is_managed, "few queues cover the nodes' disks"


def _with_default_queue(before: Callable[..., None]) -> Callable[..., None]:
    """Kueue in a namespace with a LocalQueue called default."""

    def mutate(kind: Any, obj: dict[str, Any]) -> None:
        if kind.name == "Job":
            obj["metadata"].setdefault("labels", {}).setdefault("kueue.x-k8s.io/queue-name", "default")
        before(kind, obj)

    return mutate


def _wants_queue(plural: str, obj: dict[str, Any]) -> str | None:
    has_queue = "kueue.x-k8s.io/queue-name" in (obj["metadata"].get("labels") or {})
    return None if plural != "jobs" or has_queue else "The label 'kueue.x-k8s.io/queue-name' is missing"


def test_what_is_there_is_not_sent_again(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        stage(cluster, spec_of(model), "default", None, {}, said.append)
    assert said[-1].endswith(" (already there)")
    (model / "config.json").write_text("{ }")
    stage(cluster, spec_of(model), "default", None, {}, said.append)
    assert not said[-1].endswith(" (already there)")


def test_data_and_a_model_are_staged_together(api: ClusterApi, cluster: Cluster, model: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\n" + "a,b,c\n" * 200_000)
    (tmp_path / "data" / "notes.txt").write_text("not read")
    fields = {"datasets_path": str(tmp_path / "data"), "model_name": str(model)}
    local = look(Experiment.parse({"experiment_id": "1", **fields}), tmp_path)
    spec = rendered({"gpus": 0}, local=local, **fields)
    stage(cluster, spec, "default", None, {}, lambda _: None)
    names = sorted(path.relative_to(cache_of(api)).parts[-1] for path in cache_of(api).rglob("*.csv"))
    assert (len(spec.staged), names) == (2, ["training_data.csv"])


def test_a_connection_that_breaks_leaves_nothing_to_be_seen(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    spec = spec_of(model)
    read = threading.Event()

    def cut(_: list[str], stdin: Iterator[bytes]) -> tuple[int, bytes, bytes]:
        read.set()
        api.cut("exec")
        return 0, b"", b""

    def replace(change: Any) -> None:
        if change.plural == "pods" and change.after is not None:
            api.commands[change.after["metadata"]["namespace"], change.after["metadata"]["name"]] = cut

    api.objects.listeners.append(replace)
    with pytest.raises(ClusterError, match="connection lost"):
        stage(cluster, spec, "default", None, {}, lambda _: None)
    assert (read.is_set(), api.objects.names("jobs")) == (True, [])


def unpacked(target: Path, digest: str, sent: bytes, before: str = "") -> subprocess.CompletedProcess[bytes]:
    script = before + Path(staging.__file__).with_name("unpack.py").read_text()
    return subprocess.run([sys.executable, "-c", script, target, digest], input=sent, capture_output=True, check=False)


def test_a_claim_that_the_pod_cannot_write_is_named_with_what_mends_it() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        (uid, gid), become = (os.geteuid(), os.getegid()), ""
        if uid == 0:  # whom modes do not stop
            uid = gid = 65534
            become = f"import hashlib, json, os, pathlib, shutil, sys, time; os.setegid({gid}); os.seteuid({uid})\n"
        done = unpacked(Path(folder) / "staged" / "0" / "tiny", "0", b"", become)
        Path(folder).chmod(0o755)
    assert done.stdout == b""
    assert done.stderr.decode() == (
        f"{folder}/staged cannot be written by {uid}:{gid}: make the volume writable for group {gid}, "
        f"as `chgrp -R {gid} DIR && chmod -R g+rwX DIR` does on its host\n"
    )


def test_what_breaks_off_is_removed_in_the_pod(model: Path, tmp_path: Path) -> None:
    (one,) = spec_of(model).staged
    sent = b"".join(packed(one.folder, Meter(0, None)))
    target = tmp_path / "cache" / one.folder.digest / "tiny"
    done = unpacked(target, one.folder.digest, sent[:-100])
    assert (done.returncode, done.stdout, done.stderr) == (1, b"send\n", b"the connection ended within model.safetensors\n")
    assert list(target.parent.iterdir()) == []


def test_what_is_not_what_was_meant_is_not_put_in_place(model: Path, tmp_path: Path) -> None:
    (one,) = spec_of(model).staged
    sent = b"".join(packed(one.folder, Meter(0, None)))
    target = tmp_path / "cache" / "tiny"
    done = unpacked(target, one.folder.digest, sent.replace(b"{}", b"[]"))
    assert (done.returncode, target.exists()) == (1, False)
    assert done.stderr.startswith(b"the received files have another digest")
    assert (unpacked(target, one.folder.digest, sent).stdout, contents(target)["config.json"]) == (b"send\nstaged\n", b"{}")
    assert unpacked(target, one.folder.digest, b"").stdout == b"there\n"


def test_a_file_that_changes_while_it_is_sent(model: Path) -> None:
    (one,) = spec_of(model).staged
    (model / "config.json").write_text("")
    with pytest.raises(LauncherError, match=r"config\.json: changed while it was staged"):
        list(packed(one.folder, Meter(0, None)))


def test_a_file_that_changes_meanwhile_is_named(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    spec = spec_of(model)
    (model / "config.json").write_text("")
    with pytest.raises(LauncherError, match=r"config\.json: changed while it was staged"):
        stage(cluster, spec, "default", None, {}, lambda _: None)
    assert (contents(cache_of(api)), api.objects.names("jobs")) == ({}, [])


def test_a_claim_that_is_full(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    spec = spec_of(model)

    def full(change: Any) -> None:
        if change.plural == "pods" and change.after is not None:
            act = lambda *_: (1, b"", b"Traceback\nOSError: [Errno 28] No space left on device\n")  # noqa: E731
            api.commands[change.after["metadata"]["namespace"], change.after["metadata"]["name"]] = act

    api.objects.listeners.append(full)
    with pytest.raises(LauncherError) as caught:
        stage(cluster, spec, "default", None, {}, lambda _: None)
    assert str(caught.value) == f"{model} not staged: OSError: [Errno 28] No space left on device"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute lasts a fifth of a second."""
    for name, seconds in {"LOOK": 0.02, "ASK": 0.05, "EVERY": 0.1, "STUCK": 0.3, "LONG": 3.0}.items():
        monkeypatch.setattr(patience, name, seconds)


def started(api: ClusterApi, act: Callable[[str], None], node: str | None = "node-1") -> Cluster:
    """A cluster that is ready; ``act`` gets the name of each new pod of a Job."""
    controllers.ready(api)

    def react(change: Any) -> None:
        if change.plural == "jobs" and change.before is None:
            for pod in controllers.make_pods(api, change.after["metadata"]["name"], node=node):
                act(pod)

    api.objects.listeners.append(react)
    return Cluster.connect({"KUBECONFIG": str(api.kubeconfig)})


def refused(cluster: Cluster, spec: KubernetesSpec, said: list[str]) -> str:
    with pytest.raises(LauncherError) as caught:
        stage(cluster, spec, "default", None, {}, said.append)
    assert "describe job" not in str(caught.value), "it is deleted by then"
    return str(caught.value)


def test_an_image_that_cannot_be_pulled_is_explained_as_why_explains_it(
    cluster_api: ClusterApi, model: Path, hurried: None
) -> None:
    raw = 'Back-off pulling image "registry.example.com/x:1": ErrImagePull: failed to resolve reference: manifest unknown'
    cluster = started(cluster_api, lambda pod: controllers.waiting(cluster_api, pod, "ImagePullBackOff", raw))
    said: list[str] = []
    sentence = "cannot pull registry.example.com/x:1: image not found in the registry"
    assert refused(cluster, spec_of(model), said) == (
        f"the staging pod did not start within 0 s: {sentence}\n    hint:     check its name and tag, "
        "or push this checkout's image with: launcher build --push --registry NAME"
    )
    assert said[1] == f"waiting  {sentence}"
    assert len(said) > 3, "it is said again while it lasts"
    assert cluster_api.objects.names("jobs") == []


def test_a_staging_pod_that_failed_leaves_no_note(cluster_api: ClusterApi, model: Path, hurried: None) -> None:
    cluster = started(cluster_api, lambda pod: controllers.terminated(cluster_api, pod, 137))
    refused(cluster, spec_of(model), [])
    assert cluster_api.objects.names("configmaps") == []


FEW = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found."


def test_a_node_that_comes_after_a_while_is_waited_for(cluster_api: ClusterApi, model: Path, hurried: None) -> None:
    def no_node(pod: str) -> None:
        controllers.unschedulable(cluster_api, pod, FEW)
        threading.Timer(1.0, controllers.running, (cluster_api, pod)).start()  # three times as long as a hopeless cause is given

    (cluster_api.folder / "pods").mkdir()
    cluster, spec, said = started(cluster_api, no_node, node=None), spec_of(model), list[str]()
    cluster_api.objects.listeners.append(
        lambda change: (
            change.plural == "pods"
            and change.after is not None
            and cluster_api.commands.update({("default", change.after["metadata"]["name"]): cluster_api.folder / "pods"})
        )
    )
    stage(cluster, spec, "default", None, {}, said.append)
    assert said[1] == "waiting  no node can take the staging pod: the only node has too little cpu free"
    assert said[2] == said[1] or said[2].startswith(said[1])
    assert staged(cluster_api, spec)


def test_a_node_that_does_not_come_is_an_error_without_anyway_alone(
    cluster_api: ClusterApi, model: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONG", 0.5)
    cluster = started(cluster_api, lambda pod: controllers.unschedulable(cluster_api, pod, FEW), node=None)
    wait = "wait until other pods end, or for another node; see what is free with: kubectl describe nodes"
    assert refused(cluster, spec_of(model), []) == (
        "the staging pod did not start within 0 s: no node can take the staging pod: the only node has too little cpu free\n"
        f"    hint:     {wait}; wait without a limit with: launcher submit --anyway"
    )
    said: list[str] = []

    def interrupt(words: str) -> None:
        said.append(words)
        if len(said) > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(cluster, spec_of(model), "default", None, {}, interrupt, is_patient=True)
    assert cluster_api.objects.names("jobs") == []


@pytest.mark.parametrize(
    ("setting", "sentence", "hint"),
    [
        ({"service_account": "trainer"}, "service account trainer not found in the namespace",
         "correct or remove launch.kubernetes.service_account"),
        ({"runtime_class": "gvisor"}, "RuntimeClass gvisor not found in the cluster",
         "correct or remove launch.kubernetes.runtime_class; list them with: kubectl get runtimeclass"),
    ],
)  # fmt: skip
def test_what_admission_refuses_is_said_instead_of_silence(
    setting: dict[str, Any], sentence: str, hint: str, cluster_api: ClusterApi, model: Path, hurried: None
) -> None:
    cluster, said = started(cluster_api, lambda _: None), list[str]()
    spec = spec_of(model, launch={"kubernetes": setting, "gpus": 0})
    assert refused(cluster, spec, said) == f"the staging pod did not start within 0 s: {sentence}\n    hint:     {hint}"
    assert said[1] == f"waiting  {sentence}"


def test_a_quota_is_said_while_it_is_waited_for(cluster_api: ClusterApi, model: Path, hurried: None) -> None:
    words = "exceeded quota: team, requested: requests.cpu=500m, used: requests.cpu=4, limited: requests.cpu=4"
    cluster = started(cluster_api, lambda _: None)
    cluster_api.objects.admit_pod = lambda namespace, obj: (_ for _ in ()).throw(  # type: ignore[method-assign]
        forbidden("pods", obj["metadata"]["name"], words)
    )
    said: list[str] = []
    assert "did not start within 3 s: quota team is exceeded: requests.cpu=500m requested" in refused(
        cluster, spec_of(model), said
    )
    assert said[1].startswith("waiting  quota team is exceeded: requests.cpu=500m requested, requests.cpu=4 used")


def test_what_a_running_pod_shows_on_the_claim_needs_no_other_pod(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    spec = spec_of(model)
    stage(cluster, spec, "default", None, {}, lambda _: None)
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
    mounts = [{"name": "models", "mountPath": "/dpo/cache", "readOnly": True}]
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "dpo-cache"}}]
    container = {"name": "tensorboard", "image": "x:1", "volumeMounts": mounts}
    pod = {"metadata": {"name": "reader", "labels": labels}, "spec": {"containers": [container], "volumes": volumes}}
    api.objects.put({"kind": "Pod", **pod})
    controllers.running(api, "reader")
    made, said = len(api.asked("POST", "/jobs$")), list[str]()
    stage(cluster, spec, "default", None, {}, said.append)
    assert (len(api.asked("POST", "/jobs$")) - made, said) == (0, [f"staged   {spec.staged[0].target} (already there)"])
    (model / "config.json").write_text("{ }")
    stage(cluster, spec_of(model), "default", None, {}, said.append)
    assert len(api.asked("POST", "/jobs$")) - made == 1, "another content is another folder"


def test_a_part_of_the_claim_is_looked_for_where_the_reader_mounts_all_of_it(
    api: ClusterApi, cluster: Cluster, model: Path
) -> None:
    target = "/dpo/cache/staged/0/tiny"
    (api.folder / "pods" / "all" / "team" / "staged" / "0" / "tiny").mkdir(parents=True)
    pod = {"metadata": {"name": "reader", "labels": {"app.kubernetes.io/name": "dpo-launcher"}}}
    container = {"name": "tensorboard", "image": "x:1", "volumeMounts": [{"name": "models", "mountPath": "/dpo/all"}]}
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "dpo-cache"}}]
    api.objects.put({"kind": "Pod", **pod, "spec": {"containers": [container], "volumes": volumes}})
    controllers.running(api, "reader")
    api.commands["default", "reader"] = api.folder / "pods"
    (api.folder / "pods" / "dpo").symlink_to(api.folder / "pods")
    assert stands(cluster, "default", "dpo-cache", target, "team")
    assert not stands(cluster, "default", "dpo-cache", target)
    assert not stands(cluster, "default", "other", target, "team")


def test_a_job_that_may_not_be_created(api: ClusterApi, cluster: Cluster, model: Path) -> None:
    api.deny("create", "jobs")
    with pytest.raises(ApiError, match="cannot create resource"):
        stage(cluster, spec_of(model), "default", None, {}, lambda _: None)


@pytest.mark.parametrize("version", ["1.31", "1.36"])
def test_the_job_is_one_that_clusters_take(version: str, model: Path) -> None:
    spec = spec_of(model)
    job = staging.staging_job(spec, spec.staged[0], "default", "0123abcd")
    kubernetes_validate.validate(job, version, strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"] == spec.pod["spec"]["securityContext"]
    assert container["securityContext"] == spec.container["securityContext"]
    assert "dpo-launcher/run" not in job["metadata"]["labels"]
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "staging"


def test_the_job_has_what_policies_and_the_scheduler_want_of_the_runs_and_not_its_queue(model: Path) -> None:
    affinity = {"podAntiAffinity": {}}
    kubernetes = {
        "queue": "q", "labels": {"cost-center": "ml", "kueue.x-k8s.io/priority-class": "low"}, "annotations": {"a": "b"},
        "priority_class": "batch", "volumes": {"cache": {"nfs": {"server": "nas", "path": "/c"}, "sub_path": "team"}},
        "pod": {"spec": {"affinity": affinity, "hostNetwork": True}},
    }  # fmt: skip
    spec = spec_of(model, launch={"gpus": 0, "kubernetes": kubernetes})
    job = staging.staging_job(spec, spec.staged[0], "default", "0123abcd")
    template = job["spec"]["template"]
    pod = template["spec"]
    assert (pod["affinity"], pod["priorityClassName"], pod.get("hostNetwork")) == (affinity, "batch", None)
    assert pod["containers"][0]["volumeMounts"][0] == {"name": "cache", "mountPath": "/dpo/cache", "subPath": "team"}
    assert pod["volumes"][0] == {"name": "cache", "nfs": {"server": "nas", "path": "/c"}}
    for metadata in (job["metadata"], template["metadata"]):
        assert metadata["labels"]["cost-center"] == "ml"
        assert not [name for name in metadata["labels"] if name.startswith("kueue.x-k8s.io/")]
    assert template["metadata"]["annotations"]["a"] == "b"


def test_a_bucket_gets_the_files_that_are_read_and_a_manifest_once(cluster: Cluster, model: Path, moto: MotoServer) -> None:
    client = moto.emptied("models")
    storage = {"bucket_name": "models", "object_prefix": "dpo/", "endpoint_url": moto.url, "region": "us-east-1"}
    spec = spec_of(model, storage_config=storage)
    (one,) = spec.staged
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "storage_config": storage})
    for _ in range(2):
        stage(cluster, spec, "default", experiment.storage_config, KEYS, lambda _: None)
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="models")["Contents"]]
    prefix = f"dpo/staged/{one.folder.digest}/tiny"
    assert one.target == f"s3://models/{prefix}"
    assert keys == [f"{prefix}/{name}" for name in ("config.json", "manifest.json", "model.safetensors", "sub/empty.txt")]
