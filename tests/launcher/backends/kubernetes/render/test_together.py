"""The points of a sweep in one Job: what they share beside their pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from launcher.backends.kubernetes.follow.run import ClusterRun
from launcher.backends.kubernetes.render.placement import Local
from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.render.together import together
from launcher.experiment.schema import Experiment
from launcher.job.job import Job, plan
from tests.rendered import CSV, rendered, small


def points(
    launch: dict[str, Any], *, caller: dict[str, str] | None = None, **fields: Any
) -> tuple[list[Job], list[KubernetesSpec]]:
    """Two points of the sweep ``grid``, and what is rendered for each."""
    jobs, specs = [], []
    for number in (1, 2):
        notes = {"sweep": {"name": "grid", "point": number, "settings": [f"hyperparameters.beta=0.{number}"]}}
        specs.append(rendered(launch, run=f"grid-{number}", notes=notes, caller=caller, **fields))
        data = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch}
        job = plan(Experiment.parse({**data, **fields}), run=f"grid-{number}", key="exp_1", gpus_there=0)
        jobs.append(replace(job, notes=notes))
    return jobs, specs


def test_points_share_a_job_also_where_a_proxy_is_set() -> None:
    proxy = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "hub.example.com"}
    made = together("grid", 2, *points({"gpus": 0}, caller=proxy))
    env = {one["name"]: one.get("value") for one in made.container["env"]}
    assert env["HTTPS_PROXY"] == "http://proxy:3128"
    assert env["NO_PROXY"] == env["no_proxy"] == "hub.example.com,localhost,127.0.0.1,.svc,.cluster.local"


def test_each_point_without_a_claim_knows_where_its_own_copies_are() -> None:
    launch = {"gpus": 0, "kubernetes": {"volumes": {"runs": {"emptyDir": {}}}}}
    store = {"endpoint_url": "http://minio:9000", "region": "eu-west-1"}
    made = together("grid", 2, *points(launch, checkpoint_to="s3://ckpt/team", storage_config=store))
    whole = {**made.owner, "metadata": {**made.owner["metadata"], "namespace": "default"}}
    found = [(run.name, run.copies, run.store, run.region) for run in ClusterRun.every(whole)]
    assert found == [
        (name, f"s3://ckpt/team/exp_1/Qwen3-0.6B/{name}", "http://minio:9000", "eu-west-1") for name in ("grid-1", "grid-2")
    ]
    assert len({run.owner for run in ClusterRun.every(whole)}) == 1
    kept = together("grid", 2, *points({"gpus": 0}, checkpoint_to="s3://ckpt/team"))
    whole = {**kept.owner, "metadata": {**kept.owner["metadata"], "namespace": "default"}}
    assert [run.copies for run in ClusterRun.every(whole)] == [None, None], "their claim has the files"


def test_points_share_the_data_the_certificates_the_user_and_the_number_of_gpus() -> None:
    launch = {"gpus": 1, "ca_bundle": "team.pem", "kubernetes": {"volumes": {"mine": {"configMap": {"name": "of-mine"}}}}}
    local, jobs, specs = Local(small().data, CSV, ca="certificates"), [], []
    for number in (1, 2):
        notes = {"sweep": {"name": "grid", "point": number, "settings": [f"hyperparameters.beta=0.{number}"]}}
        specs.append(rendered(launch, run=f"grid-{number}", notes=notes, local=local, user="dana@example.com"))
        fields = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch}
        jobs.append(replace(plan(Experiment.parse(fields), run=f"grid-{number}", key="exp_1", gpus_there=1), notes=notes))
    made = together("grid", 2, jobs, specs)
    maps = {one["metadata"]["name"]: one for one in made.objects if one["kind"] == "ConfigMap"}
    assert list(maps) == ["grid", "grid-data", "grid-ca"]
    assert maps["grid-ca"]["data"] == {"ca.pem": "certificates"}
    named = {one["name"]: one["configMap"]["name"] for one in made.pod["spec"]["volumes"] if "configMap" in one}
    assert named == {"config": "grid", "inputs": "grid-data", "ca": "grid-ca", "mine": "of-mine", "stops": "grid-stops"}
    runs = ClusterRun.every({**made.owner, "metadata": {**made.owner["metadata"], "namespace": "default"}})
    assert [(run.name, run.user, run.gpus) for run in runs] == [
        ("grid-1", "dana@example.com", 1),
        ("grid-2", "dana@example.com", 1),
    ]
