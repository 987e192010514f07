"""Everything that would keep a run from starting, as a cluster shows it, each in a sentence with what mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.backends.kubernetes.api.cluster import ClusterError
from launcher.backends.kubernetes.follow.state import STOPPED
from launcher.backends.kubernetes.render.quantities import number, shown
from launcher.backends.kubernetes.render.together import together
from launcher.backends.kubernetes.submit.preflight import NotReady, Preflight, preflight
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from launcher.published import published_image
from tests.cluster_api import ClusterApi, controllers
from tests.launcher.backends.kubernetes.submit.preflighted import APPLY, facts_of, finding, findings, looked
from tests.rendered import RUN, rendered

LOCAL = "dpo-launcher:cuda-0123456789abcdef"


def test_a_cluster_that_is_ready(api: ClusterApi) -> None:
    assert looked(api) == Preflight((), ())
    looked(api).check()


def test_all_is_said_at_once(cluster_api: ClusterApi) -> None:
    cluster_api.deny("create", "jobs")
    controllers.node(cluster_api, "node-1")
    with pytest.raises(NotReady) as caught:
        looked(cluster_api, {"gpus": 1}, image=LOCAL, namespace="team").check()
    wheres = [one.where for one in caught.value.findings]
    assert wheres == ["namespace team", "namespace team", "claim dpo-runs", "claim dpo-cache", "nodes", "image"]
    assert str(caught.value).count("hint: ") == 6


def test_a_cluster_older_than_the_tested_ones_is_a_notice(api: ClusterApi) -> None:
    for minor in ("29", "30+"):
        api.minor = minor
        assert looked(api) == Preflight((), (f"Kubernetes 1.{minor[:2]} is older than the tested 1.31 to 1.36",))
    for minor in ("31", "37", ""):
        api.minor = minor
        assert looked(api) == Preflight((), ())


def test_a_cluster_whose_jobs_lack_what_restarts_need_is_refused(api: ClusterApi) -> None:
    api.minor = "28"
    assert finding(api) == (
        "Kubernetes: 1.28 ignores podReplacementPolicy: a restarted pod would run beside the one that is still ending\n"
        "    expected: 1.29 or newer (tested: 1.31 to 1.36)"
    )


def test_a_namespace_that_is_not_there(api: ClusterApi) -> None:
    controllers.claim(api, "dpo-runs", namespace="team")
    controllers.claim(api, "dpo-cache", namespace="team")
    said = f"namespace team: not found\n    hint:     create the namespace dpo with: {APPLY}; or choose another --namespace"
    assert finding(api, namespace="team") == said


def test_a_namespace_that_may_not_be_seen_is_taken_to_be_there(api: ClusterApi) -> None:
    api.deny("get", "namespaces")
    assert looked(api) == Preflight((), ())


def test_verbs_that_are_missing_are_named_by_resource(api: ClusterApi) -> None:
    for verb, resource in (("create", "jobs"), ("patch", "jobs"), ("delete", "services")):
        api.deny(verb, resource)
    assert findings(api) == [
        "namespace default: permission denied: create, patch jobs.batch (needed by submit)\n"
        "    hint:     ask the cluster's administrator for the Role in k8s/base/access.yaml, or choose another --namespace",
        "namespace default: permission denied: delete services (needed by submit)\n"
        "    hint:     ask the cluster's administrator for the Role in k8s/base/access.yaml, or choose another --namespace",
    ]


def test_who_follows_must_be_able_to_read_logs(api: ClusterApi) -> None:
    api.deny("get", "pods/log")
    assert findings(api) == []
    assert finding(api, follow=True).startswith("namespace default: permission denied: get pods/log (needed by logs)")


def test_the_secret_has_the_keys_that_the_run_reads(api: ClusterApi) -> None:
    more: dict[str, Any] = {"caller": {"HF_TOKEN": "x"}}
    launch = {"secrets": ["WANDB_API_KEY"]}
    push = "\n    hint:     launcher secrets push --namespace default"
    assert finding(api, launch, **more) == f"secret dpo-secrets: not found; the run reads HF_TOKEN, WANDB_API_KEY from it{push}"
    api.objects.put({"kind": "Secret", "metadata": {"name": "dpo-secrets"}, "data": {"HF_TOKEN": "eA=="}})
    assert finding(api, launch, **more) == f"secret dpo-secrets: has no key WANDB_API_KEY{push}"
    other = {"secrets": ["WANDB_API_KEY"], "kubernetes": {"secret": "ours"}}
    assert finding(api, other).endswith(f"{push} --name ours")
    api.objects.put({"kind": "Secret", "metadata": {"name": "dpo-secrets"}, "data": {"HF_TOKEN": "", "WANDB_API_KEY": ""}})
    assert findings(api, launch, **more) == []


def test_a_secret_that_may_not_be_read_is_not_checked(api: ClusterApi) -> None:
    api.deny("get", "secrets")
    found = looked(api, {"secrets": ["WANDB_API_KEY"]})
    assert found == Preflight((), ("secret dpo-secrets with WANDB_API_KEY not checked: permission denied",))


def test_a_run_without_secrets_asks_for_none(api: ClusterApi) -> None:
    looked(api)
    assert api.asked("GET", "/secrets") == []


def test_a_queue(api: ClusterApi) -> None:
    launch = {"kubernetes": {"queue": "research"}}
    assert finding(api, launch) == (
        "launch.kubernetes.queue: Kueue is not installed in the cluster\n    expected: no queue\n    found:    research"
    )
    api.addons.add("Kueue")
    assert finding(api, launch) == (
        "launch.kubernetes.queue: LocalQueue research not found in namespace default\n"
        "    hint:     list the queues with: kubectl -n default get localqueues"
    )
    api.objects.put({"kind": "LocalQueue", "metadata": {"name": "research"}, "spec": {"clusterQueue": "all"}})
    assert findings(api, launch) == []
    controllers.condition(
        api, "localqueues", "research", "Active", "False", "ClusterQueueDoesNotExist", "Can't submit new workloads"
    )
    assert finding(api, launch).startswith(
        "launch.kubernetes.queue: LocalQueue research is inactive: Can't submit new workloads\n"
    )
    api.deny("get", "localqueues")
    assert finding(api, launch).startswith("namespace default: permission denied: get localqueues.kueue.x-k8s.io")


def test_a_jobset_needs_its_add_on(api: ClusterApi) -> None:
    launch = {"kubernetes": {"kind": "jobset"}}
    assert (
        finding(api, launch)
        == "--kind jobset: JobSet is not installed in the cluster\n    hint:     use --kind job, which needs no add-on"
    )
    api.addons.add("JobSet")
    assert findings(api, launch) == []
    api.deny("create", "jobsets")
    assert finding(api, launch).startswith(
        "namespace default: permission denied: create jobsets.jobset.x-k8s.io (needed by submit)"
    )


@pytest.mark.parametrize("state", ["idle", "silent"])
def test_an_add_on_that_is_served_and_does_not_work_is_not_taken(state: str, api: ClusterApi) -> None:
    api.addons |= {"JobSet", "Kueue"}
    queue = {"kind": "LocalQueue", "metadata": {"name": "research"}, "spec": {}, "status": {}}
    api.objects.put(queue)
    launch = {"kubernetes": {"kind": "jobset"}}
    assert findings(api, launch) == findings(api, {"kubernetes": {"queue": "research"}}) == []
    getattr(api, state).update(api.addons)
    assert finding(api, launch) == (
        "--kind jobset: JobSet's CRD is installed, but its controller is probably down: its webhook did not answer a dry run\n"
        "    hint:     use --kind job, which needs no add-on"
    )
    assert not facts_of(api, rendered({"gpus": 0})).takes_jobsets
    assert finding(api, {"kubernetes": {"queue": "research"}}).splitlines()[0] == (
        "launch.kubernetes.queue: Kueue's CRDs are installed, but its controller is probably down: "
        "it did not suspend a Job of the queue in a dry run"
    )


def test_what_only_pods_are_refused_for_is_found_before_anything_is_created(api: ClusterApi) -> None:
    account = {"kubernetes": {"service_account": "trainer"}}
    hint = "    hint:     correct or remove launch.kubernetes."
    assert finding(api, account) == f"pod: service account trainer not found in the namespace\n{hint}service_account"
    runtime = finding(api, {"kubernetes": {"runtime_class": "gvisor"}})
    assert runtime.startswith(f"pod: RuntimeClass gvisor not found in the cluster\n{hint}runtime_class")
    api.objects.put({"kind": "ServiceAccount", "metadata": {"name": "trainer"}})
    api.objects.put({"kind": "RuntimeClass", "metadata": {"name": "gvisor"}})
    assert findings(api, {"kubernetes": {"service_account": "trainer", "runtime_class": "gvisor"}}) == []
    assert api.objects.names("pods") == [], "it was a dry run"


def test_a_pod_that_may_not_be_tried_is_a_warning_where_it_matters(api: ClusterApi) -> None:
    api.deny("create", "pods")
    assert looked(api) == Preflight((), ())
    found = looked(api, {"kubernetes": {"service_account": "trainer"}})
    assert found == Preflight((), ("service account and RuntimeClass not checked: permission denied",))


def test_a_policy_of_the_cluster_refuses_a_pod_with_the_status_of_an_invalid_one(api: ClusterApi) -> None:
    words = "ValidatingAdmissionPolicy 'registries' with binding 'registries' denied request: images come from registry.corp"
    api.fail(422, "/pods", method="POST", message=f'pods "dpo-launcher-probe-x7k2p" is forbidden: {words}', reason="Invalid")
    assert finding(api).startswith("pod: policy registries refuses the run's pods: images come from registry.corp\n")


def test_a_policy_against_pods_without_an_owner_takes_those_of_a_job(api: ClusterApi) -> None:
    def bare(plural: str, obj: dict[str, Any]) -> str | None:
        return "Bare Pods are not allowed." if plural == "pods" and not obj["metadata"].get("ownerReferences") else None

    api.refuse("validate.kyverno.svc-fail", bare)
    assert findings(api) == []


def test_what_a_policy_says_of_an_image_before_its_push_does_not_count(api: ClusterApi) -> None:
    def unpinned(plural: str, obj: dict[str, Any]) -> str | None:
        has_digest = plural != "pods" or "@sha256:" in obj["spec"]["containers"][0]["image"]
        return None if has_digest else "an image needs a digest"

    api.refuse("validate.kyverno.svc-fail", unpinned)
    said = "pod: admission webhook validate.kyverno.svc-fail refuses the run's pods: an image needs a digest\n"
    assert finding(api, image="registry.example.com/team/dpo:1", can_push=True).startswith(said)
    assert findings(api, image=LOCAL, can_push=True) == []
    account = {"kubernetes": {"service_account": "trainer"}}
    assert finding(api, account, image=LOCAL, can_push=True).startswith("pod: service account trainer not found")


def test_a_quota_that_wants_a_request_which_pods_do_not_have_is_found_before_anything_is_created(api: ClusterApi) -> None:
    words = "failed quota: team: must specify limits.ephemeral-storage for: trainer"
    api.fail(403, "/pods", method="POST", message=f'pods "dpo-launcher-probe-x7k2p" is forbidden: {words}', reason="Forbidden")
    assert finding(api).startswith("pod: quota team only accepts pods that set limits.ephemeral-storage for: trainer\n")


def test_a_webhook_that_knows_no_dry_run_refuses_nothing(api: ClusterApi) -> None:
    api.fail(
        400, "/pods", method="POST", message='admission webhook "x.example.com" does not support dry run', reason="BadRequest"
    )
    assert findings(api, {"kubernetes": {"service_account": "default"}}) == []


def test_a_quota_leaves_room(api: ClusterApi) -> None:
    launch = {"gpus": 0, "nodes": 2, "cpus": 3, "memory": "10Gi", "shm_size": "1Gi"}
    controllers.quota(
        api, "team", {"requests.cpu": "8", "memory": "30Gi", "pods": "10"}, {"requests.cpu": "1500m", "memory": "5Gi"}
    )
    assert findings(api, launch) == []
    controllers.quota(
        api, "team", {"requests.cpu": "8", "memory": "30Gi", "pods": "10"}, {"requests.cpu": "2500m", "memory": "15Gi"}
    )
    assert [one.splitlines()[0] for one in findings(api, launch)] == [
        "quota team: memory: 20Gi needed, 15Gi of 30Gi available",
        "quota team: requests.cpu: 6 needed, 5.5 of 8 available",
    ]


@pytest.mark.parametrize(
    ("hard", "used", "said"),
    [
        ({"requests.nvidia.com/gpu": "4"}, {}, "requests.nvidia.com/gpu: 8 needed, 4 of 4 available"),
        ({"limits.cpu": "10"}, {"limits.cpu": "9"}, "limits.cpu: 32 needed, 1 of 10 available"),
        ({"pods": "5"}, {"pods": "6"}, "pods: 1 needed, 0 of 5 available"),
        ({"count/jobs.batch": "3"}, {"count/jobs.batch": "3"}, "count/jobs.batch: 1 needed, 0 of 3 available"),
        ({"configmaps": "3"}, {"configmaps": "2"}, "configmaps: 2 needed, 1 of 3 available"),
        ({"services": "1", "count/services": "1"}, {}, None),
        ({"requests.storage": "1"}, {"requests.storage": "1"}, None),
    ],
)
def test_what_quotas_count(hard: dict[str, str], used: dict[str, str], said: str | None, api: ClusterApi) -> None:
    controllers.node(api, "big", gpus=8)
    controllers.quota(api, "team", hard, used)
    found = [one.splitlines()[0] for one in findings(api, {"gpus": 8})]
    assert found == ([f"quota team: {said}"] if said else [])


@pytest.mark.parametrize(("kind", "names"), [("job", []), ("jobset", ["count/jobs.batch", "services"])])
def test_a_quota_also_counts_what_the_controller_of_a_jobset_makes(kind: str, names: list[str], api: ClusterApi) -> None:
    """A JobSet without room for its Job or its Service is taken, and starts nothing."""
    api.addons.add("JobSet")
    hard = {"count/jobs.batch": "1", "services": "1"}
    controllers.quota(api, "team", hard, {} if kind == "job" else hard)
    found = [one.splitlines()[0] for one in findings(api, {"nodes": 2, "kubernetes": {"kind": kind}})]
    assert found == [f"quota team: {name}: 1 needed, 0 of 1 available" for name in names]


def test_a_quota_of_jobs_is_made_room_in_by_runs_that_are_over(api: ClusterApi) -> None:
    """Those that were stopped among them: their suspended Jobs have no end after which the cluster would remove them."""
    controllers.quota(api, "team", {"count/jobs.batch": "3"}, {"count/jobs.batch": "3"})
    room = "ask for more quota, or wait until other runs end; list them with: launcher ps --cluster"
    assert finding(api) == f"quota team: count/jobs.batch: 1 needed, 0 of 3 available\n    hint:     {room}"
    for day, name in enumerate(("old", "done", "alive"), 1):
        job = rendered({"gpus": 0}, run=name).owner
        api.objects.put({**job, "metadata": {**job["metadata"], "creationTimestamp": f"2026-11-0{day}T00:00:00Z"}})
    api.objects.change("jobs", "old", lambda job: job["metadata"]["annotations"].update({STOPPED: "2026-11-01T01:00:00Z"}))
    controllers.make_pods(api, "alive")
    assert finding(api).endswith("1 run that is over still has its Job: remove it, its folder stays, with: launcher rm old")
    controllers.complete(api, "done")
    also = "2 runs that are over still have their Jobs (also done): remove one, its folder stays, with: launcher rm old"
    assert finding(api).endswith(f"    hint:     {also}")
    assert len(api.asked("GET", "/jobs$")) > 1
    controllers.quota(api, "team", {"requests.cpu": "0"})
    api.requests.clear()
    assert "request less" in finding(api)
    listed = [one for one in api.asked("GET", "/jobs$") if "dpo-launcher/run=" not in one.query.get("labelSelector", "")]
    assert listed == [], "a quota of other things needs no list of runs"


def test_a_queue_that_does_not_cover_what_the_pods_request_is_a_warning(api: ClusterApi) -> None:
    """It may be an exclusion in Kueue's configuration, which nobody else can read."""
    api.addons.add("Kueue")

    def told(*covered: str) -> tuple[str, ...]:
        status = {"flavorsReservation": [{"name": "a100", "resources": [{"name": one, "total": "0"} for one in covered]}]}
        queue = {"kind": "LocalQueue", "metadata": {"name": "research"}, "spec": {"clusterQueue": "all"}}
        api.objects.put({**queue, "status": status})
        controllers.node(api, "big", gpus=8)
        return looked(api, {"gpus": 1, "kubernetes": {"queue": "research"}}).notices

    assert told("cpu", "memory", "nvidia.com/gpu", "pods") == told() == ()
    assert told("cpu", "memory") == (
        "queue research covers cpu, memory, and the pods also request nvidia.com/gpu: "
        "Kueue admits them only if its configuration excludes or transforms that",
    )


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("istio-proxy", 'keep it out with launch.kubernetes.labels: {sidecar.istio.io/inject: "false"}'),
        ("team-agent", "ask the cluster's administrator how to keep it out"),
    ],
)
def test_a_container_that_the_cluster_adds_is_told_with_what_keeps_it_out(name: str, out: str, api: ClusterApi) -> None:
    before = api.objects.mutate

    def inject(kind: Any, obj: dict[str, Any]) -> Any:
        if kind.plural == "pods" and (obj["metadata"].get("labels") or {}).get("sidecar.istio.io/inject") != "false":
            obj["spec"]["containers"].append({"name": name, "image": "mesh"})
            obj["spec"].setdefault("initContainers", []).append({"name": "native", "image": "mesh", "restartPolicy": "Always"})
        return before(kind, obj)

    api.objects.mutate = inject
    assert looked(api).notices == (
        f"the cluster adds the container {name} to the pods: the run does not end before it does, and a proxy may refuse the "
        f"nodes' connections; {out}",
    )
    assert looked(api, {"kubernetes": {"labels": {"sidecar.istio.io/inject": "false"}}}).notices == ()


