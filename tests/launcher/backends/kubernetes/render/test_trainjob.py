"""A run as a TrainJob: the same pod as a JobSet's, through what Kubeflow Trainer lets a TrainJob set, or a refusal by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.follow.run import ClusterRun
from launcher.backends.kubernetes.render.trainjob import CLUSTER, OWN, runtime, template_of
from launcher.errors import ExperimentError
from tests.cluster_api.trainer import jobset_of
from tests.pod_security import violations
from tests.rendered import CASES, rendered

K8S = Path(__file__).parents[5] / "k8s" / "trainjob"
WIDE: dict[str, Any] = {"gpus": 8, "nodes": 4, "global_batch_size": 128}


def trainjob(launch: dict[str, Any] | None = None, **fields: Any) -> Any:
    given = launch or {}
    return rendered({**given, "kubernetes": {**given.get("kubernetes", {}), "kind": "trainjob"}}, **fields)


def pod_by_trainer(spec: Any) -> Any:
    (job,) = jobset_of(runtime(CLUSTER), spec.owner)["replicatedJobs"]
    return job["template"]["spec"]["template"]


def refused(launch: dict[str, Any], **fields: Any) -> dict[str, str]:
    with pytest.raises(ExperimentError) as caught:
        trainjob(launch, **fields)
    return {one.where: one.what for one in caught.value.mistakes}


@pytest.mark.parametrize(("file", "kind"), [("runtime.yaml", OWN), ("cluster-runtime.yaml", CLUSTER)])
def test_the_runtime_that_is_applied_is_the_one_that_runs_are_made_for(file: str, kind: str) -> None:
    assert yaml.safe_load((K8S / file).read_text()) == runtime(kind)


def test_the_pods_are_those_of_a_jobset_but_for_what_trainer_decides() -> None:
    case = CASES["trainjob"]["launch"]
    settings = {**case, "kubernetes": {**case["kubernetes"], "kind": "jobset"}}
    wanted, spec = rendered(settings, caller={"HF_TOKEN": "x"}).pod, rendered(**CASES["trainjob"])
    made = pod_by_trainer(spec)
    (ours,), (theirs,) = wanted["spec"].pop("containers"), made["spec"].pop("containers")
    # By the tag the server pulls this image as the JobSet's pods say.
    assert (ours.pop("imagePullPolicy"), ours.pop("name"), theirs.pop("name")) == ("IfNotPresent", "trainer", "node")
    assert {one["name"]: one for one in theirs.pop("env")} == {one["name"]: one for one in ours.pop("env")}
    assert theirs == ours
    spread = made["spec"].pop("topologySpreadConstraints")[0], wanted["spec"].pop("topologySpreadConstraints")[0]
    assert spread[0]["matchLabelKeys"] == ["dpo-launcher/run"]
    assert spread[0]["whenUnsatisfiable"] == spread[1]["whenUnsatisfiable"] == "ScheduleAnyway"
    assert wanted["spec"].pop("subdomain") == spec.job  # JobSet fills it in
    assert made == wanted


def test_the_pods_of_a_trainjob_are_read_back_as_trainer_makes_them() -> None:
    spec = rendered(**CASES["trainjob"])
    assert template_of(spec.owner)["spec"] == spec.pod["spec"] == pod_by_trainer(spec)["spec"]
    of_kueue = {"manager": "kueue.x-k8s.io/manager", "trainingRuntimeSpec": {"template": {"spec": {}}}}
    patches = [of_kueue, *spec.owner["spec"]["runtimePatches"]]
    assert template_of({**spec.owner, "spec": {**spec.owner["spec"], "runtimePatches": patches}}) == spec.pod


def test_its_job_fails_restarts_and_stops_by_the_rules_of_a_jobset() -> None:
    ours = jobset_of(runtime(CLUSTER), trainjob(WIDE).owner)
    theirs = rendered({**WIDE, "kubernetes": {"kind": "jobset"}}).owner["spec"]
    assert (ours["failurePolicy"], ours["ttlSecondsAfterFinished"]) == (
        theirs["failurePolicy"],
        theirs["ttlSecondsAfterFinished"],
    )
    mine, other = (dict(one["replicatedJobs"][0]["template"]["spec"]) for one in (ours, theirs))
    for job in (mine, other):
        job.pop("template")
    told = json.loads(json.dumps(other).replace('"trainer"', '"node"'))
    assert mine == told


def test_it_is_a_run_of_the_runtime_of_the_namespace_or_of_the_cluster() -> None:
    spec = trainjob(WIDE)
    assert spec.owner["spec"]["runtimeRef"] == {"apiGroup": "trainer.kubeflow.org", "kind": CLUSTER, "name": "dpo-launcher"}
    assert trainjob(WIDE, own_runtime=True).owner["spec"]["runtimeRef"]["kind"] == OWN
    assert [one["kind"] for one in spec.objects] == ["ConfigMap", "ConfigMap", "TrainJob"]
    run = ClusterRun.of(spec.owner)
    assert (run.kind, run.container, run.selector) == ("TrainJob", "node", f"jobset.sigs.k8s.io/jobset-name={spec.job}")
    assert run.place.endswith(f"/trainjobs/{spec.job}")


def test_on_openshift_no_user_is_named_by_the_runtime_either() -> None:
    spec = trainjob(annotations={"openshift.io/sa.scc.uid-range": "1000700000/10000"})
    made = pod_by_trainer(spec)["spec"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & made["securityContext"].keys()
    assert violations(made) == []


def test_what_no_trainjob_can_set_is_refused_by_name() -> None:
    pod = {
        "spec": {
            "hostNetwork": True,
            "schedulerName": "volcano",
            "containers": [{"name": "trainer", "ports": [{"containerPort": 1}], "imagePullPolicy": "Always"}],
            "initContainers": [{"name": "first", "image": "x"}],
        }
    }
    said = refused({"max_restarts": 5, "kubernetes": {"priority_class": "low", "runtime_class": "nvidia", "pod": pod}})
    cannot = "cannot be set by a TrainJob: its runtimePatches have no such field"
    assert said == {
        "launch.max_restarts": "is decided by the runtime of a TrainJob (dpo-launcher: failurePolicy.maxRestarts)",
        "launch.kubernetes.priority_class": cannot,
        "launch.kubernetes.runtime_class": cannot,
        "launch.kubernetes.pod.spec.dnsPolicy": cannot,
        "launch.kubernetes.pod.spec.hostNetwork": cannot,
        "launch.kubernetes.pod.spec.schedulerName": cannot,
        "launch.kubernetes.pod.spec.initContainers": cannot,
        "launch.kubernetes.pod.spec.containers.trainer.ports": cannot,
        "launch.kubernetes.pod.spec.containers.trainer.imagePullPolicy": cannot,
    }


def test_an_own_rule_for_spreading_nodes_and_its_removal_are_refused() -> None:
    for rule in ([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}], None):
        pod = {"spec": {"topologySpreadConstraints": rule}}
        assert list(refused({**WIDE, "kubernetes": {"pod": pod}})) == ["launch.kubernetes.pod.spec.topologySpreadConstraints"]


def test_a_volume_that_is_mounted_twice_is_refused_as_trainjobs_list_mounts_by_volume() -> None:
    mounts = [{"name": "tmp", "mountPath": "/mnt/scratch"}]
    (where,) = refused({"kubernetes": {"pod": {"spec": {"containers": [{"name": "trainer", "volumeMounts": mounts}]}}}})
    assert where == "launch.kubernetes.pod.spec.containers.trainer.volumeMounts"
