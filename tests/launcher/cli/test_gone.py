"""Runs whose Job is gone: what each verb tells of them, and that following its suggestions leads somewhere; played in-process."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import _run
from launcher.runs.run_dir import RunDir
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.certificates import served
from tests.cluster_api.played import arrived, reader
from trainer.processes.attempts import write_end
from trainer.processes.verdict import Ending

IMAGE = "registry.example.com/team/dpo@sha256:" + "a" * 64
CONFIG = f"""\
demo:
  experiment_id: 1
  model_name: team/model
  datasets_path: data
  hyperparameters: {{eval_strategy: "no", model_output_dir: out, beta: 0.3}}
  launch: {{gpus: 0, image: "{IMAGE}", memory: 3Gi, max_restarts: 1}}
"""
DATA = "prompt,chosen,rejected\nWhy?,Because.,No.\n"
GIB = 2**30


class Person:
    """Types commands in a directory with the experiment ``demo``."""

    def __init__(self, api: ClusterApi, claim: Path, capsys: pytest.CaptureFixture[str]):
        self.api, self.claim, self._capsys = api, claim, capsys

    def type(self, line: str) -> tuple[int, str]:
        """The exit code, and all that was printed."""
        self._capsys.readouterr()
        code = _run(shlex.split(line), debug=False)
        told = self._capsys.readouterr()
        return code, told.out + told.err

    def why(self, run: str = "first") -> str:
        return self.type(f"why {run} --cluster")[1].splitlines()[0].removeprefix("why").strip()

    def jobs(self) -> list[str]:
        return self.api.objects.names("jobs")


@pytest.fixture
def person(
    cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Person:
    for name in ("configs", "data", "claim"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")
    controllers.ready(cluster_api)
    found = Person(cluster_api, tmp_path / "claim", capsys)
    assert found.type("submit demo --name first --set hyperparameters.beta=0.2")[0] == 0
    return found


def started(person: Person, *, host: str = "node-1") -> tuple[str, RunDir]:
    """The run's pod, which has read its data, and its folder."""
    (pod,) = controllers.make_pods(person.api, "first", node=host)
    controllers.running(person.api, pod)
    person.api.log(pod).write('[rank 0] {"type": "train", "step": 3, "total_steps": 40, "loss": 0.6}\n')
    run = arrived(person.api, person.claim, "first", host=host, pod=pod)
    run.source.mkdir(exist_ok=True)
    (run.source / "training_data.csv").write_text(DATA)
    digest = hashlib.sha256(DATA.encode()).hexdigest()
    run.update_record(data=[{"role": "train", "name": "data/training_data.csv", "sha256": digest, "rows": 1}])
    return pod, run


def stopped(person: Person) -> None:
    _, run = started(person)
    (run.path / "checkpoint-20").mkdir()
    write_end(run, Ending("stopped", 143, "stopped on request, after a checkpoint"))
    person.api.objects.delete("jobs", "first")


def out_of_memory(person: Person) -> None:
    """The kernel kills the whole pod: the entry writes nothing; the TTL controller deletes what is left."""
    pod, _ = started(person)
    controllers.terminated(person.api, pod, 137, "OOMKilled")
    controllers.fail(person.api, "first")
    controllers.expire(person.api, "first")
    controllers.an_hour_passes(person.api)


def failed(person: Person) -> None:
    _, run = started(person)
    write_end(run, Ending("failed", 1, "ValueError: no such layer"))
    person.api.objects.delete("jobs", "first")


def taken(person: Person) -> None:
    """A Job of another experiment has the name of a run, as no reader could tell before it was created."""
    stopped(person)
    assert person.type("submit demo --name first")[0] == 0
    (pod,) = controllers.make_pods(person.api, "first")
    words = "run first exists already, with another experiment: /dpo/runs/out/exp_1/model/runs/first; take another --name"
    controllers.terminated(person.api, pod, 2, message=json.dumps({"code": 2, "sentence": words, "state": "failed"}))
    controllers.fail(person.api, "first", "PodFailurePolicy", "failed with exit code 2 matching FailJob rule at index 0")


def lost(person: Person) -> None:
    """Deleted before its pod had a folder."""
    person.api.objects.delete("jobs", "first")