def test_a_sidecar_and_a_large_init_container_count_too(api: ClusterApi) -> None:
    controllers.quota(api, "team", {"requests.memory": "6Gi", "limits.cpu": "4"})
    asked = {"requests": {"memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
    first = {"name": "first", "image": "x", "resources": {"limits": {"cpu": "8", "memory": "1Gi"}}}
    sidecar = {"name": "beside", "image": "x", "restartPolicy": "Always", "resources": asked}
    pod = {"spec": {"initContainers": [sidecar, first]}}
    assert findings(api, {"memory": "4Gi", "shm_size": "1Gi"}) == []
    found = [one.splitlines()[0] for one in findings(api, {"memory": "5Gi", "shm_size": "1Gi", "kubernetes": {"pod": pod}})]
    assert found == [
        "quota team: limits.cpu: 9 needed, 4 of 4 available",  # the init container beside the sidecar
        "quota team: requests.memory: 7Gi needed, 6Gi of 6Gi available",
    ]


def test_a_sweep_in_one_job_needs_room_for_all_pods_that_run_together(api: ClusterApi) -> None:
    controllers.quota(api, "team", {"pods": "2"})
    specs, jobs = [], []
    for point in range(4):
        notes = {"sweep": {"name": "grid", "point": point, "settings": [f"hyperparameters.beta=0.{point}"]}}
        specs.append(rendered({"gpus": 0}, run=f"grid-{point}", notes=notes))
        fields = {"experiment_id": "1", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": {"gpus": 0}}
        jobs.append(replace(plan(Experiment.parse(fields), run=f"grid-{point}", key="exp_1", gpus_there=0), notes=notes))
    facts = facts_of(api, specs[0])
    for parallel, said in ((2, []), (3, ["quota team: pods: 3 needed, 2 of 2 available"])):
        spec = together("grid", parallel, jobs, specs)
        found = preflight(spec, facts, namespace="default", can_push=False, is_named=False).findings
        assert [str(one).splitlines()[0] for one in found] == said
    assert "request less (--parallel, --gpus, launch.memory)" in str(found[0])


def test_a_quota_for_other_pods_does_not_count(api: ClusterApi) -> None:
    for number_, scopes in enumerate((["BestEffort"], ["Terminating"], ["CrossNamespacePodAffinity"])):
        spec = {"hard": {"pods": "0"}, "scopes": scopes}
        api.objects.put(
            {"kind": "ResourceQuota", "metadata": {"name": f"q{number_}"}, "spec": spec, "status": {"hard": {"pods": "0"}}}
        )
    assert findings(api) == []
    spec = {"hard": {"pods": "0"}, "scopes": ["NotBestEffort"]}
    api.objects.put({"kind": "ResourceQuota", "metadata": {"name": "ours"}, "spec": spec, "status": {"hard": {"pods": "0"}}})
    assert finding(api).startswith("quota ours: pods: 1 needed, 0 of 0 available")


@pytest.mark.parametrize(
    ("operator", "values", "priority", "counts"),
    [
        ("In", ["batch"], "batch", True),
        ("In", ["other"], "batch", False),
        ("In", ["batch"], None, False),
        ("NotIn", ["batch"], "batch", False),
        ("NotIn", ["batch"], "urgent", True),
        ("Exists", [], "batch", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], None, True),
        ("DoesNotExist", [], "batch", False),
    ],
)
def test_a_quota_for_a_priority_class_counts_pods_of_that_class(
    api: ClusterApi, operator: str, values: list[str], priority: str | None, counts: bool
) -> None:
    for name in ("batch", "urgent"):
        api.objects.put({"kind": "PriorityClass", "metadata": {"name": name}, "value": 1})
    expression = {"scopeName": "PriorityClass", "operator": operator, **({"values": values} if values else {})}
    spec = {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [expression]}}
    api.objects.put({"kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": spec, "status": {"hard": {"pods": "0"}}})
    found = findings(api, {"kubernetes": {"priority_class": priority}})
    assert [one.splitlines()[0] for one in found] == (["quota q: pods: 1 needed, 0 of 0 available"] if counts else [])


def test_a_slice_of_a_gpu_is_looked_for_on_the_nodes(api: ClusterApi) -> None:
    controllers.node(api, "whole", gpus=8)
    said = finding(api, {"gpus": 1, "kubernetes": {"gpu_resource": "nvidia.com/mig-3g.40gb"}})
    assert "2 have no nvidia.com/mig-3g.40gb (1 requested)" in said


def test_no_node_could_ever_hold_a_pod(api: ClusterApi) -> None:
    taint = {"key": "team", "value": "other", "effect": "NoSchedule"}
    controllers.node(api, "small", cpu="4", memory="16Gi", gpus=2)
    controllers.node(api, "theirs", gpus=8, taints=[taint])
    controllers.node(api, "away", gpus=8)
    api.objects.change("nodes", "away", lambda one: one["spec"].update(unschedulable=True))
    controllers.node(api, "ill", gpus=8)
    api.objects.change("nodes", "ill", lambda one: one["status"].update(conditions=[{"type": "Ready", "status": "Unknown"}]))
    said = finding(api, {"gpus": 8, "cpus": 16, "memory": "100Gi"})
    assert said.splitlines()[0] == (
        "nodes: no node fits a pod of the run: of 5 nodes: 1 is cordoned; 1 is not ready; 1 has no nvidia.com/gpu (8 requested); "
        "1 has the taint team=other:NoSchedule; 1 has too little cpu (16 requested); 1 has too little memory (100Gi requested); "
        "1 has too little nvidia.com/gpu (8 requested)"
    )
    allowed = (
        "if you may use the tainted nodes, set launch.kubernetes.tolerations: [{key: team, operator: Exists}]; or request less"
    )
    assert allowed in said
    assert "tainted" not in finding(api, {"gpus": 16}), "nor would a tolerance help"
    tolerated = {"key": "team", "operator": "Equal", "value": "other"}
    assert findings(api, {"gpus": 8, "kubernetes": {"tolerations": [tolerated]}}) == []


def test_the_node_of_a_gpu_is_tolerated_and_a_label_is_looked_for(api: ClusterApi) -> None:
    controllers.node(api, "gpu", gpus=1, taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}])
    assert findings(api, {"gpus": 1}) == []
    said = finding(api, {"gpus": 1, "kubernetes": {"node_selector": {"zone": "a"}}})
    assert "2 lack the label zone=a of launch.kubernetes.node_selector" in said


