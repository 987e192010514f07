"""The verbs for runs on a cluster as a person types them, in processes of their own; the control plane is played."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import Played, archived, metric, reader
from tests.run_folders import Made
from tests.waiting import finished, wait_for

REPOSITORY = Path(__file__).parents[3]
LAUNCHER = [sys.executable, "-m", "launcher"]
CONFIG = """\
demo:
  experiment_id: 1
  model_name: ./model
  datasets_path: data
  hyperparameters: {eval_strategy: "no", model_output_dir: out}
  launch: {kubernetes: {namespace: team}}
"""


class Terminal:
    """A person with a kubeconfig in a working directory."""

    def __init__(self, folder: Path, api: ClusterApi):
        self.folder = folder
        self.env = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(folder),
            "KUBECONFIG": str(api.kubeconfig),
            "CUDA_VISIBLE_DEVICES": "",
            "DOCKER_HOST": "unix:///no/such/engine",
            "PYTHONUNBUFFERED": "1",
        }

    def type(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        run = {"capture_output": True, "text": True, "timeout": 300, "check": False}
        return finished([*LAUNCHER, *args], cwd=self.folder, env=self.env | env, **run)  # type: ignore[call-overload]

    def begin(self, *args: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*LAUNCHER, *args], cwd=self.folder, env=self.env, **pipes)  # type: ignore[call-overload]


@pytest.fixture
def person(tmp_path: Path, cluster_api: ClusterApi) -> Iterator[Terminal]:
    yield Terminal(tmp_path, cluster_api)
    cluster_api.stop()


def timeless(text: str) -> str:
    return re.sub(r"\b(?:\d+ min )?\d+ s\b", "N s", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "yyyy-mm-dd hh:mm", text))


def test_ps_lists_the_runs_of_the_cluster_with_their_states(cluster_api: ClusterApi, person: Terminal) -> None:
    assert person.type("ps", "--cluster").stdout == "no runs yet; start one with: launcher submit EXP\n"
    done, bad, runs, waits = (Played(cluster_api, name, nodes=2) for name in ("done", "bad", "runs", "waits"))
    for played in (done, bad, runs):
        played.start()
    done.complete()
    bad.fail(42, "the experiment is wrong")
    controllers.make_pods(cluster_api, waits.name, node=None)
    listed = timeless(person.type("ps", "--cluster").stdout).splitlines()
    assert listed[0] == "RUN    STATE        NODES  HEALTH  USER  NAMESPACE  STARTED (UTC)     TOOK"
    assert sorted(listed[1:]) == [
        "bad    failed (42)  2      -       eve   default    yyyy-mm-dd hh:mm  N s",
        "done   done         2      -       eve   default    yyyy-mm-dd hh:mm  N s",
        "runs   running      2      -       eve   default    yyyy-mm-dd hh:mm  N s",
        "waits  starting     2      -       eve   default    yyyy-mm-dd hh:mm  N s",
    ]
    told = json.loads(person.type("ps", "-n", "default", "--json").stdout)
    assert {one["run"]: (one["state"], one["exit_code"], one["namespace"]) for one in told}["bad"] == ("failed", 42, "default")


def test_ps_of_this_machine_asks_no_cluster_and_says_how_to(cluster_api: ClusterApi, person: Terminal) -> None:
    assert person.type("ps").stdout == (
        "no runs yet; start one with: launcher run EXP\nruns on the cluster: launcher ps --cluster\n"
    )
    assert cluster_api.asked() == []
    assert person.type("ps", KUBECONFIG="/no/such/file").stdout == "no runs yet; start one with: launcher run EXP\n"


def test_a_namespace_that_an_experiment_names_is_looked_at_too(cluster_api: ClusterApi, person: Terminal) -> None:
    (person.folder / "configs").mkdir()
    (person.folder / "configs" / "demo.yml").write_text(CONFIG)
    Played(cluster_api, "mine")
    for obj in cluster_api.objects.list("jobs"):
        metadata = {**obj["metadata"], "namespace": "team", "name": "theirs", "uid": "u-2"}
        metadata["annotations"] = {**metadata["annotations"], "dpo-launcher/run": "theirs"}
        cluster_api.objects.put({**obj, "metadata": metadata})
    assert sorted(one["run"] for one in json.loads(person.type("ps", "--cluster", "--json").stdout)) == ["mine", "theirs"]
    assert [one["run"] for one in json.loads(person.type("ps", "-n", "team", "--json").stdout)] == ["theirs"]
    assert json.loads(person.type("status", "theirs", "--json").stdout)["namespace"] == "team"


def test_status_says_nodes_phases_restarts_step_loss_speed_and_what_is_left(cluster_api: ClusterApi, person: Terminal) -> None:
    played = Played(cluster_api, nodes=2)
    first, second = played.start()
    for step in (1, 2, 3):
        played.step(step)
    cluster_api.objects.change("jobs", "first", lambda one: one["status"].update(failed=1))
    assert timeless(person.type("status", "first").stdout) == (
        f"""\