WORLDS: list[tuple[Callable[[Person], None], bool]] = [
    (stopped, True), (out_of_memory, True), (failed, True), (taken, True), (lost, True), (stopped, False), (lost, False),
]  # fmt: skip
FIRST = (
    "why first --cluster", "status first --cluster", "logs first --cluster", "resume first --cluster", "stop first --cluster",
    "submit demo --name first", "submit demo --name first --set hyperparameters.beta=0.2", "ps -a --cluster",
    "rm first --cluster",
)  # fmt: skip
_SUGGESTED = re.compile(r"launcher ((?:why|status|logs|resume|stop|rm|run|submit|ps|doctor|download)\b[^\n;,()`]*)")
_ACTS = {"resume": (0,), "submit": (0,), "rm": (0,), "ps": (0,), "download": (0,), "doctor": (0, 1)}


def suggested(text: str) -> list[tuple[str, ...]]:
    """The commands in a message, as they are typed; those that come one after the other (`A; then B`) together."""
    found, end = list[tuple[str, ...]](), 0
    for match in _SUGGESTED.finditer(text):
        line = re.sub(r" (?:or|and|then|else|from|starts|lists|prints)\b.*", "", match[1].strip().removesuffix("."))
        line = line.replace("RUN", "first").replace(" -f", "")
        is_next = bool(found) and "; then " in text[end - 1 : match.start()] and "\n" not in text[end : match.start()]
        found = [*found[:-1], (*found[-1], line)] if is_next else [*found, (line,)]
        end = match.end()
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("world", "has_reader"), WORLDS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_no_chain_of_suggestions_goes_in_a_circle(person: Person, world: Callable[[Person], None], has_reader: bool) -> None:
    world(person)
    if has_reader:
        reader(person.api, person.claim)
    before = person.api.objects.snapshot()
    for first in FIRST:
        walk(person, (first,), [], before)


def walk(person: Person, lines: tuple[str, ...], path: list[str], before: Any) -> None:
    """Types ``lines``, and where the last one is refused or only tells something, what it suggests; always in the same world."""
    step = "; ".join(lines)
    assert step not in path, f"a circle: {' -> '.join([*path, step])}"
    if "EXP" in step or step.startswith("run "):
        return  # a new run
    person.api.objects.restore(before)
    code, told = 0, ""
    for line in lines:
        code, told = person.type(f"{line} --detach" if line.startswith("resume") else line)
    verb = lines[-1].split()[0]
    if code in _ACTS.get(verb, ()):
        return  # it acted, or lists what there is
    after = [one for one in suggested(told) if one[-1].split()[0] != "logs" or verb != "logs"]
    assert after or code == 0 or "another --name" in told, f"a dead end: {' -> '.join([*path, step])}\n{told}"
    for one in after:
        if code == 0 and one[-1] in path:
            continue  # it explains how a run is, which several verbs do in the same words
        walk(person, one, [*path, step], before)


def test_a_run_whose_job_is_gone_is_listed_explained_and_resumed(person: Person) -> None:
    stopped(person)
    reader(person.api, person.claim)
    code, told = person.type("ps --cluster")
    assert (code, told) == (0, "no runs yet; start one with: launcher submit EXP\n")
    listed = json.loads(person.type("ps -a --cluster --json")[1])
    assert [(one["run"], one["state"], one["exit_code"]) for one in listed] == [("first", "stopped", 143)]
    assert person.type("why first")[1] == (
        "why         first was stopped on request after step 3\n"
        "what to do  resume it with: launcher resume first (from checkpoint-20)\n"
    ).replace(" after step 3", "")
    assert "object      default (its Job is gone)\n" in person.type("status first")[1]
    code, told = person.type("resume first --detach")
    assert (code, person.jobs()) == (0, ["first"]), told
    assert told.splitlines()[-2:] == [
        "first resumes from checkpoint-20",
        "Started first. Follow it with: launcher logs -f first",
    ]
    assert json.loads(person.type("ps -a --cluster --json")[1])[0]["state"] == "starting"