def test_nodes_of_another_architecture_than_the_image_are_told(api: ClusterApi) -> None:
    assert findings(api, image=published_image("cpu")) == []
    api.objects.change("nodes", "node-1", lambda node: node["metadata"]["labels"].update({"kubernetes.io/arch": "arm64"}))
    said = finding(api, image=published_image("cpu"))
    assert said.startswith("nodes: no node fits a pod of the run: of 1 node: 1 is not amd64, for which the image is built\n")


def test_nodes_that_tell_nothing_of_their_disks_take_a_pod_that_asks_for_none(api: ClusterApi) -> None:
    api.objects.change("nodes", "node-1", lambda node: node["status"]["allocatable"].pop("ephemeral-storage"))
    said = finding(api)
    assert "1 node: 1 has no ephemeral-storage (1Gi requested)" in said
    assert "lower the request of ephemeral-storage in launch.kubernetes.pod, or remove it with its limit (null)" in said
    nothing = {part: {"ephemeral-storage": None} for part in ("requests", "limits")}
    patch = {"spec": {"containers": [{"name": "trainer", "resources": nothing}]}}
    assert findings(api, {"kubernetes": {"pod": patch}}) == []


def test_a_cluster_may_get_its_nodes_later(api: ClusterApi) -> None:
    api.objects.delete("nodes", "node-1")
    assert looked(api, {"gpus": 8}) == Preflight((), ("the cluster has no nodes yet; the run waits for one",))


