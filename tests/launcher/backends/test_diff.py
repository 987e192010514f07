"""What differs between a container of this machine and the pods of a cluster, from their two specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.backends.diff import Difference, differences
from launcher.backends.docker.container import Person, Place
from launcher.backends.docker.spec import render
from launcher.experiment.schema import Experiment
from launcher.job.image import Image
from launcher.job.job import plan
from tests.rendered import IMAGE, RUN, large, rendered

ME = Person(1000, 1000, (1000,), "you", Path("/home/you"))
CALLER = {"HOME": "/home/you", "HF_TOKEN": "x", "CUDA_VISIBLE_DEVICES": "2,3"}


def found(launch: dict[str, Any], caller: dict[str, str] = CALLER, **fields: Any) -> list[Difference]:
    there = rendered(launch, caller=caller, **fields)
    settings = {name: value for name, value in fields.items() if name in Experiment.model_fields}
    data = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch, **settings}
    job = plan(Experiment.parse(data), run=RUN, key="exp_1", gpus_there=2)
    image = Image("dpo-launcher:cuda-0123456789abcdef", "cuda")
    place = Place(Path("/home/you/p"), 16, ME, image, Path("/run/user/1000/s"), caller, lambda path: "models" in str(path))
    return differences(render(job, place), there)


def test_each_difference_is_said_in_plain_words() -> None:
    folder = f"data/dpo/model/exp_1/Qwen3-0.6B/runs/{RUN}"
    wanted = [
        ("object", f"container dpo-{RUN}-e016d8", "Job exp-1-20261124-101112-beef, 1 pod, in namespace team"),
        ("image", "dpo-launcher:cuda-0123456789abcdef", IMAGE),
        ("user", "1000:1000", "10001:10001; its group owns the volumes"),
        ("GPUs", "2: 2, 3", "1"),
        ("the run's folder", f"/home/you/p/{folder}", f"{folder} on the claim dpo-runs"),
        ("mounted at /dpo/cache", "/home/you/.cache/dpo-launcher", "claim dpo-cache"),
        (
            "mounted at /dpo/data/data/answers",
            "/home/you/p/data/answers, read-only",
            "ConfigMap exp-1-20261124-101112-beef-data, read-only",
        ),
        (
            "secrets",
            "HF_TOKEN of your environment, as files in /run/secrets",
            "HF_TOKEN of the Secret dpo-secrets, as files in /dpo/secrets",
        ),
        ("OMP_NUM_THREADS", "8", "4"),
        ("USER", "you", "dpo"),
        ("CPUs", "no limit", "2 requested, limit 4"),
        ("memory", "no limit", "26Gi requested, limit 26Gi"),
        ("/dev/shm", "2Gi", "2Gi, of the memory"),
        ("processes", "at most 4096", "as many as the node allows"),
        ("time to stop", "130 s", "120 s"),
        ("restarts", "none: launcher resume", "up to 3, of all nodes together"),
        ("kept afterwards", "until the logs are in the run's folder", "7 days; the run's folder stays on its claim"),
    ]
    assert [(one.what, one.here, one.there) for one in found({}, namespace="team")] == wanted


def test_what_the_experiment_says_is_the_same_on_both_sides() -> None:
    same = {"gpus": 1, "memory": "64Gi", "cpus": 12, "shm_size": "16Gi", "env": {"GREETING": "$HOME", "NAME": None}}
    said = {one.what: (one.here, one.there) for one in found(same, {**CALLER, "NAME": "x"})}
    assert not said.keys() & {"GREETING", "NAME", "OMP_NUM_THREADS"}
    assert said["memory"] == ("64Gi", "64Gi requested, limit 64Gi")
    assert said["CPUs"] == ("12", "12 requested, limit 12")


def test_what_reaches_the_run_of_the_caller_s_environment_is_told(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    caller = {**CALLER, "HTTPS_PROXY": "http://proxy:1", "SSL_CERT_FILE": str(bundle)}
    said = {one.what: (one.here, one.there) for one in found({}, caller)}
    # A pod that has a proxy also has what it reaches without it.
    assert said["your environment"] == ("HTTPS_PROXY, SSL_CERT_FILE (mounted)", "HTTPS_PROXY, NO_PROXY, no_proxy")
    assert said["mounted at /dpo/ca/SSL_CERT_FILE"] == (f"{bundle}, read-only", "-")
    assert "HTTPS_PROXY" not in said, "it is the same on both sides"


def test_what_must_be_staged_is_told_with_its_place() -> None:
    said = {one.what: one.there for one in found({}, local=large(), model_name="models/tiny")}
    assert said["model_name"] == f"staged once to /dpo/cache/staged/{'e' * 64}/tiny"
    assert said["datasets_path"] == f"staged once to /dpo/cache/staged/{'d' * 64}/answers"


def test_what_the_patch_of_the_pod_sets_is_told_with_its_place() -> None:
    where = ("launch", "kubernetes", "pod", "spec", "schedulerName")
    pod = {"spec": {"schedulerName": "volcano", "containers": [{"name": "trainer", "env": [FROM_FIELD]}]}}
    rows = {one.what: one for one in found({"kubernetes": {"pod": pod}}, origins={where: "e.yml:9"})}
    assert rows["pod: spec.schedulerName"].there == '"volcano" (e.yml:9)'
    assert rows["NODE"].there == "from fieldRef"


FROM_FIELD = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}


def test_a_user_that_the_namespace_gives_and_another_kind_of_volume_are_told() -> None:
    annotations = {"openshift.io/sa.scc.uid-range": "1000650000/10000"}
    volumes = {"runs": {"nfs": {"server": "nas", "path": "/runs"}}}
    rows = {one.what: one for one in found({"kubernetes": {"volumes": volumes}}, annotations=annotations)}
    assert rows["user"].there == "assigned by the namespace"
    assert rows["the run's folder"].there.endswith(f"runs/{RUN} on the volume runs")
