"""Runs on a cluster, followed, stopped and resumed by the real client over HTTP; the emulator's control plane is played."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from launcher.backends import Status
from launcher.backends.kubernetes.api.cluster import ApiError, Cluster
from launcher.backends.kubernetes.backend import Kubernetes
from launcher.backends.kubernetes.follow import following, view
from launcher.backends.kubernetes.follow import logs as pod_logs
from launcher.backends.kubernetes.follow.again import start_again
from launcher.backends.kubernetes.follow.evidence import explain
from launcher.backends.kubernetes.follow.run import ClusterRun
from launcher.errors import LauncherError
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import Played, archived, reader
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of patience is a hundredth here."""
    for module, name in ((following, "_AWAY"), (view, "_AWAY"), (view, "_PAUSE"), (pod_logs, "_PAUSE"), (following, "_TICK")):
        monkeypatch.setattr(module, name, 0.02)
    monkeypatch.setattr(following, "_ASK", 0.1)
    monkeypatch.setattr(following, "_LINGER", 2.0)


@pytest.fixture
def kubernetes(cluster_api: ClusterApi) -> Kubernetes:
    return Kubernetes(Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)}), explain)


class Follower:
    """Follows a run in a thread of its own; ``text`` is what it was told so far."""

    def __init__(self, kubernetes: Kubernetes, played: Played, rank: int | None = 0, begin: int = 0):
        self.text, self.error = "", None
        self._pieces = kubernetes.follow(played.run, rank, begin)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for piece in self._pieces:
                self.text += piece
        except LauncherError as error:
            self.error = error

    def until(self, text: str) -> Follower:
        wait_for(lambda: text in self.text or self.error, lambda: f"{text!r} is not in {self.text!r}")
        return self

    def lines(self) -> list[str]:
        """All that it was told, when it has come to its end."""
        self._thread.join(120)
        assert not self._thread.is_alive(), f"it still follows, after: {self.text}"
        if self.error is not None:
            raise self.error
        return [line for line in self.text.splitlines() if not line.startswith("waiting: ")]


def test_a_run_is_followed_from_its_first_line_to_its_end(cluster_api, kubernetes):
    played = Played(cluster_api)
    follower = Follower(kubernetes, played)
    played.start()
    played.say("attempt 1 begins", None)
    for number in range(5):
        played.say(f"line {number}")
    follower.until("line 4")
    assert kubernetes.status(played.run) == Status("running")
    played.say("10%\r20%")
    played.end(0, "trained")
    controllers.complete(cluster_api, "first")
    assert follower.lines() == ["attempt 1 begins", *(f"line {n}" for n in range(5)), "10%", "20%"]
    assert kubernetes.status(played.run) == Status("done", 0, "trained")


def test_one_rank_or_all_of_them_of_two_nodes(cluster_api, kubernetes):
    played = Played(cluster_api, nodes=2, nproc=2)
    played.start()
    three, every = Follower(kubernetes, played, 3), Follower(kubernetes, played, None)
    for rank in range(4):
        played.say(f"here is {rank}", rank)
    played.say("torchrun begins", None, node=1)
    played.complete()
    assert three.lines() == ["here is 3"]
    assert sorted(every.lines()) == ["[node 1] torchrun begins", *(f"[rank {rank}] here is {rank}" for rank in range(4))]