def test_a_run_whose_job_is_gone_keeps_its_certificates_and_its_user(person: Person, tmp_path: Path) -> None:
    _, authority = served(tmp_path)
    lost(person)
    person.api.username = "eve@example.com"
    assert person.type(f"submit demo --name first --set launch.ca_bundle={authority}")[0] == 0
    before = person.api.objects.get("jobs", "first")
    stopped(person)
    reader(person.api, person.claim)
    person.api.username = "dana@example.com"
    code, told = person.type("resume first --detach")
    assert code == 0, told
    assert person.api.objects.get("configmaps", "first-ca")["data"] == {"ca.pem": authority.read_text()}
    after = person.api.objects.get("jobs", "first")
    assert (
        after["metadata"]["labels"]["dpo-launcher/user"] == before["metadata"]["labels"]["dpo-launcher/user"] == "eve-example.com"
    )
    env = {one["name"]: one.get("value") for one in after["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["SSL_CERT_FILE"] == "/dpo/ca/ca.pem"


def test_runs_whose_job_is_gone_are_not_listed_without_a_reader_and_that_is_said(person: Person) -> None:
    stopped(person)
    code, told = person.type("ps -a --cluster")
    assert code == 0
    assert "warning: runs whose Job is gone are not listed: cannot read the folders of runs: no TensorBoard pod runs" in told


def test_that_memory_ran_out_is_known_when_the_job_is_gone_if_anybody_has_looked_before(person: Person) -> None:
    reader(person.api, person.claim)
    pod, _ = started(person)
    controllers.terminated(person.api, pod, 137, "OOMKilled")
    controllers.fail(person.api, "first")
    before = person.why()
    assert before == f"{pod} was killed: it exceeded its memory limit of 3Gi (launch.memory)"
    controllers.expire(person.api, "first")
    assert controllers.pods_of(person.api, "first") == []
    assert person.why() == f"{pod} was killed: it exceeded its memory limit (launch.memory)"
    assert "exceeded its memory limit" in person.type("status first")[1]
    assert json.loads(person.type("ps -a --cluster --json")[1])[0]["state"] == "failed"


def test_that_memory_ran_out_is_known_from_the_entrys_note_if_nobody_has_looked(person: Person) -> None:
    reader(person.api, person.claim)
    pod, run = started(person)
    run.memory_note(1).write_text(json.dumps({"used": int(2.9 * GIB), "limit": 3 * GIB}))
    controllers.terminated(person.api, pod, 137, "OOMKilled")
    controllers.fail(person.api, "first")
    controllers.expire(person.api, "first")
    explained = json.loads(person.type("why first --json")[1])
    assert (explained["state"], explained["exit_code"], explained["cause"]) == ("failed", 137, "memory")
    assert explained["sentence"] == (
        f"{pod} on node-1 was killed without a message when it used 2.9 of 3.0 GiB: "
        "it probably exceeded its memory limit (launch.memory)"
    )


def test_a_drained_pod_is_known_after_the_restart(person: Person) -> None:
    reader(person.api, person.claim)
    pod, run = started(person)
    person.api.objects.is_graceful = True
    controllers.disrupt(person.api, pod, "EvictionByEvictionAPI", "Eviction API: evicting")
    person.api.objects.delete("pods", pod)
    assert person.why().startswith(f"{pod} was evicted on node-1 on request")  # somebody looks while it ends
    write_end(run, Ending("stopped", 143, "stopped on request, after a checkpoint"))
    person.api.objects.delete("pods", pod, grace=0)
    long_ago = "2026-11-01T10:00:00Z"
    person.api.objects.change("jobs", "first", lambda one: one["status"].update(startTime=long_ago))
    started(person, host="node-2")
    assert re.sub(r"\d+ s ago", "N s ago", person.why()) == (
        f"first runs: step 3 of 40, last output N s ago; restarted once: {pod} was evicted on node-1 on request: "
        "its node was drained, or removed by an autoscaler"
    )
    assert f"attempts    1  stopped (143)  {pod} on node-1: stopped on request" in person.type("status first")[1]
    person.api.objects.delete("configmaps", "first-ends")  # nobody looked: the record knows less
    assert person.why().endswith(
        f"; restarted: {pod} on node-1 was stopped by the cluster: drained, preempted, or deleted by a person"
    )


def test_after_a_sigkill_of_one_of_two_nodes_status_and_why_name_it_and_its_node_also_when_the_job_is_gone(
    person: Person,
) -> None:
    reader(person.api, person.claim)
    assert person.type("submit demo --name pair --nodes 2 --kind job")[0] == 0
    first, second = controllers.make_pods(person.api, "pair")
    person.api.objects.change("pods", second, lambda one: one["spec"].update(nodeName="node-2"))
    for pod in (first, second):
        controllers.running(person.api, pod)
        person.api.log(pod).write('[rank 1] {"type": "train", "step": 3, "total_steps": 40, "loss": 0.6}\n')
    controllers.terminated(person.api, second, 137)
    words = {"code": 1, "state": "failed", "is_consequence": True, "sentence": "rank 1 is gone: no heartbeat for 60 s"}
    controllers.terminated(person.api, first, 1, message=json.dumps(words))
    controllers.fail(person.api, "pair")
    told = f"{second} on node-2 was killed from outside (SIGKILL, exit code 137)"
    assert person.why("pair") == told
    assert f"state       failed (137)\nbecause     {told}\n" in person.type("status pair")[1]
    arrived(person.api, person.claim, "pair", pod=first)
    controllers.expire(person.api, "pair")
    assert person.why("pair") == told


def test_rm_removes_a_job_and_what_belongs_to_it_and_keeps_the_folder(person: Person) -> None:
    _, run = started(person)
    assert person.type("rm first") == (2, "error: first is running; stop it first with: launcher stop first\n")
    assert person.jobs() == ["first"]
    pod = controllers.pods_of(person.api, "first")[0]["metadata"]["name"]
    controllers.terminated(person.api, pod, 1)
    controllers.fail(person.api, "first")
    person.why()
    assert "first-ends" in person.api.objects.names("configmaps")
    code, told = person.type("rm first")
    assert code == 0
    assert told.startswith("first: removed Job first, ConfigMap first-ends")
    assert told.endswith("its folder /dpo/runs/out/exp_1/model/runs/first stays\n")
    left = [name for plural in ("jobs", "pods", "services", "configmaps") for name in person.api.objects.names(plural)]
    assert left == []
    assert run.record.is_file()


def test_what_a_submit_left_that_was_killed_half_way_is_named_and_removed(person: Person) -> None:
    _, run = started(person)
    for kind, plural in (("Service", "services"), ("ConfigMap", "configmaps")):
        for name in person.api.objects.names(plural):
            obj = person.api.objects.get(plural, name)
            metadata = {key: value for key, value in obj["metadata"].items() if key in ("name", "labels")}
            person.api.objects.delete(plural, name)
            person.api.objects.put({**obj, "kind": kind, "metadata": metadata})
    person.api.objects.delete("jobs", "first")
    shutil.rmtree(run.path)
    code, told = person.type("submit demo --name first")
    assert code == 1
    assert "ConfigMap first: was left by a submit of first that was ended before it created the run\n" in told
    assert told.endswith("    hint:     remove it with: launcher rm first -n default; or choose another --name\n")
    code, told = person.type("rm first -n default")
    assert (code, person.api.objects.names("services"), person.api.objects.names("configmaps")) == (0, [], [])
    assert told.endswith("left by a submit that was ended before it created the run\n")
    assert person.type("submit demo --name first")[0] == 0
    assert person.type("rm nothing -n default")[0] == 2, "a name that nothing has"


def test_a_whole_name_is_not_taken_for_the_beginning_of_another(person: Person) -> None:
    stopped(person)
    reader(person.api, person.claim)
    assert person.type("submit demo --name first-again")[0] == 0
    assert json.loads(person.type("status first --cluster --json")[1])["run"] == "first"


def test_a_sweep_whose_jobs_are_gone_is_found_and_resumed_by_its_name(person: Person) -> None:
    reader(person.api, person.claim)
    assert person.type("submit demo --sweep hyperparameters.beta=0.1,0.4 --name grid")[0] == 0
    for name in ("grid-1", "grid-2"):
        run = arrived(person.api, person.claim, name)
        write_end(run, Ending("failed", 1, "ValueError: no such layer"))
        person.api.objects.delete("jobs", name)
    told = json.loads(person.type("status grid --cluster --json")[1])
    assert [(one["run"], one["state"]) for one in (told if isinstance(told, list) else told["points"])] == [
        ("grid-1", "failed"),
        ("grid-2", "failed"),
    ]
    code, told = person.type("resume grid --cluster --detach")
    assert (code, person.jobs()) == (0, ["first", "grid-1", "grid-2"]), told
    labels = person.api.objects.get("jobs", "grid-2")["metadata"]
    assert (labels["labels"]["dpo-launcher/sweep"], labels["annotations"]["dpo-launcher/point"]) == ("grid", "2")