def test_nodes_that_may_not_be_listed_are_not_judged(api: ClusterApi) -> None:
    api.deny("list", "nodes")
    assert looked(api, {"gpus": 64}) == Preflight((), ("nodes not checked: permission denied",))


def test_an_image_of_this_machine(api: ClusterApi) -> None:
    assert finding(api, image=LOCAL).splitlines()[0] == f"image: {LOCAL} exists only on this machine; the cluster cannot pull it"
    assert findings(api, image=LOCAL, can_push=True) == []
    assert finding(api, image="sha256:" + "0" * 64).startswith("image: sha256:0000")
    assert findings(api, image="registry:5000/dpo-launcher:1") == []
    assert findings(api, image="pytorch/pytorch:2.13") == []
    controllers.node(api, "workstation", images=[f"docker.io/library/{LOCAL}"])
    assert findings(api, image=LOCAL) == []


def test_an_image_that_was_brought_by_hand_is_not_refused_where_nodes_may_not_be_listed(api: ClusterApi) -> None:
    api.deny("list", "nodes")
    found = looked(api, image=LOCAL)
    assert found.findings == ()
    assert found.notices == (
        "nodes not checked: permission denied",
        f"image {LOCAL} is in no registry: it starts only if the nodes already have this image (else submit with --registry)",
    )