def test_the_log_of_an_old_pod_is_finished_before_that_of_the_one_that_takes_its_place(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    follower = Follower(kubernetes, played)
    played.say("one")
    follower.until("one")
    old = played.pods()[0]
    cluster_api.fail(503, f"{old}/log", times=2, message="the kubelet is busy")
    cluster_api.log(old).write("[rank 0] two\n[rank 0] thr")
    cluster_api.cut(f"{old}/log")
    cluster_api.log(old).write("ee\n[rank 0] unended")
    played.end(1, "a peer is gone", "failed")
    played.start()
    played.say("four")
    played.complete()
    assert follower.lines() == ["one", "two", "three", "unended", "four"]


def test_a_log_that_drops_in_the_middle_of_lines_and_stamps_has_each_line_once(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    log = cluster_api.log(played.pods()[0])
    follower = Follower(kubernetes, played)
    at = time.time()
    for number in range(60):
        log.write(f"[rank 0] line {number}, ", at + number // 7)
        if number % 4 == 0:
            cluster_api.cut("/log")
        log.write("the second half of it\n")
        if number % 9 == 0:
            time.sleep(0.02)
    played.complete()
    assert follower.lines() == [f"line {number}, the second half of it" for number in range(60)]


def test_a_log_that_is_stamped_in_the_time_of_its_machine_goes_on_where_it_broke_off(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    cluster_api.log(played.pods()[0]).zone = -8
    follower = Follower(kubernetes, played)
    for number in range(6):
        played.say(f"line {number}")
        follower.until(f"line {number}")
        cluster_api.cut("/log")
    played.complete()
    assert follower.lines() == [f"line {number}" for number in range(6)]


def test_a_log_that_cannot_be_read_yet_is_waited_for(cluster_api, kubernetes):
    played = Played(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "first")
    controllers.waiting(cluster_api, pod)
    follower = Follower(kubernetes, played)
    wait_for(lambda: cluster_api.asked("GET", f"{pod}/log"))
    controllers.running(cluster_api, pod)
    played.say("at last")
    played.complete()
    assert follower.lines() == ["at last"]


def test_the_log_of_a_pod_that_has_no_node_yet_is_empty_and_waited_for(cluster_api, kubernetes):
    played = Played(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "first", node=None)
    follower = Follower(kubernetes, played)
    wait_for(lambda: len(cluster_api.asked("GET", f"{pod}/log")) > 1)
    cluster_api.log(pod)
    controllers.running(cluster_api, pod)
    played.say("at last")
    played.complete()
    assert follower.lines() == ["at last"]


def test_a_log_that_the_kubelet_of_a_new_pod_has_not_heard_of_is_waited_for(cluster_api, kubernetes):
    played = Played(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "first")
    words = f"the server could not find the requested resource ( pods/log {pod})"
    cluster_api.fail(404, f"{pod}/log", times=2, message=words, reason="NotFound")
    follower = Follower(kubernetes, played)
    wait_for(lambda: len(cluster_api.asked("GET", f"{pod}/log")) > 2)
    cluster_api.log(pod)
    controllers.running(cluster_api, pod)
    played.say("at last")
    played.complete()
    assert follower.lines() == ["at last"]


def test_a_watch_that_is_too_old_lists_again_and_one_that_drops_goes_on(cluster_api, kubernetes):
    played = Played(cluster_api)
    follower = Follower(kubernetes, played)
    wait_for(lambda: cluster_api.streams("watch=true") == 2)
    cluster_api.cut("watch=true")
    cluster_api.objects.forget()
    played.start()
    cluster_api.objects.forget()
    played.say("one")
    follower.until("one")
    cluster_api.cut("watch=true")
    cluster_api.bookmark()
    played.complete()
    assert follower.lines() == ["one"]


def test_a_server_that_is_away_is_said_once_and_waited_for(cluster_api, kubernetes):
    kubernetes.cluster.pauses = (0.01,)
    played = Played(cluster_api)
    played.start()
    follower = Follower(kubernetes, played)
    played.say("one")
    follower.until("one")
    cluster_api.stop()
    follower.until("retrying")
    time.sleep(0.2)
    played.say("two")
    cluster_api.start()
    follower.until("two").until("the cluster answers again")
    played.complete()
    lines = follower.lines()
    assert [line for line in lines if line in ("one", "two")] == ["one", "two"]
    assert len(lines) == 4
    assert sum("; retrying, the run continues" in line for line in lines) == 1


def test_a_verb_that_is_forbidden_ends_it_with_the_servers_words(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    cluster_api.deny("get", "pods/log")
    with pytest.raises(ApiError, match='User "dana" cannot get resource "pods/log"'):
        Follower(kubernetes, played).lines()


def test_what_a_run_waits_for_is_said_once_a_change(cluster_api, kubernetes):
    played = Played(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "first", node=None)
    controllers.unschedulable(cluster_api, pod, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    follower = Follower(kubernetes, played).until("waiting: no node can take")
    time.sleep(0.4)
    controllers.condition(cluster_api, "pods", pod, "PodScheduled", "True")
    controllers.waiting(cluster_api, pod, "ErrImagePull", "manifest unknown")
    follower.until("cannot pull dpo:1: image not found in the registry")
    controllers.running(cluster_api, pod)
    cluster_api.log(pod)
    played.complete()
    assert follower.lines() == []
    told = [line for line in follower.text.splitlines() if "cannot pull" in line or "no node can take" in line]
    assert len(told) == 2


def test_an_image_that_does_not_come_ends_the_following_and_says_why(cluster_api, kubernetes, monkeypatch):
    monkeypatch.setattr(following, "GIVE_UP", 0)
    played = Played(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "first")
    controllers.waiting(cluster_api, pod, "ImagePullBackOff", "manifest unknown")
    with pytest.raises(LauncherError) as raised:
        Follower(kubernetes, played).lines()
    assert "cannot pull dpo:1: image not found in the registry" in str(raised.value)
    assert "remove it with: launcher stop first" in str(raised.value)
    assert cluster_api.objects.find("jobs", "first") is not None


def test_a_pod_that_vanishes_is_read_on_from_the_archive_to_the_end(cluster_api, kubernetes, tmp_path):
    folder = reader(cluster_api, tmp_path)
    run = archived(folder, "first", logs__rank_0_dot_log="earlier\none\ntwo\n")
    played = Played(cluster_api)
    played.start()
    follower = Follower(kubernetes, played)
    played.say("one")
    follower.until("one")
    cluster_api.objects.delete("pods", played.pods()[0])
    cluster_api.cut("/log")
    follower.until("two")
    with (run / "logs" / "rank-0.log").open("a") as file:
        file.write("three\nfour")
    follower.until("three")
    played.start()
    played.say("three")
    played.complete()
    assert follower.lines() == ["one", "two", "three", "four"]


def test_without_a_reader_a_pod_that_vanishes_is_said_and_the_next_one_followed(cluster_api, kubernetes):
    played = Played(cluster_api)
    (old,) = played.start()
    follower = Follower(kubernetes, played)
    played.say("one")
    follower.until("one")
    cluster_api.objects.delete("pods", old)
    cluster_api.cut("/log")
    follower.until("was deleted; its last output is on the claim with the runs")
    played.start()
    played.say("two")
    played.complete()
    lines = follower.lines()
    assert (lines[0], lines[2:]) == ("one", ["two"])


def test_a_job_that_is_deleted_ends_the_following_with_what_its_pods_said(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    follower = Follower(kubernetes, played)
    played.say("one")
    follower.until("one")
    run = played.run
    played.end(143, "stopped on request, after a checkpoint", "stopped")
    time.sleep(0.2)
    cluster_api.objects.delete("jobs", "first")
    assert follower.lines()[0] == "one"
    assert kubernetes.status(run) == Status("stopped", 143, "stopped on request, after a checkpoint")


def test_the_log_so_far_is_the_pods_or_the_archives(cluster_api, kubernetes, tmp_path):
    folder = reader(cluster_api, tmp_path)
    archived(
        folder,
        "first",
        logs__rank_0_dot_log="from the archive\n",
        logs__rank_1_dot_log="one\ntwo",
        run_dot_json='{"key": "demo"}',
    )
    played = Played(cluster_api, nproc=2)
    played.start()
    played.say("from the pod")
    assert "".join(kubernetes.read(played.run)) == "from the pod\n"
    cluster_api.objects.delete("pods", played.pods()[0])
    assert "".join(kubernetes.read(played.run)) == "from the archive\n"
    assert "".join(kubernetes.read(played.run, None)) == "[rank 0] from the archive\n[rank 1] one\n[rank 1] two\n"
    cluster_api.objects.delete("jobs", "first")
    assert "".join(kubernetes.follow(archived_run(kubernetes, "first"))) == "from the archive\n"


def test_the_log_of_a_run_that_has_ended_reads_the_same_when_its_pods_are_gone(cluster_api, kubernetes, tmp_path):
    outcome = {"state": "done", "exit_code": 0, "sentence": "trained"}
    record = json.dumps({"attempts": [{"number": 1}], "outcome": outcome})
    archived(reader(cluster_api, tmp_path), "first", logs__rank_0_dot_log="step 1\nstep 2\n", run_dot_json=record)
    played = Played(cluster_api)
    played.start()
    for line in ("step 1", "step 2"):
        played.say(line)
    played.say("first: attempt 1: done, exit 0: trained", None)
    (pod,) = played.pods()
    played.complete()
    before = {rank: "".join(kubernetes.read(played.run, rank)) for rank in (0, None)}
    assert before[0] == "step 1\nstep 2\nfirst: attempt 1: done, exit 0: trained\n"
    cluster_api.objects.delete("pods", pod)
    assert {rank: "".join(kubernetes.read(played.run, rank)) for rank in (0, None)} == before


def test_the_log_of_a_run_one_of_whose_pods_was_deleted_is_the_archives(cluster_api, kubernetes, tmp_path):
    archived(reader(cluster_api, tmp_path), "first", logs__rank_0_dot_log="the first pod\nthe second pod\n", run_dot_json="{}")
    played = Played(cluster_api)
    begun = (datetime.now(UTC) - timedelta(seconds=12)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster_api.objects.change("jobs", "first", lambda job: job.setdefault("status", {}).update(startTime=begun))
    played.start()
    played.say("the second pod")
    assert "".join(kubernetes.read(played.run)) == "the first pod\nthe second pod\n"


def archived_run(kubernetes: Kubernetes, name: str) -> Any:
    found = kubernetes.archived(name, ["default"])
    assert found is not None
    return found


def test_without_a_pod_and_a_reader_it_is_said_what_would_have_to_be_there(cluster_api, kubernetes):
    played = Played(cluster_api)
    with pytest.raises(LauncherError) as raised:
        list(kubernetes.read(played.run))
    assert str(raised.value) == (
        "cannot read the folders of runs: no TensorBoard pod runs in namespace default\n"
        "    hint:     print the command that adds it with: launcher doctor --cluster -n default"
    )


def test_stop_suspends_the_job_and_resume_lets_it_go_on(cluster_api, kubernetes):
    controllers.play(cluster_api)
    cluster_api.objects.is_graceful = True
    played = Played(cluster_api)
    run = played.run
    assert kubernetes.grace(run) == 90
    assert kubernetes.stop(run).state == "running"
    job = cluster_api.objects.get("jobs", "first")
    assert job["spec"]["suspend"] is True
    assert set(job["metadata"]["annotations"]) >= {"dpo-launcher/stopped"}
    assert kubernetes.status(run) == Status("stopping", None, "writes a checkpoint")
    waiter = threading.Thread(target=kubernetes.wait, args=(run, print), daemon=True)
    waiter.start()
    (pod,) = played.pods()
    played.end(143, "stopped on request, after a checkpoint", "stopped")
    cluster_api.objects.delete("pods", pod, grace=0)
    clear_active(cluster_api)
    waiter.join(120)
    assert not waiter.is_alive()
    assert kubernetes.status(run) == Status("stopped", 143, "stopped on request")
    kubernetes.resume(run)
    job = cluster_api.objects.get("jobs", "first")
    assert job["spec"]["suspend"] is False
    assert "dpo-launcher/stopped" not in job["metadata"]["annotations"]
    assert kubernetes.status(run) == Status("running")


def clear_active(api: ClusterApi) -> None:
    api.objects.change("jobs", "first", lambda one: one["status"].update(active=0))


def test_stop_at_once_takes_the_pods_away(cluster_api, kubernetes):
    played = Played(cluster_api, nodes=2)
    played.start()
    clear_active(cluster_api)
    assert kubernetes.stop(played.run, now=True) == Status("aborted", 130, "killed on request")
    assert controllers.pods_of(cluster_api, "first") == []
    graces = [request.body["gracePeriodSeconds"] for request in cluster_api.asked("DELETE", "/pods/")]
    assert graces == [0, 0]


def test_a_run_in_a_queue_of_kueue_is_stopped_by_deleting_its_job(cluster_api, kubernetes):
    played = Played(cluster_api, queue="team")
    run = played.run
    assert kubernetes.stop(run).state == "starting"
    assert cluster_api.objects.find("jobs", "first") is None
    (request,) = cluster_api.asked("DELETE", "/jobs/first")
    assert request.body["propagationPolicy"] == "Foreground"
    with pytest.raises(LauncherError, match="was deleted just now; retry with: launcher resume first"):
        kubernetes.resume(run)


def test_a_stop_is_noted_by_the_clock_of_the_cluster_which_also_tells_when_pods_end(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    run, cluster_api.ahead = played.run, timedelta(minutes=-20)
    kubernetes.stop(run)
    noted = cluster_api.objects.get("jobs", "first")["metadata"]["annotations"]["dpo-launcher/stopped"]
    assert abs(datetime.now(UTC) + cluster_api.ahead - datetime.fromisoformat(noted)) < timedelta(minutes=1)


def test_a_failed_run_is_resumed_by_making_its_job_again_with_all_that_it_owned(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    played.fail(1, "the machine went down")
    run = played.run
    assert kubernetes.status(run) == Status("failed", 1, "the machine went down")
    kubernetes.resume(run)
    again = played.run
    assert (again.uid != run.uid, again.name, again.folder) == (True, run.name, run.folder)
    assert kubernetes.status(again).state == "starting"
    assert "dpo-launcher/resumed" in cluster_api.objects.get("jobs", "first")["metadata"]["annotations"]
    for kind in ("services", "configmaps"):
        (owner,) = cluster_api.objects.get(kind, "first")["metadata"]["ownerReferences"]
        assert owner["uid"] == again.uid


@pytest.mark.parametrize("name", ["a", "r", "r1", "a-b"])
def test_a_run_with_a_short_name_is_resumed_as_any_other(cluster_api, kubernetes, name):
    played = Played(cluster_api, name)
    played.start()
    played.fail(1, "the machine went down")
    kubernetes.resume(played.run)
    assert kubernetes.status(played.run).state == "starting"


def test_a_run_that_somebody_else_has_started_again_meanwhile_is_neither_removed_nor_made_again(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    played.fail(1, "the machine went down")
    seen, old = played.run, cluster_api.objects.get("jobs", "first")
    kubernetes.resume(seen)
    new = played.run.uid
    for act in (lambda: kubernetes.remove(seen), lambda: start_again(kubernetes.cluster, seen, old)):
        with pytest.raises(LauncherError, match="first was restarted by someone else just now") as raised:
            act()
        assert "hint:     see who with: launcher status first" in str(raised.value)
        assert cluster_api.objects.get("jobs", "first")["metadata"]["uid"] == new
    assert cluster_api.objects.names("services") == ["first"]


def test_what_would_refuse_the_job_that_is_made_again_says_so_while_the_old_one_is_there(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    played.fail(1, "the machine went down")
    before = cluster_api.objects.get("jobs", "first")
    cluster_api.refuse("no.example.com", lambda plural, obj: "not today")
    with pytest.raises(ApiError, match="not today"):
        kubernetes.resume(played.run)
    assert cluster_api.objects.get("jobs", "first") == before


def test_runs_are_listed_with_a_list_of_each_kind_of_owner_and_one_of_pods(cluster_api, kubernetes):
    cluster_api.addons.add("JobSet")
    for number in range(3):
        Played(cluster_api, f"run-{number}").start()
    done = Played(cluster_api, "done")
    done.start()
    done.complete()
    cluster_api.requests.clear()
    found = {one.run.name: one.status.state for one in kubernetes.runs("default")}
    assert found == {"run-0": "running", "run-1": "running", "run-2": "running", "done": "done"}
    assert [request.path.rsplit("/", 1)[1] for request in cluster_api.asked()] == ["jobs", "jobsets", "trainjobs", "pods"]


def test_the_last_metrics_are_those_of_the_pod_else_of_the_archive(cluster_api, kubernetes, tmp_path):
    played = Played(cluster_api)
    played.start()
    played.step(3)
    assert '"step": 3' in kubernetes.tail(played.run)[-1]
    cluster_api.objects.delete("pods", played.pods()[0])
    assert kubernetes.tail(played.run) == []
    archived(
        reader(cluster_api, tmp_path), "first", logs__dpo_train_steps_dot_jsonl='{"step": 4}\n', run_dot_json='{"run": "first"}'
    )
    assert kubernetes.tail(played.run) == ['{"step": 4}']
    assert kubernetes.record(played.run) == {"run": "first"}


def test_a_server_that_forgets_every_version_at_once_is_not_asked_without_a_pause(cluster_api, kubernetes, monkeypatch):
    monkeypatch.setattr(view, "_PAUSE", 1.0)
    played = Played(cluster_api)
    played.start()
    cluster_api.fail(410, "watch=true", times=None, reason="Expired", message="too old resource version")
    with view.View(kubernetes.cluster, played.run, view.Outage(print)):
        began = time.monotonic()
        cluster_api.requests.clear()
        time.sleep(1.5)
        asked = len(cluster_api.asked())
        assert asked <= 4 * (time.monotonic() - began) + 4, "two lists and two watches a second"


@pytest.fixture(autouse=True)
def _ends(cluster_api: ClusterApi) -> Iterator[None]:
    yield
    cluster_api.stop()


def test_a_jobset_is_followed_over_its_pods_and_stopped_as_a_whole(cluster_api, kubernetes):
    cluster_api.addons.add("JobSet")
    Played(cluster_api, nodes=2)
    job = cluster_api.objects.get("jobs", "first")
    cluster_api.objects.delete("jobs", "first")
    head = {name: job["metadata"][name] for name in ("name", "labels", "annotations")}
    template = {"spec": {key: value for key, value in job["spec"].items() if key != "selector"}}
    spec = {"replicatedJobs": [{"name": "node", "replicas": 1, "template": template}]}
    jobset = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": head, "spec": spec}
    run = ClusterRun.of(cluster_api.objects.put(jobset))
    assert (run.kind, kubernetes.grace(run)) == ("JobSet", 90)
    for index in range(2):
        own = {"jobset.sigs.k8s.io/jobset-name": "first", "batch.kubernetes.io/job-completion-index": str(index)}
        labels = {**template["spec"]["template"]["metadata"]["labels"], **own}
        container = {"name": "trainer", "image": "dpo:1"}
        cluster_api.objects.put(
            {"kind": "Pod", "metadata": {"name": f"p{index}", "labels": labels}, "spec": {"containers": [container]}}
        )
        controllers.running(cluster_api, f"p{index}")
        cluster_api.log(f"p{index}").write(f"[rank {index}] here\n")
    assert kubernetes.status(run) == Status("running")
    assert [(one.run, one.status.state) for one in kubernetes.runs("default")] == [(run, "running")]
    pieces = kubernetes.follow(run, None)
    kubernetes.stop(run)
    assert cluster_api.objects.get("jobsets", "first")["spec"]["suspend"] is True
    for index in range(2):
        controllers.terminated(cluster_api, f"p{index}", 143)
    assert sorted("".join(pieces).splitlines()) == ["[rank 0] here", "[rank 1] here"]
    assert kubernetes.status(run) == Status("stopped", 143, "its container exited with 143")
    kubernetes.resume(run)
    assert cluster_api.objects.get("jobsets", "first")["spec"]["suspend"] is False


def test_pods_that_run_on_without_their_job_are_told_as_running_and_end_when_they_are_asked_to(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    played.step(3)
    run = played.run
    cluster_api.objects.delete("jobs", "first", propagation="Orphan")
    told = Status("running", None, "its Job was deleted without its pods; they run on, and nothing restarts them")
    assert kubernetes.status(run) == told
    why = explain(kubernetes.cluster, run)
    assert why.sentence == "first runs: step 3 of 10, but its Job was deleted without its pods: nothing restarts them"
    cluster_api.objects.is_graceful = True
    assert kubernetes.stop(run) == told
    (pod,) = cluster_api.objects.list("pods")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 90


def test_pods_that_are_deleted_with_their_job_are_ending(cluster_api, kubernetes):
    played = Played(cluster_api)
    played.start()
    run = played.run
    cluster_api.objects.is_graceful = True
    cluster_api.objects.delete("jobs", "first")
    assert kubernetes.status(run) == Status("stopping", None, "its Job was deleted; its pods are ending")