run         first
experiment  demo
state       running
nodes       2 of 2 running
            0  node-1  Running  {first}
            1  node-1  Running  {second}
restarts    1
step        3/10
loss        0.6700
speed       8.0 pairs/s
left        about N s
started     yyyy-mm-dd hh:mm UTC
took        N s
user        eve
object      default/first (Job)
image       dpo:1
folder      /dpo/runs/out/exp_1/model/runs/first
"""
    )
    told = json.loads(person.type("status", "first", "--json").stdout)
    assert (told["step"], told["rate"], told["left"], told["restarts"]) == (3, 8.0, 7.0, 1)
    assert told["pods"][1] == {"name": second, "index": 1, "node": "node-1", "phase": "Running", "reason": ""}


def test_status_of_a_run_that_waits_says_why_a_pod_has_no_node(cluster_api: ClusterApi, person: Terminal) -> None:
    Played(cluster_api, nodes=2)
    one, two = controllers.make_pods(cluster_api, "first", node=None)
    controllers.unschedulable(cluster_api, two, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    told = person.type("status", "first").stdout
    assert "state       starting\nbecause     0 of 2 pods run\nnodes       0 of 2 running\n" in told
    assert f"            0  -  Pending                  {one}\n            1  -  Pending (Unschedulable)  {two}\n" in told


def test_status_of_a_run_that_failed_has_its_code_and_sentence(cluster_api: ClusterApi, person: Terminal) -> None:
    played = Played(cluster_api)
    played.start()
    played.fail(45, "out of memory: micro-batches of one pair did not fit")
    told = person.type("status", "demo").stdout
    assert "state       failed (45)\nbecause     out of memory on the device: micro-batches of one pair did not fit\n" in told


def test_a_name_is_looked_for_here_and_then_on_the_cluster(cluster_api: ClusterApi, person: Terminal) -> None:
    for name in ("alpha-1", "alpha-2", "beta"):
        Played(cluster_api, name, key="other" if name == "beta" else "demo")
    for word, expected in (("alpha-1", "alpha-1"), ("b", "beta"), ("other", "beta")):
        assert json.loads(person.type("status", word, "--json").stdout)["run"] == expected
    several, none = person.type("status", "alpha"), person.type("status", "gamma")
    assert several.returncode == none.returncode == 2
    assert sorted(several.stderr.splitlines()) == [
        "    default/alpha-1",
        "    default/alpha-2",
        "error: 'alpha' matches several runs; type more of the name:",
    ]
    assert none.stderr.startswith(
        "error: no runs yet; start one with: launcher run EXP\n    on the cluster: run 'gamma' not found"
    )
    assert none.stderr.endswith("; list all with: launcher ps --cluster -a\n")
    cluster_api.deny("list", "jobs")
    denied = person.type("stop", "beta")
    assert denied.returncode == 1
    assert denied.stderr.splitlines() == [
        "error: beta is not a run of this machine, and the cluster could not be searched: API server: jobs.batch is forbidden: "
        'User "dana" cannot list resource "jobs" in API group "batch" in the namespace "default" (403 Forbidden)',
        "    hint:     choose another namespace with -n, or ask the cluster's administrator for the Role in k8s/base/access.yaml",
    ]
    cluster_api.stop()
    assert person.type("stop", "beta").returncode == 48, "a server that cannot be reached just now"
    away = person.type("status", "gamma", KUBECONFIG="/no/such/file")
    assert away.stderr == "error: no runs yet; start one with: launcher run EXP\n"
    asked = person.type("status", "gamma", "--cluster", KUBECONFIG="/no/such/file")
    assert asked.stderr == "error: no cluster: /no/such/file not found (set in KUBECONFIG)\n"


def test_a_run_whose_job_is_gone_is_read_from_its_folder(cluster_api: ClusterApi, person: Terminal) -> None:
    record = {
        "run": "old",
        "key": "demo",
        "created": "2026-11-01T10:00:00+00:00",
        "experiment": {"launch": {"nodes": 2}},
        "outcome": {
            "state": "failed",
            "exit_code": 46,
            "sentence": "the loss is no number\n    hint:     another rate",
            "ended": "2026-11-01T10:01:00+00:00",
        },
    }
    folder = reader(cluster_api, person.folder)
    log = f"loading\n{metric(1)}\n"
    archived(folder, "old", run_dot_json=json.dumps(record), logs__rank_0_dot_log=log, logs__dpo_train_steps_dot_jsonl=metric(4))
    assert person.type("status", "old").stdout == (
        """\