def test_a_run_of_that_name(api: ClusterApi) -> None:
    spec = rendered({"gpus": 0})
    api.objects.put({**spec.owner, "metadata": dict(spec.owner["metadata"])})
    assert finding(api, is_named=True) == (
        f"--name {RUN}: a run with this name already exists (Job {spec.job})\n"
        f"    hint:     resume it with: launcher resume {RUN}; or choose another --name"
    )


def test_facts_are_asked_for_together(api: ClusterApi) -> None:
    api.delay = 0.05
    looked(api, {"kubernetes": {"kind": "jobset", "queue": "x"}, "secrets": ["A_TOKEN"]})
    assert len(api.requests) > 25
    reviews = api.asked("POST", "selfsubjectaccessreviews")
    asked = {tuple(one.body["spec"]["resourceAttributes"].get(name) for name in ("verb", "resource")) for one in reviews}
    assert {("create", "jobs"), ("patch", "configmaps"), ("delete", "services"), ("get", "persistentvolumeclaims")} <= asked
    assert all(one.body["spec"]["resourceAttributes"]["namespace"] == "default" for one in reviews)


def test_a_cluster_that_does_not_answer_is_no_finding(api: ClusterApi) -> None:
    spec = rendered({"gpus": 0})
    api.stop()
    with pytest.raises(ClusterError, match=r"cannot connect to .*: connection refused"):
        facts_of(api, spec)


