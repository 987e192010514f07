"""A run is created whole or not at all, whatever the server does meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.backends.kubernetes.submit.creation import HalfWay, Interrupted, create, try_all
from launcher.backends.kubernetes.submit.preflight import NotReady
from tests.cluster_api import ClusterApi, controllers
from tests.rendered import rendered

_POLICY = (
    "jobs.batch \"one\" is forbidden: ValidatingAdmissionPolicy 'deadlines' with binding 'deadlines' denied request: "
    "a Job needs a deadline"
)
_ENDING = 'jobs.batch "one" is forbidden: unable to create new content in namespace default because it is being terminated'
KINDS = ("services", "configmaps", "jobs", "jobsets")


@pytest.fixture
def api(cluster_api: ClusterApi) -> ClusterApi:
    controllers.ready(cluster_api)
    cluster_api.addons.add("JobSet")
    return cluster_api


@pytest.fixture
def cluster(api: ClusterApi) -> Cluster:
    found = Cluster.connect({"KUBECONFIG": str(api.kubeconfig)})
    found.pauses = (0.01, 0.05)
    return found


def spec_of(**launch: Any) -> KubernetesSpec:
    return rendered({"gpus": 0, **launch})


def there(api: ClusterApi, namespace: str = "default") -> dict[str, list[str]]:
    return {kind: names for kind in KINDS if (names := api.objects.names(kind, namespace))}


def writes(api: ClusterApi) -> list[str]:
    """What was created, changed and deleted, in order; objects that were sent together in the order of their names."""
    said = [(one.method, one.path.rpartition("/")[2] if one.method == "POST" else one.path.rpartition("namespaces/default/")[2])
            for one in api.requests if one.method != "GET" and "dryRun" not in one.query]  # fmt: skip
    return [" ".join(one) for one in said]


def test_the_job_comes_last_and_owns_the_others(api: ClusterApi, cluster: Cluster) -> None:
    spec = spec_of()
    run = create(cluster, spec, "default")
    assert there(api) == {"services": [spec.job], "configmaps": [spec.job, f"{spec.job}-data"], "jobs": [spec.job]}
    done = writes(api)
    assert (sorted(done[:3]), done[3]) == (["POST configmaps", "POST configmaps", "POST services"], "POST jobs")
    assert sorted(done[4:]) == [f"PATCH configmaps/{spec.job}", f"PATCH configmaps/{spec.job}-data", f"PATCH services/{spec.job}"]
    assert (run.name, run.job, run.kind, run.namespace, run.folder) == (spec.run, spec.job, "Job", "default", spec.folder)
    cluster.delete(run.place)
    assert there(api) == {}


def test_a_jobset_owns_them_too(api: ClusterApi, cluster: Cluster) -> None:
    run = create(cluster, spec_of(nodes=2, kubernetes={"kind": "jobset"}), "default")
    assert there(api) == {"configmaps": [run.job, f"{run.job}-data"], "jobsets": [run.job]}
    (reference,) = api.objects.get("configmaps", run.job)["metadata"]["ownerReferences"]
    assert (reference["apiVersion"], reference["kind"], reference["uid"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet", run.uid)
    cluster.delete(run.place)
    assert there(api) == {}


def test_another_namespace(api: ClusterApi, cluster: Cluster) -> None:
    controllers.ready(api, "team")
    create(cluster, spec_of(), "team")
    assert (there(api), sorted(there(api, "team"))) == ({}, ["configmaps", "jobs", "services"])


def test_a_webhook_that_nobody_answers_is_named_with_what_works_without_it(api: ClusterApi, cluster: Cluster) -> None:
    api.silent.add("JobSet")
    spec = spec_of(nodes=2, kubernetes={"kind": "jobset"})
    with pytest.raises(NotReady) as caught:
        try_all(cluster, spec, "default")
    (only,) = caught.value.findings
    assert str(only).startswith(
        f"JobSet {spec.job}: the cluster cannot create it: admission webhook mjobset.kb.io does not answer: "
    )
    assert str(only).endswith("hint:     use --kind job, which needs no add-on")
    assert caught.value.exit_code == 48, "it may pass"


def test_a_trial_creates_nothing(api: ClusterApi, cluster: Cluster) -> None:
    try_all(cluster, spec_of(), "default")
    assert (there(api), len(api.asked("POST"))) == ({}, 4)


def test_a_trial_tells_that_the_cluster_suspends_what_is_in_no_queue(api: ClusterApi, cluster: Cluster) -> None:
    api.addons |= {"Kueue", "every Job"}
    assert [str(one) for one in try_all(cluster, spec_of(), "default")] == [
        "the cluster suspends a Job that is in no queue (Kueue's manageJobsWithoutQueueName): the run would wait for ever; "
        "submit it with --queue, and list the queues with: kubectl -n default get localqueues"
    ]
    assert try_all(cluster, spec_of(kubernetes={"queue": "research"}), "default") == []


def test_a_trial_tells_the_queue_into_which_the_cluster_puts_a_run_that_names_none(api: ClusterApi, cluster: Cluster) -> None:
    """A namespace with a LocalQueue called default. Pods in no queue request disk, which few queues cover: none would start."""
    before = api.objects.mutate

    def by_default(kind: Any, obj: dict[str, Any]) -> None:
        before(kind, obj)
        if kind.name == "Job" and "kueue.x-k8s.io/queue-name" not in obj["metadata"]["labels"]:
            obj["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "default"
            obj["spec"]["suspend"] = True

    api.objects.mutate = by_default
    (told,) = try_all(cluster, spec_of(), "default")
    assert str(told).startswith(
        "the cluster puts the run into queue default, as Kueue does where a namespace has a default queue: "
    )
    assert try_all(cluster, spec_of(kubernetes={"queue": "default"}), "default") == []


def test_a_trial_tells_all_that_is_refused(api: ClusterApi, cluster: Cluster) -> None:
    spec = spec_of()
    controllers.quota(api, "team", {"count/services": "0"})
    api.refuse("policy.example.com", lambda plural, _: "costs need a label cost-center" if plural == "jobs" else None)
    api.objects.put({"kind": "ConfigMap", "metadata": {"name": f"{spec.job}-data"}})
    with pytest.raises(NotReady) as caught:
        try_all(cluster, spec, "default")
    assert str(caught.value) == (
        f"Service {spec.job}: exceeded quota: team, requested: count/services=1, used: count/services=0, "
        "limited: count/services=0\n    hint:     launcher ps --cluster lists your runs; remove old ones with: launcher rm RUN\n"
        f"ConfigMap {spec.job}-data: an object with this name already exists\n    hint:     choose another --name\n"
        f"Job {spec.job}: admission webhook policy.example.com refuses it: costs need a label cost-center\n"
        "    hint:     do what the message asks, or ask the cluster's administrator"
    )


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda api: api.deny("create", "jobs"), "permission denied: jobs.batch is forbidden: "),
        (
            lambda api: api.addons.clear(),
            "the server could not find the requested resource\n    hint:     launcher doctor --cluster",
        ),
        (lambda api: api.refuse("old", lambda *_: "no", code=400), ": admission webhook old refuses it: no\n"),
        (
            lambda api: api.fail(500, "jobs", times=None, message="etcd is away"),
            "the dry run failed: etcd is away",
        ),
        (
            lambda api: api.fail(403, "jobs", times=None, message=_POLICY, reason="Forbidden"),
            ": policy deadlines refuses it: a Job needs a deadline\n    hint:     do what the message asks, or ask",
        ),
        (
            lambda api: api.fail(422, "jobs", times=None, message=_POLICY, reason="Invalid"),
            ": policy deadlines refuses it: a Job needs a deadline\n    hint:     do what the message asks, or ask",
        ),
        (
            lambda api: api.fail(403, "jobs", times=None, message=_ENDING, reason="Forbidden"),
            ": namespace default is being deleted, and takes no new objects\n    hint:     choose another --namespace",
        ),
    ],
)
def test_refusals_are_sentences(prepare: Any, said: str, api: ClusterApi, cluster: Cluster) -> None:
    prepare(api)
    with pytest.raises(NotReady) as caught:
        try_all(cluster, spec_of(kubernetes={"kind": "jobset"} if said.startswith("the server") else {}), "default")
    assert said in str(caught.value.findings[-1])


def test_a_policy_that_wants_a_queue_is_told_with_the_option(api: ClusterApi, cluster: Cluster) -> None:
    """Kueue's documentation recommends it. The server's message has several lines where Kyverno asks for it."""
    wants = (
        "ValidatingAdmissionPolicy 'queues' with binding 'queues' denied request: The label 'kueue.x-k8s.io/queue-name' is either"
    )
    api.fail(422, "jobs", times=None, message=f'jobs.batch "one" is forbidden: {wants}\nmissing or empty', reason="Invalid")
    with pytest.raises(NotReady) as caught:
        try_all(cluster, spec_of(), "default")
    first, hint = str(caught.value).splitlines()
    assert first.endswith(": policy queues refuses it: The label 'kueue.x-k8s.io/queue-name' is either missing or empty")
    assert hint == "    hint:     submit it with --queue; list the queues with: kubectl -n default get localqueues"


def test_what_the_schema_does_not_know_is_refused(api: ClusterApi, cluster: Cluster) -> None:
    spec = spec_of()
    spec.owner["spec"]["parallel"] = 1  # type: ignore[index]
    with pytest.raises(NotReady, match=r'the cluster rejects it: .* strict decoding error: unknown field "spec.parallel"$'):
        try_all(cluster, spec, "default")


@pytest.mark.parametrize("path", ["services", "configmaps", "jobs"])
def test_a_creation_that_is_refused_leaves_nothing(path: str, api: ClusterApi, cluster: Cluster) -> None:
    spec = spec_of()
    api.fail(403, f"/{path}$|/{path}[?]", method="POST", message="the quota was used up meanwhile", reason="Forbidden")
    with pytest.raises(HalfWay, match="the quota was used up meanwhile") as caught:
        create(cluster, spec, "default")
    assert (there(api), caught.value.left) == ({}, ())
    assert str(caught.value).startswith(f"{spec.run} not submitted: ")
    assert str(caught.value).endswith("\n    nothing was left behind")


def test_owners_that_cannot_be_set_are_a_failure(api: ClusterApi, cluster: Cluster) -> None:
    api.deny("patch", "configmaps")
    with pytest.raises(HalfWay, match="cannot patch"):
        create(cluster, spec_of(), "default")
    assert there(api) == {}


def test_an_answer_that_is_lost_is_no_failure(api: ClusterApi, cluster: Cluster) -> None:
    cluster.get("/version")
    for path in ("services", "configmaps", "jobs"):
        api.lose(path, method="POST")
    run = create(cluster, spec_of(), "default")
    assert sorted(there(api)) == ["configmaps", "jobs", "services"]
    assert run.uid == api.objects.get("jobs", run.job)["metadata"]["uid"]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_object_that_is_there_although_the_server_answered_with_a_failure_is_the_runs(
    status: int, api: ClusterApi, cluster: Cluster
) -> None:
    for path in ("services", "configmaps", "jobs"):
        api.lose(path, method="POST", status=status)
    run = create(cluster, spec_of(), "default")
    assert sorted(there(api)) == ["configmaps", "jobs", "services"]
    assert run.uid == api.objects.get("jobs", run.job)["metadata"]["uid"]


def test_a_job_that_may_be_there_after_two_failures_is_removed(api: ClusterApi, cluster: Cluster) -> None:
    api.lose("jobs", method="POST", status=504)
    api.fail(503, "jobs", method="POST")
    with pytest.raises(HalfWay, match="nothing was left behind") as caught:
        create(cluster, spec_of(), "default")
    assert (there(api), caught.value.exit_code) == ({}, 48)


def test_a_server_that_goes_away_half_way_is_named_with_what_it_keeps(api: ClusterApi, cluster: Cluster) -> None:
    spec = spec_of()
    cluster.get("/version")
    api.fail(503, "jobs", method="POST", times=None)
    api.fail(503, "services", method="DELETE", times=None)
    with pytest.raises(HalfWay) as caught:
        create(cluster, spec, "default")
    assert there(api) == {"services": [spec.job]}
    assert str(caught.value).endswith(f"\n    could not be removed: services/{spec.job} in default")


def test_an_interruption_leaves_nothing(api: ClusterApi, cluster: Cluster) -> None:
    import _thread

    interrupted = threading.Event()

    def strike(plural: str, _: Any) -> None:
        if plural == "jobs" and not interrupted.is_set():
            interrupted.set()
            _thread.interrupt_main()

    api.refuse("never", strike)
    with pytest.raises(Interrupted) as caught:
        create(cluster, spec_of(), "default")
    assert (there(api), caught.value.exit_code) == ({}, 130)
    assert "interrupted\n    nothing was left behind" in str(caught.value)


def test_an_object_of_somebody_else_is_left_alone(api: ClusterApi, cluster: Cluster) -> None:
    spec = spec_of()
    api.objects.put({"kind": "Service", "metadata": {"name": spec.job}})
    with pytest.raises(HalfWay, match="already exists"):
        create(cluster, spec, "default")
    assert there(api) == {"services": [spec.job]}


@pytest.mark.parametrize("differs", [{"user": "somebody"}, {"hyperparameters": {"beta": 0.5}}])
def test_an_object_of_somebody_else_is_not_taken_for_one_whose_answer_was_lost(
    differs: dict[str, Any], api: ClusterApi, cluster: Cluster
) -> None:
    """Two people submit one name, and the connection of one breaks before the server has stored anything."""
    mine, other = spec_of(), rendered({"gpus": 0}, **differs)
    cluster.get("/version")
    theirs = create(cluster, other, "default")
    uids = {kind: api.objects.get(kind, other.job)["metadata"]["uid"] for kind in ("services", "configmaps", "jobs")}
    for kind in ("services", "configmaps", "jobs"):
        api.fail(503, kind, method="POST")
    cluster.pauses = (0.01,)
    with pytest.raises(HalfWay, match="already exists"):
        create(cluster, mine, "default")
    assert {kind: api.objects.get(kind, theirs.job)["metadata"]["uid"] for kind in uids} == uids


def test_two_runs_of_one_experiment_do_not_meet(api: ClusterApi, cluster: Cluster) -> None:
    for name in ("first", "second"):
        spec = rendered({"gpus": 0}, run=name)
        try_all(cluster, spec, "default")
        create(cluster, spec, "default")
    assert there(api)["jobs"] == ["first", "second"]
