"""What a job becomes as the objects of a cluster, without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from launcher.backends.kubernetes.follow.run import ClusterRun
from launcher.backends.kubernetes.render.placement import SMALL, Folder, Local
from launcher.backends.kubernetes.render.spec import KubernetesSpec, text
from launcher.errors import ExperimentError
from launcher.published import published_image
from tests.rendered import CASES, CSV, GOLDEN, RUN, large, rendered, small

KUBECTL = Path(sys.executable).with_name("kubectl")


def env(spec: KubernetesSpec) -> dict[str, str]:
    return {one["name"]: one["value"] for one in spec.container["env"] if "value" in one}


def config(spec: KubernetesSpec) -> dict[str, Any]:
    found = next(one for one in spec.objects if one["kind"] == "ConfigMap")
    return {name: json.loads(content) for name, content in found["data"].items()}


@pytest.mark.parametrize("name", CASES)
def test_what_render_prints(name: str) -> None:
    printed = text(rendered(**CASES[name]))
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("REWRITE_GOLDEN"):
        file.write_text(printed)
    assert printed == file.read_text()


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_is_what_is_sent(name: str) -> None:
    spec = rendered(**CASES[name])
    assert list(yaml.safe_load_all(text(spec))) == list(spec.objects)


def test_kubectl_reads_every_value_as_it_is_meant(tmp_path: Path) -> None:
    values = [
        "1e5",
        "0x10",
        "1_000",
        "y",
        "No",
        "on",
        "~",
        "null",
        "12:30",
        ".5",
        "-",
        "a: b",
        "# c",
        " d",
        "é\n\tf\n",
        "'",
        '"',
        "",
    ]
    spec = rendered({"env": {f"V{n}": value for n, value in enumerate(values)}})
    (tmp_path / "all.yaml").write_text(text(spec))
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\n")
    built = subprocess.run([KUBECTL, "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    order = {one["kind"]: n for n, one in enumerate(spec.objects)}
    read = sorted(yaml.safe_load_all(built), key=lambda one: (order[one["kind"]], one["metadata"]["name"]))
    assert read == sorted(spec.objects, key=lambda one: (order[one["kind"]], one["metadata"]["name"]))


def test_a_run_is_read_back_from_its_object_as_it_was_rendered() -> None:
    spec = rendered(namespace="team", **CASES["four-nodes-eight-gpus"])
    run = ClusterRun.of(spec.owner)
    assert (run.name, run.job, run.namespace, run.kind, run.key) == (RUN, spec.job, "team", "Job", "exp_1")
    assert (run.nodes, run.world, run.global_batch, run.image) == (4, 32, 128, spec.image.reference)
    assert run.folder == spec.folder == PurePosixPath(f"data/dpo/model/exp_1/Qwen3-0.6B/runs/{RUN}")
    assert spec.container["args"][-1] == str(run.path) == env(spec)["DPO_RUN_FOLDER"]


@pytest.mark.parametrize(
    ("kind", "has_jobset", "nodes", "made"),
    [
        ("auto", None, 1, "Job"),
        ("auto", True, 1, "Job"),
        ("auto", None, 2, "Job"),
        ("auto", False, 2, "Job"),
        ("auto", True, 2, "JobSet"),
        ("job", True, 2, "Job"),
        ("jobset", False, 1, "JobSet"),
    ],
)
def test_a_jobset_is_made_where_it_is_asked_for_or_served_and_of_use(kind, has_jobset, nodes, made) -> None:
    spec = rendered({"gpus": 0, "nodes": nodes, "kubernetes": {"kind": kind}}, has_jobset=has_jobset)
    assert spec.kind == spec.owner["kind"] == made
    assert (kind == "auto" and nodes > 1) == any(comment.startswith("kind: Job") for comment in spec.comments)


def test_a_restart_of_all_nodes_costs_as_many_failures_as_there_are_nodes() -> None:
    spec = rendered({"gpus": 0, "nodes": 4, "max_restarts": 3})
    assert spec.owner["spec"]["backoffLimit"] == 12
    jobset = rendered({"gpus": 0, "nodes": 4, "max_restarts": 3, "kubernetes": {"kind": "jobset"}}).owner["spec"]
    assert jobset["failurePolicy"]["maxRestarts"] == 3
    assert jobset["replicatedJobs"][0]["template"]["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize(
    ("launch", "requests", "limits"),
    [
        ({"gpus": 0}, ("500m", "4352Mi"), ("1", "4352Mi")),
        ({"gpus": 0, "processes": 3, "global_batch_size": 24}, ("1500m", "13056Mi"), ("3", "13056Mi")),
        ({"gpus": 2}, ("4", "50Gi"), ("8", "50Gi")),
        ({"gpus": 1, "shm_size": "8Gi"}, ("2", "32Gi"), ("4", "32Gi")),
        ({"gpus": 1, "cpus": 0.5, "memory": "64GB"}, ("500m", "62500000Ki"), ("500m", "62500000Ki")),
        ({"gpus": 1, "cpus": 12, "memory": "1.5Ti"}, ("12", "1536Gi"), ("12", "1536Gi")),
    ],
)
def test_a_pod_gets_the_memory_that_it_may_use_and_asks_for_cpus_and_disk(
    launch: dict[str, Any], requests: tuple[str, str], limits: tuple[str, str]
) -> None:
    resources = rendered(launch).container["resources"]
    gpus = {"nvidia.com/gpu": str(launch["gpus"])} if launch["gpus"] else {}
    kinds = ("cpu", "memory", "ephemeral-storage")
    assert resources["requests"] == dict(zip(kinds, (*requests, "1Gi"), strict=True))
    assert resources["limits"] == dict(zip(kinds, (*limits, "7Gi"), strict=True)) | gpus


def test_shared_memory_that_takes_all_of_the_memory_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"/dev/shm counts as memory and takes all of it \(16Gi of 8Gi\)"):
        rendered({"memory": "8Gi", "shm_size": "16Gi"})


@pytest.mark.parametrize(
    ("trained", "full", "grace"),
    [(10_000_000, False, 120), (2_000_000_000, True, 240), (None, False, 120), (None, True, 600)],
)
def test_a_stop_has_time_for_two_checkpoints_and_three_clocks_run_out_in_their_order(trained, full, grace) -> None:
    spec = rendered(trained=trained, hyperparameters={"full_finetuning": full})
    own = env(spec)
    clocks = (
        int(own["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]),
        int(own["DPO_GRACE"]),
        spec.pod["spec"]["terminationGracePeriodSeconds"],
    )
    assert clocks == (grace - 30, grace - 15, grace) == (spec.grace - 30, spec.grace - 15, spec.grace)


def test_a_container_on_a_cluster_is_told_what_one_on_an_engine_is() -> None:
    from launcher.backends.docker.spec import Person, Place, render
    from launcher.experiment.schema import Experiment
    from launcher.job.image import Image
    from launcher.job.job import plan

    e = Experiment.parse({"experiment_id": "1", "model_name": "a/b", "datasets_path": "d", "launch": {"gpus": 1}})
    me, caller = Person(1, 1, (), "you", Path("/home/you")), {"HOME": "/home/you", "AWS_REGION": "x"}
    place = Place(Path("/p"), 4, me, Image("i", "cuda"), Path("/s"), caller, lambda _: False)
    docker = render(plan(e, run=RUN, key="k", gpus_there=1), place).env
    ours = env(rendered({"gpus": 1}, caller={"AWS_REGION": "x"}))
    assert docker.keys() - ours.keys() == set()
    only = {"DPO_CONFIG", "DPO_TERMINATION_LOG", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCH_NCCL_ASYNC_ERROR_HANDLING"}
    assert ours.keys() - docker.keys() == only


def test_pods_get_the_caller_s_proxies_and_are_told_apart_from_this_machine() -> None:
    caller = {
        "HTTPS_PROXY": "http://me:hush@proxy:1", "HTTP_PROXY": "http://localhost:1", "NO_PROXY": ".svc",
        "AWS_CA_BUNDLE": "/ca.pem",
    }  # fmt: skip
    spec = rendered(caller=caller)
    assert {name: value for name, value in env(spec).items() if name in caller} == {
        "HTTP_PROXY": "http://localhost:1", "NO_PROXY": ".svc,localhost,127.0.0.1,.cluster.local",
    }  # fmt: skip
    assert spec.secret_keys == ("HTTPS_PROXY",)
    assert "HTTP_PROXY is http://localhost:1: in a pod that is the pod itself; use an address that it can reach" in spec.comments
    assert "AWS_CA_BUNDLE is not passed on: a pod has no /ca.pem; set launch.ca_bundle: /ca.pem" in spec.comments
    inside = rendered({"env": {"AWS_CA_BUNDLE": "/dpo/cache/ca.pem"}}, caller=caller)
    assert env(inside)["AWS_CA_BUNDLE"] == "/dpo/cache/ca.pem"
    assert not [one for one in inside.comments if "AWS_CA_BUNDLE" in one]


def test_what_lies_inside_the_cluster_is_reached_without_the_proxy() -> None:
    job = rendered({"gpus": 0, "nodes": 2}, caller={"https_proxy": "http://proxy:1", "no_proxy": " intern.example , .svc"})
    assert env(job)["NO_PROXY"] == env(job)["no_proxy"] == f"intern.example,.svc,localhost,127.0.0.1,.cluster.local,{job.job}"
    assert env(job)["MASTER_ADDR"].endswith(f".{job.job}")  # so that the entry of the Service fits it
    assert "NO_PROXY" not in env(rendered(caller={"NO_PROXY": ""}))
    mine = rendered({"env": {"NO_PROXY": "*"}}, caller={"HTTPS_PROXY": "http://proxy:1"})
    assert env(mine)["NO_PROXY"] == "*"


CERTIFICATES = {"AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}


def test_a_bundle_of_certificates_is_a_config_map_that_every_library_is_pointed_to() -> None:
    local = Local(small().data, CSV, ca="-----BEGIN CERTIFICATE-----")
    launch = {"ca_bundle": "team.pem", "env": {"CURL_CA_BUNDLE": "/etc/ssl/mine.pem"}}
    spec = rendered(launch, local=local, caller={"SSL_CERT_DIR": "/certs", "AWS_CA_BUNDLE": "/ca.pem"})
    made = next(one for one in spec.objects if one["metadata"]["name"] == f"{spec.job}-ca")
    assert (made["kind"], made["immutable"], made["data"]) == ("ConfigMap", True, {"ca.pem": "-----BEGIN CERTIFICATE-----"})
    mount = next(one for one in spec.container["volumeMounts"] if one["name"] == "ca")
    assert mount == {"name": "ca", "mountPath": "/dpo/ca", "readOnly": True}
    assert {"name": "ca", "configMap": {"name": f"{spec.job}-ca"}} in spec.pod["spec"]["volumes"]
    named = {name: value for name, value in env(spec).items() if name in {*CERTIFICATES, "SSL_CERT_DIR"}}
    assert named == {**dict.fromkeys(CERTIFICATES, "/dpo/ca/ca.pem"), "CURL_CA_BUNDLE": "/etc/ssl/mine.pem"}
    assert not [one for one in spec.comments if "not passed on" in one]


NO_KEY = (
    "report_to has wandb, and no key for it reaches the pod: set launch.secrets: [WANDB_API_KEY], or "
    "launch.env: {WANDB_MODE: offline}"
)
FROM_A_SECRET = {"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}}}


@pytest.mark.parametrize(
    ("launch", "caller", "is_told"),
    [
        ({}, {}, True),
        ({}, {"WANDB_API_KEY": "x"}, True),  # the caller's own variables are not passed on
        ({"secrets": ["WANDB_API_KEY"]}, {}, False),
        ({"env": {"WANDB_MODE": "offline"}}, {}, False),
        ({"env": ["WANDB_MODE"]}, {"WANDB_MODE": "disabled"}, False),
        ({"env": {"WANDB_MODE": "online"}}, {}, True),
        ({"kubernetes": {"pod": {"spec": {"containers": [{"name": "trainer", "env": [FROM_A_SECRET]}]}}}}, {}, False),
    ],
)
def test_a_tracker_that_would_have_no_key_is_told(launch: dict[str, Any], caller: dict[str, str], is_told: bool) -> None:
    told = rendered(launch, caller=caller, hyperparameters={"report_to": ["tensorboard", "wandb"]}).comments
    assert (NO_KEY in told) == is_told
    assert NO_KEY not in rendered(launch, caller=caller).comments


def test_the_first_nodes_name_is_the_one_that_kubernetes_gives_it() -> None:
    job = rendered({"gpus": 0, "nodes": 2})
    assert env(job)["MASTER_ADDR"] == f"{job.job}-0.{job.objects[0]['metadata']['name']}"
    assert job.pod["spec"]["subdomain"] == job.job
    jobset = rendered({"gpus": 0, "nodes": 2, "kubernetes": {"kind": "jobset"}})
    assert env(jobset)["MASTER_ADDR"] == f"{jobset.job}-node-0-0.{jobset.job}"
    assert "MASTER_ADDR" not in env(rendered({"gpus": 0}))


# --- Data and models


def test_small_data_travel_with_the_run_and_large_ones_are_staged_under_their_hash() -> None:
    spec = rendered()
    data = next(one for one in spec.objects if one["metadata"]["name"] == f"{spec.job}-data")
    assert data["data"] == {name: content.decode() for name, content in CSV.items()}
    mount = next(one for one in spec.container["volumeMounts"] if one["name"] == "inputs")
    assert mount == {"name": "inputs", "mountPath": "/dpo/data/data/answers", "readOnly": True}
    assert config(spec)["experiment.json"]["datasets_path"] == "data/answers"

    spec = rendered(local=large(), model_name="../models/tiny")
    targets = {one.setting: one.target for one in spec.staged}
    assert targets == {
        "datasets_path": f"/dpo/cache/staged/{'d' * 64}/answers",
        "model_name": f"/dpo/cache/staged/{'e' * 64}/tiny",
    }
    said = config(spec)["experiment.json"]
    assert {name: said[name] for name in targets} == targets
    assert spec.folder.parts[-3] == "tiny"


def test_with_a_bucket_inputs_are_staged_there_and_the_pods_get_its_keys() -> None:
    caller = {"AWS_ACCESS_KEY": "x", "AWS_SECRET_KEY": "x"}
    spec = rendered(local=large(), caller=caller, storage_config={"bucket_name": "b", "object_prefix": "/team/"})
    assert spec.staged[0].target == f"s3://b/team/staged/{'d' * 64}/answers"
    assert spec.secret_keys == ("AWS_ACCESS_KEY", "AWS_SECRET_KEY")


@pytest.mark.parametrize("size", [SMALL, SMALL + 1])
def test_what_is_small_is_what_a_config_map_holds(size: int) -> None:
    local = Local(Folder(Path("/p/d"), {"training_data.csv": size}, "d" * 64), {"training_data.csv": b"a" * size})
    assert bool(rendered(local=local).staged) == (size > SMALL)


@pytest.mark.parametrize(
    ("path", "said", "mount"),
    [
        ("./a/../b", "b", "/dpo/data/b"),
        ("/srv/answers", "answers", "/dpo/data/answers"),
        ("~/answers", "answers", "/dpo/data/answers"),
        ("../answers", "answers", "/dpo/data/answers"),
    ],
)
def test_local_data_have_a_place_below_the_data_root(path: str, said: str, mount: str) -> None:
    spec = rendered(datasets_path=path)
    assert config(spec)["experiment.json"]["datasets_path"] == said
    assert [one["mountPath"] for one in spec.container["volumeMounts"] if one["name"] == "inputs"] == [mount]


@pytest.mark.parametrize("path", ["s3://bucket/data", "hf://org/prefs@v1"])
def test_data_on_a_server_are_read_by_the_pods(path: str) -> None:
    for claims in ({}, {"data": "team-data"}):
        spec = rendered({"kubernetes": {"volumes": claims}}, local=Local(), datasets_path=path)
        assert config(spec)["experiment.json"]["datasets_path"] == path
        assert "inputs" not in [one["name"] for one in spec.container["volumeMounts"]]


def test_with_a_claim_for_data_relative_paths_lie_on_it_and_nothing_travels() -> None:
    spec = rendered({"kubernetes": {"volumes": {"data": "team-data"}}}, local=large(), model_name="models/tiny")
    assert (spec.staged, [one["kind"] for one in spec.objects]) == ((), ["Service", "ConfigMap", "Job"])
    assert config(spec)["experiment.json"]["datasets_path"] == "data/answers"
    assert {"name": "data", "mountPath": "/dpo/data", "readOnly": True} in spec.container["volumeMounts"]
    local = rendered({"kubernetes": {"volumes": {"data": "team-data"}}}, datasets_path="/srv/answers")
    assert config(local)["experiment.json"]["datasets_path"] == "/dpo/inputs/answers"


def test_a_file_that_is_no_text_or_whose_name_is_no_key_travels_whole() -> None:
    contents = {"training data (1).csv": b"\xff\xfe\x00", "sub/b.csv": b"a\r\nb"}
    local = Local(Folder(Path("/p/d"), {name: len(text) for name, text in contents.items()}, "d" * 64), contents)
    spec = rendered(local=local, train_filename="training data (1).csv", validation_filename="sub/b.csv")
    data = next(one for one in spec.objects if one["metadata"]["name"].endswith("-data"))
    assert (data["data"], data["binaryData"]) == ({"file-0": "a\r\nb"}, {"file-1": "//4A"})
    volume = next(one for one in spec.pod["spec"]["volumes"] if one["name"] == "inputs")["configMap"]
    assert volume["items"] == [{"key": "file-0", "path": "sub/b.csv"}, {"key": "file-1", "path": "training data (1).csv"}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"hyperparameters": {"model_output_dir": "/srv/models"}},
            "hyperparameters.model_output_dir: must be a path on the claim",
        ),
        ({"hyperparameters": {"model_output_dir": "../out"}}, "hyperparameters.model_output_dir: must be a path on the claim"),
        ({"hyperparameters": {"model_output_dir": "~/out"}}, "hyperparameters.model_output_dir: must be a path on the claim"),
        ({"save_processed_dataset": True, "output_processed_dir": "/x"}, "output_processed_dir: must be a path on the claim"),
        (
            {"hyperparameters": {"resume_from_checkpoint": "/x/checkpoint-5"}},
            "hyperparameters.resume_from_checkpoint: must be",
        ),
        (
            {"hyperparameters": {"model_cache_dir": "models"}},
            "hyperparameters.model_cache_dir: must be a folder that a pod",
        ),
        ({"datasets_path": "/dpo/data/a"}, "launch.kubernetes.volumes: has no claim for datasets_path: /dpo/data/a"),
        ({"datasets_path": "/dpo/else"}, "datasets_path: not a path in a pod"),
        ({"model_name": "/dpo/home/m"}, "model_name: not a path in a pod"),
        ({"train_filename": "../secret.csv"}, "datasets_path: ../secret.csv is outside datasets_path"),
        ({"train_filename": "other.csv"}, "datasets_path: data/answers/other.csv not found"),
        ({"local": Local()}, "datasets_path: folder data/answers not found"),
        ({"datasets_path": "/dpo/volumes/a/b"}, "datasets_path: not a path in a pod"),
    ],
)
def test_a_path_that_no_pod_has_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError) as error:
        rendered(**fields)
    assert str(error.value).startswith(said)


# --- What must not be in a manifest


def test_no_value_of_a_secret_is_in_a_manifest() -> None:
    caller = {"HF_TOKEN": "hf_planted", "LOGIN": "planted-login", "AWS_SECRET_KEY": "planted", "OTHER_TOKEN": "planted"}
    caller["CHAT_URL"] = "https://chat.example/planted"
    spec = rendered({"secrets": ["LOGIN"]}, caller=caller, storage_config={"bucket_name": "b"}, notify="CHAT_URL")
    assert spec.secret_keys == ("AWS_SECRET_KEY", "CHAT_URL", "HF_TOKEN", "LOGIN")
    assert "planted" not in text(spec)
    assert env(spec)["DPO_SECRETS"] == "/dpo/secrets"


def test_a_dollar_stays_a_dollar_where_kubernetes_would_put_a_variable() -> None:
    spec = rendered({"env": {"COST": "$(HOME) $$ $5"}}, hyperparameters={"model_output_dir": "$(HOME)"})
    assert env(spec)["COST"] == "$$(HOME) $$$$ $$5"
    assert spec.container["args"][-1].startswith("/dpo/runs/$$(HOME)/exp_1/")


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("registry.example.com:5000/a/b@sha256:" + "0" * 64, "IfNotPresent"),
        ("dpo-launcher:cpu-0123456789abcdef", "IfNotPresent"),
        ("registry.example.com:5000/a/b", "Always"),
        ("registry.example.com:5000/a/b:latest", "Always"),
        ("dpo:latest", "IfNotPresent"),
        ("localhost/dpo", "IfNotPresent"),
    ],
)
def test_an_image_that_may_have_changed_is_asked_for_again(image: str, policy: str) -> None:
    assert rendered(image=image).container["imagePullPolicy"] == policy


def test_pods_run_only_on_nodes_that_the_image_is_built_for() -> None:
    published = published_image("cpu")
    assert rendered({"gpus": 0}, image=published).pod["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    pool = {"gpus": 0, "kubernetes": {"node_selector": {"pool": "a"}}}
    assert rendered(pool, image=published).pod["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64", "pool": "a"}
    chosen = {"gpus": 0, "kubernetes": {"node_selector": {"kubernetes.io/arch": "arm64"}}}
    assert rendered(chosen, image=published).pod["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    removed = {"gpus": 0, "kubernetes": {"pod": {"spec": {"nodeSelector": {"kubernetes.io/arch": None}}}}}
    assert "kubernetes.io/arch" not in rendered(removed, image=published).pod["spec"].get("nodeSelector", {})
    assert "nodeSelector" not in rendered({"gpus": 0}).pod["spec"], "of another image this is not known"


def test_kueue_is_not_asked_to_start_a_run_with_fewer_nodes_than_it_has() -> None:
    annotations = {"kueue.x-k8s.io/job-min-parallelism": "1"}
    with pytest.raises(ValidationError, match=r"job-min-parallelism would start a run with fewer nodes than it has"):
        rendered({"gpus": 1, "nodes": 2, "kubernetes": {"queue": "research", "annotations": annotations}})