def test_facts_survive_answers_that_fail_once(api: ClusterApi) -> None:
    for path in ("resourcequotas", "persistentvolumeclaims", "selfsubject", "nodes"):
        api.fail(503, path)
    assert looked(api) == Preflight((), ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("500m", 0.5), ("1.5", 1.5), (".5", 0.5), ("64Gi", 64 * 2**30), ("1Ki", 1024), ("1k", 1000), ("2Ei", 2**61),
        ("2E", 2e18), ("1e3", 1000), ("1E+2", 100), ("5e-1", 0.5), ("100n", 1e-7), ("0", 0), (8, 8),
    ],
)  # fmt: skip
def test_quantities(text: object, value: float) -> None:
    assert float(number(text)) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1K", "0x10", "1.2.3", "many"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        number(text)


def test_quantities_are_shown_as_people_read_them() -> None:
    amounts = {"memory": "1500Mi", "requests.memory": "512Mi", "cpu": "1500m", "nvidia.com/gpu": "8"}
    shown_ = {name: shown(name, number(text)) for name, text in amounts.items()}
    assert shown_ == {"memory": "1.465Gi", "requests.memory": "512Mi", "cpu": "1.5", "nvidia.com/gpu": "8"}


def test_each_thing_that_is_not_ready_is_an_error_of_its_own(api: ClusterApi) -> None:
    for name in ("dpo-runs", "dpo-cache"):
        api.objects.delete("persistentvolumeclaims", name)
    with pytest.raises(NotReady) as caught:
        looked(api).check()
    assert [text.partition(":")[0] for text in caught.value.texts] == ["claim dpo-runs", "claim dpo-cache"]