run         old
experiment  demo
state       failed (46)
because     a health rule stopped it: the loss is no number
what to do  lower learning_rate; see its last steps with: launcher tensorboard -n default
step        4/10
loss        0.6600
started     2026-11-01 10:00 UTC
took        1 min 0 s
object      default (its Job is gone)
folder      /dpo/runs/out/exp_1/model/runs/old
"""
    )
    shown = "loading\nstep  1/10  loss 0.6900\n"
    assert person.type("logs", "old").stdout == person.type("logs", "old", "-f").stdout == shown
    assert person.type("logs", "old", "--rank", "all").stdout == "[rank 0] loading\n[rank 0] step  1/10  loss 0.6900\n"


def test_logs_follow_to_the_end_and_ctrl_c_leaves_the_run_alone(cluster_api: ClusterApi, person: Terminal) -> None:
    played = Played(cluster_api)
    played.start()
    played.say("loading")
    played.step(1)
    following, leaving = person.begin("logs", "-f", "first"), person.begin("logs", "-f", "first")
    assert leaving.stdout is not None
    assert leaving.stdout.readline() == "loading\n"
    leaving.send_signal(signal.SIGINT)
    out, _ = leaving.communicate(timeout=300)
    assert (leaving.returncode, out.splitlines()[-1]) == (130, "first continues")
    wait_for(lambda: cluster_api.streams("/log"))
    played.complete()
    out, _ = following.communicate(timeout=300)
    assert (following.returncode, out) == (0, "loading\nstep  1/10  loss 0.6900\n")
    beyond = person.type("logs", "first", "--rank", "7")
    assert (beyond.returncode, beyond.stderr) == (2, "error: --rank 7: first has the logs of ranks 0\n")


def test_logs_of_a_rank_without_a_line_name_the_ranks_that_have_some(cluster_api: ClusterApi, person: Terminal) -> None:
    played = Played(cluster_api, nodes=2)
    played.start()
    played.say("loading")
    silent = person.type("logs", "first", "--rank", "1")
    said = "notice: rank 1 of first has printed nothing; ranks with lines: 0\n"
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", said)
    played.complete()
    assert person.type("logs", "-f", "first", "--rank", "1").stderr == said


def test_why_explains_a_server_by_its_name_and_a_name_that_nothing_has_is_not_found(
    cluster_api: ClusterApi, person: Terminal
) -> None:
    labels = {"app.kubernetes.io/name": "dpo-launcher-serve", "dpo-launcher/serve": "first"}
    pod = {
        "metadata": {"name": "serve-first-6f-x7k2p", "labels": labels},
        "spec": {"containers": [{"name": "server", "image": "v:1"}]},
    }
    cluster_api.objects.put({"kind": "Pod", **pod})
    controllers.unschedulable(cluster_api, "serve-first-6f-x7k2p", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    told = json.loads(person.type("why", "serve-first", "--json").stdout)
    assert (told["run"], told["state"], told["cause"]) == ("serve-first", "starting", "unschedulable")
    controllers.running(cluster_api, "serve-first-6f-x7k2p")
    controllers.condition(cluster_api, "pods", "serve-first-6f-x7k2p", "Ready")
    assert "serve-first answers: serve-first-6f-x7k2p" in person.type("why", "serve-first").stdout
    nothing = person.type("why", "serve-frist")
    assert (nothing.returncode, "no runs yet" in nothing.stderr) == (2, True)


def test_why_names_the_queue_in_which_a_server_waits(cluster_api: ClusterApi, person: Terminal) -> None:
    """Kueue gates the pod of a Deployment that has its label."""
    labels = {"app.kubernetes.io/name": "dpo-launcher-serve", "dpo-launcher/serve": "first"}
    queue = {"kueue.x-k8s.io/queue-name": "serving", "kueue.x-k8s.io/managed": "true"}
    spec = {"containers": [{"name": "server", "image": "v:1"}], "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}
    cluster_api.objects.put({"kind": "Pod", "metadata": {"name": "serve-first-1", "labels": {**labels, **queue}}, "spec": spec})
    controllers.condition(
        cluster_api, "pods", "serve-first-1", "PodScheduled", "False", "SchedulingGated", "Scheduling is blocked"
    )
    told = person.type("why", "serve-first").stdout
    assert "the server pod waits in queue serving" in told
    assert "describe workloads" in told


def test_a_jobset_that_nobody_works_on_is_said_by_everything_that_looks_at_it(cluster_api: ClusterApi, person: Terminal) -> None:
    cluster_api.addons.add("JobSet")
    template = {"spec": {"completions": 2, "template": {"spec": {"containers": [{"name": "trainer", "image": "dpo:1"}]}}}}
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "run", "dpo-launcher/run": "first"}
    began = (datetime.now(UTC) - timedelta(minutes=2)).isoformat(timespec="seconds")
    head = {"name": "first", "labels": labels, "annotations": {"dpo-launcher/nodes": "2"}, "creationTimestamp": began}
    spec = {"replicatedJobs": [{"name": "node", "replicas": 1, "template": template}]}
    cluster_api.objects.put({"kind": "JobSet", "metadata": head, "spec": spec})
    words = "first waits for a controller: nothing in the cluster has acted on its JobSet for 2 min"
    why = person.type("why", "first").stdout
    assert words in why
    assert "submit it again with --kind job, which needs no add-on, after: launcher stop first" in why
    assert "nothing in the cluster acts on it" in person.type("status", "first").stdout
    following = person.begin("logs", "-f", "first")
    assert following.stdout is not None
    assert following.stdout.readline().startswith(f"waiting: {words}")
    following.kill()
    following.wait()


def test_a_queue_that_nobody_works_on_is_said_too(cluster_api: ClusterApi, person: Terminal) -> None:
    cluster_api.addons.add("Kueue")
    played = Played(cluster_api, queue="gpus")
    began = (datetime.now(UTC) - timedelta(minutes=3)).isoformat(timespec="seconds")
    cluster_api.objects.change("jobs", "first", lambda job: job["spec"].update(suspend=True))
    cluster_api.objects.change("jobs", played.name, lambda job: job["metadata"].update(creationTimestamp=began))
    words = "first waits in queue gpus, but Kueue has said nothing about it for 3 min: its controller probably does not run"
    assert words in person.type("why", "first").stdout
    assert words in " ".join(person.type("status", "first").stdout.split())


def test_stop_waits_for_the_checkpoint_and_resume_goes_on_and_follows(cluster_api: ClusterApi, person: Terminal) -> None:
    controllers.play(cluster_api)
    cluster_api.objects.is_graceful = True
    folder = reader(cluster_api, person.folder)
    archived(folder, "first", checkpoint_20__x="", **{"checkpoint-5__x": "", "checkpoint-10__x": ""})
    played = Played(cluster_api)
    played.say("before")
    played.step(1)
    stopping = person.begin("stop", "first")
    wait_for(lambda: cluster_api.objects.get("jobs", "first")["spec"].get("suspend"))
    (pod,) = played.pods()
    played.end(143, "stopped on request, after a checkpoint", "stopped")
    time.sleep(0.3)
    cluster_api.objects.delete("pods", pod, grace=0)
    cluster_api.objects.change("jobs", "first", lambda one: one["status"].update(active=0))
    out, _ = stopping.communicate(timeout=300)
    waiting = "first: waiting for the current step and a checkpoint (at most 90 s; kill it now with: launcher stop --now first)\n"
    end = (
        "stopped (exit 143): first was stopped on request\n"
        "what to do: resume it with: launcher resume first (from checkpoint-10)\n"
    )
    assert (stopping.returncode, out) == (0, waiting + end)
    assert person.type("stop", "first").stdout == "first has already ended\n" + end
    time.sleep(1)  # a pod that is made in the second of the old one is taken for that
    resuming = person.begin("resume", "first")
    wait_for(lambda: played.pods() or resuming.poll() is not None)
    assert played.pods(), resuming.communicate()
    played.say("after")
    played.complete()
    out, _ = resuming.communicate(timeout=300)
    lines = [line for line in out.splitlines() if not line.startswith("waiting: ")]
    assert lines[:2] == ["first resumes from checkpoint-10", "after"]
    assert lines[2:] == [
        "done: /dpo/runs/out/exp_1/model/runs/first",
        "adapter     /dpo/runs/out/exp_1/model/runs/first/adapter",
        "next        launcher download first -n default",
        "            launcher tensorboard -n default",
        "in Python   from peft import AutoPeftModelForCausalLM",
        '            model = AutoPeftModelForCausalLM.from_pretrained("first")',
    ]
    again = person.type("resume", "first")
    longer = "launcher submit EXP --set hyperparameters.num_train_epochs=N --set hyperparameters.resume_from_checkpoint=true"
    hint = f"    hint:     to train longer from its last checkpoint: {longer}\n"
    assert (again.returncode, again.stderr) == (2, f"error: first is done: nothing to resume\n{hint}")


def test_ps_of_a_cluster_tells_how_to_list_its_older_runs(cluster_api: ClusterApi, person: Terminal) -> None:
    for number in range(12):
        played = Played(cluster_api, f"run-{number}")
        played.start()
        played.complete()
    lines = person.type("ps", "--cluster").stdout.splitlines()
    assert (len(lines), lines[-1]) == (12, "… and 2 older runs: launcher ps --cluster -a")
    assert len(person.type("ps", "--cluster", "-a").stdout.splitlines()) == 13


def test_tensorboard_of_the_cluster_is_at_a_port_of_this_machine(cluster_api: ClusterApi, person: Terminal) -> None:
    missing = person.type("tensorboard", "--cluster", "--port", "0")
    assert missing.returncode == 2
    reader(cluster_api, person.folder)
    shown = person.folder / "shown"
    shown.mkdir()
    (shown / "index.html").write_text("TensorBoard")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(shown))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster_api.ports["default", "reader-1", 6006] = server.server_address[1]
        port = free_port()
        serving = person.begin("tensorboard", "--cluster", "--port", str(port))
        assert serving.stdout is not None
        line = serving.stdout.readline()
        assert line == f"TensorBoard shows the runs of namespace default at http://localhost:{port}/ (Ctrl-C stops it)\n"
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=30).read() == b"TensorBoard"
        serving.send_signal(signal.SIGINT)
        assert serving.wait(300) == 0
        server.shutdown()


def test_the_adapter_of_a_run_on_the_cluster_is_downloaded(cluster_api: ClusterApi, person: Terminal) -> None:
    folder = reader(cluster_api, person.folder)
    Played(cluster_api)
    none = person.type("download", "first")
    assert (none.returncode, none.stderr) == (2, "error: first has no adapter on the claim (state: starting)\n")
    archived(folder, "first", **{"adapter/adapter_config.json": "{}", "run.json": "{}"})
    assert person.type("download", "first").stdout.endswith(
        "Downloaded 1 file (2 B) to first\n"
        "Load it in Python: from peft import AutoPeftModelForCausalLM; "
        'model = AutoPeftModelForCausalLM.from_pretrained("first")\n'
    )
    assert (person.folder / "first" / "adapter_config.json").read_text() == "{}"
    assert "first is complete: 1 file (2 B), nothing to download\n" in person.type("download", "first").stdout
    early = person.type("download", "first", "--all")
    assert early.stderr == "error: first is starting and its folder still changes; download its adapter without --all\n"
    cluster_api.objects.delete("jobs", "first")
    assert person.type("download", "first", "--all", "--to", "whole").returncode == 0
    assert (person.folder / "whole" / "run.json").is_file()


def test_the_adapter_of_a_run_on_the_cluster_is_uploaded_from_there_or_after_a_download(
    cluster_api: ClusterApi, person: Terminal
) -> None:
    Played(cluster_api)
    done = person.type("upload", "first")
    assert (done.returncode, done.stderr) == (
        2,
        "error: first is on the cluster, and so is its adapter. If its upload failed, resume it with: launcher resume first\n"
        "    else: launcher download first, then launcher upload ./first --experiment demo\n",
    )


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def experiment(folder: Path) -> None:
    """One that needs nothing but two CSV files."""
    for name in ("configs", "data"):
        (folder / name).mkdir()
    text = CONFIG.replace("./model", "Qwen/Qwen3-0.6B").replace(
        "{kubernetes: {namespace: team}}", "{image: registry.example.com/dpo:1}"
    )
    (folder / "configs" / "demo.yml").write_text(text)
    (folder / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")


def ready(cluster_api: ClusterApi) -> None:
    """What preflight looks for."""
    controllers.node(cluster_api, "node-1")
    for claim in ("dpo-runs", "dpo-cache"):
        controllers.claim(cluster_api, claim)


@pytest.mark.parametrize("command", [("run", "demo", "--cluster"), ("submit", "demo", "--follow")])
def test_a_run_on_the_cluster_is_followed_and_ends_with_its_code(
    cluster_api: ClusterApi, person: Terminal, command: tuple[str, ...]
) -> None:
    experiment(person.folder)
    ready(cluster_api)
    following = person.begin(*command, "--name", "first", "--set", "launch.gpus=0")
    wait_for(lambda: cluster_api.objects.find("jobs", "first") or following.poll() is not None)
    assert following.poll() is None, following.communicate()[0]
    (pod,) = controllers.make_pods(cluster_api, "first")
    controllers.running(cluster_api, pod)
    cluster_api.log(pod).write(f"[rank 0] before\n[rank 0] {metric(1)}\n")
    said = json.dumps({"code": 46, "sentence": "the loss is no number", "state": "failed"})
    controllers.terminated(cluster_api, pod, 46, message=said)
    controllers.fail(cluster_api, "first", "PodFailurePolicy", "failed with exit code 46 matching FailJob rule at index 0")
    out, _ = following.communicate(timeout=300)
    assert following.returncode == 46, out
    lines = out.splitlines()
    assert "created     Job first" in lines
    followed = [line for line in lines[lines.index("created     Job first") + 1 :] if not line.startswith("waiting: ")]
    assert followed == [
        "before",
        "step  1/10  loss 0.6900",
        "failed (exit 46): a health rule stopped it: the loss is no number",
        "what to do: lower learning_rate; see its last steps with: launcher tensorboard -n default",
        "logs: launcher logs first",
    ]


def submitted(cluster_api: ClusterApi, person: Terminal) -> tuple[subprocess.Popen[str], str]:
    """A run that is followed, and its pod, which prints ``before``."""
    experiment(person.folder)
    ready(cluster_api)
    controllers.play(cluster_api)
    cluster_api.objects.is_graceful = True
    following = person.begin("run", "demo", "--cluster", "--name", "first", "--set", "launch.gpus=0")
    wait_for(lambda: controllers.pods_of(cluster_api, "first") or following.poll() is not None)
    assert following.poll() is None, following.communicate()[0]
    (pod,) = (one["metadata"]["name"] for one in controllers.pods_of(cluster_api, "first"))
    cluster_api.log(pod).write("[rank 0] before\n")
    assert following.stdout is not None
    wait_for(lambda: following.stdout.readline() == "before\n")  # type: ignore[union-attr]
    return following, pod


def test_ctrl_c_stops_a_run_after_a_checkpoint(cluster_api: ClusterApi, person: Terminal) -> None:
    following, pod = submitted(cluster_api, person)
    following.send_signal(signal.SIGINT)
    wait_for(lambda: cluster_api.objects.get("jobs", "first")["spec"].get("suspend"))
    cluster_api.log(pod).write("[rank 0] a checkpoint is written\n")
    said = json.dumps({"code": 143, "sentence": "stopped on request, after a checkpoint", "state": "stopped"})
    controllers.terminated(cluster_api, pod, 143, message=said)
    cluster_api.objects.change("jobs", "first", lambda one: one["status"].update(active=0))
    out, _ = following.communicate(timeout=300)
    assert (following.returncode, out.splitlines()) == (
        143,
        [
            "stopping first (Ctrl-C again kills it at once)",
            "a checkpoint is written",
            "stopped (exit 143): first was stopped on request",
            "what to do: resume it with: launcher resume first (from its newest checkpoint, if it has one)",
        ],
    )


def test_a_second_ctrl_c_kills_it(cluster_api: ClusterApi, person: Terminal) -> None:
    following, _ = submitted(cluster_api, person)
    following.send_signal(signal.SIGINT)
    wait_for(lambda: cluster_api.objects.get("jobs", "first")["spec"].get("suspend"))
    following.send_signal(signal.SIGINT)
    wait_for(lambda: controllers.pods_of(cluster_api, "first") == [])
    cluster_api.cut("/log")
    cluster_api.objects.change("jobs", "first", lambda one: one["status"].update(active=0))
    out, _ = following.communicate(timeout=300)
    assert (following.returncode, out.splitlines()[-2]) == (130, "aborted (exit 130): killed on request")


def test_dry_run_prints_the_objects_and_asks_no_cluster(cluster_api: ClusterApi, person: Terminal) -> None:
    experiment(person.folder)
    shown = person.type("run", "demo", "--cluster", "--dry-run", "--name", "first")
    assert shown.stdout == person.type("render", "demo", "--cluster", "--name", "first").stdout
    assert "kind: Job\n" in shown.stdout
    assert cluster_api.asked() == []


def test_a_run_on_the_cluster_is_compared_once_its_folder_is_here(cluster_api: ClusterApi, person: Terminal) -> None:
    Played(cluster_api, "far").start()
    done = person.type("compare", "far")
    assert (done.returncode, done.stderr) == (
        2,
        "error: the folder of far is on the cluster, not on this machine\n"
        "    hint:     launcher download far --all, then name it by its folder: ./far\n",
    )
    run = Made("far", record={"backend": "kubernetes", "process": {"pid": 1, "start_time": 1, "boot_id": "b", "host": "pod-0"}})
    run.write(person.folder / "x").path.rename(person.folder / "far")
    assert person.type("compare", "./far").stdout.splitlines()[:3] == [
        "RUN              far",
        "state            done",
        "step             40/40",
    ]
