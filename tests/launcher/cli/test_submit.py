"""`launcher submit` and `launcher secrets push` as a person types them, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_api import ClusterApi, controllers
from tests.waiting import finished, wait_for

REPOSITORY = Path(__file__).parents[3]
LAUNCHER = [sys.executable, "-m", "launcher"]
CONFIG = """\
demo:
  experiment_id: 1
  model_name: Qwen/Qwen3-0.6B
  datasets_path: data
  hyperparameters: {eval_strategy: "no", model_output_dir: out}
  launch: {gpus: 0, image: registry.example.com/team/dpo@sha256:%s}
""" % ("a" * 64)
TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("configs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\nHow?,So.,What?\n")
    return tmp_path


@pytest.fixture
def api(cluster_api: ClusterApi) -> ClusterApi:
    controllers.ready(cluster_api)
    return cluster_api


def environment(home: Path, api: ClusterApi, **env: str) -> dict[str, str]:
    own = {
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(home),
        "KUBECONFIG": str(api.kubeconfig),
        "DOCKER_HOST": "unix:///no/engine",
    }
    return {**os.environ, **own, "COLUMNS": "200", **env}


def launcher(home: Path, api: ClusterApi, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command, shown = [*LAUNCHER, *args], environment(home, api, **env)
    return finished(command, cwd=home, env=shown, capture_output=True, text=True, timeout=300, check=False)


def test_a_run_is_submitted(home: Path, api: ClusterApi) -> None:
    done = launcher(home, api, "submit", "demo", "--name", "first")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "cluster     Job first in namespace default, context emulator" in lines
    assert "output      /dpo/runs/out/exp_1/Qwen3-0.6B/runs/first" in lines
    assert lines[-5:] == [
        "created     Service first",
        "created     ConfigMap first",
        "created     ConfigMap first-data",
        "created     Job first",
        "Submitted first. Follow it with: launcher logs -f first",
    ]
    assert api.objects.names("jobs") == ["first"]


def test_a_run_has_the_name_by_which_the_cluster_knows_its_user_unless_a_setting_says_another(
    home: Path, api: ClusterApi
) -> None:
    api.username = "system:serviceaccount:dpo:ci"
    assert launcher(home, api, "submit", "demo", "--name", "first", USER="root").returncode == 0
    assert launcher(home, api, "submit", "demo", "--name", "second", DPO_USER="dana@example.com").returncode == 0
    api.username = None  # the server does not serve SelfSubjectReviews
    assert launcher(home, api, "submit", "demo", "--name", "third", USER="root").returncode == 0
    found = {}
    for name in ("first", "second", "third"):
        metadata = api.objects.get("jobs", name)["metadata"]
        record = json.loads(api.objects.get("configmaps", name)["data"]["record.json"])
        found[metadata["labels"]["dpo-launcher/user"]] = (metadata["annotations"]["dpo-launcher/user"], record["user"])
    assert found == {
        "system-serviceaccount-dpo-ci": ("system:serviceaccount:dpo:ci",) * 2,
        "dana-example.com": ("dana@example.com",) * 2,
        "root": ("root", "root"),
    }


def test_with_verify_only_an_image_that_cosign_verifies_is_submitted(home: Path, api: ClusterApi) -> None:
    refused = launcher(home, api, "submit", "demo", "--verify", "--name", "first")
    assert refused.returncode == 42
    assert "launch: verify needs signed_by: {key: …} or {identity: …, issuer: …}" in refused.stderr
    cosign = home / "cosign"
    cosign.write_text("#!/bin/sh\necho 'Error: no matching signatures' >&2\nexit 1\n")
    cosign.chmod(0o755)
    path = f"{home}:{os.environ['PATH']}"
    signed = ("submit", "demo", "--verify", "--set", "launch.signed_by={key: cosign.pub}", "--name", "first")
    refused = launcher(home, api, *signed, PATH=path)
    assert refused.returncode == 1
    assert refused.stderr.endswith("by cosign.pub is not verified: Error: no matching signatures\n")
    assert api.objects.names("jobs") == []
    cosign.write_text("#!/bin/sh\necho '[]'\n")
    done = launcher(home, api, *signed, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"image registry.example.com/team/dpo@sha256:{'a' * 64}: signature verified" in done.stdout
    assert api.objects.names("jobs") == ["first"]


def test_what_was_submitted_is_printed_as_json_alone(home: Path, api: ClusterApi) -> None:
    done = launcher(home, api, "submit", "demo", "--name", "first", "--json")
    told = json.loads(done.stdout)
    assert (told["run"], told["namespace"], told["context"], told["kind"]) == ("first", "default", "emulator", "Job")
    assert told["created"][-1] == {"kind": "Job", "name": "first"}
    assert (told["facts"]["run"], told["facts"]["output"]) == ("first", told["folder"])
    assert (done.returncode, done.stderr) == (0, "preflight checks: namespace default, context emulator\n")
    both = launcher(home, api, "submit", "demo", "--json", "--follow")
    assert (both.returncode, both.stderr) == (2, "error: --json cannot be combined with --follow\n")


def test_submitting_twice_is_two_runs_and_a_name_is_taken_once(home: Path, api: ClusterApi) -> None:
    for _ in range(2):
        assert launcher(home, api, "submit", "demo").returncode == 0
    assert len(api.objects.names("jobs")) == 2
    assert launcher(home, api, "submit", "demo", "--name", "first").returncode == 0
    again = launcher(home, api, "submit", "demo", "--name", "first")
    assert (again.returncode, again.stderr) == (
        1,
        "error: --name first: a run with this name already exists (Job first)\n    hint:     "
        "resume it with: launcher resume first; or choose another --name\n",
    )


def test_flags_say_what_set_would(home: Path, api: ClusterApi) -> None:
    api.addons |= {"JobSet", "Kueue"}
    controllers.ready(api, "team")
    controllers.node(api, "gpus", gpus=2, labels={"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"})
    api.objects.put({"kind": "LocalQueue", "metadata": {"name": "q", "namespace": "team"}, "spec": {"clusterQueue": "all"}})
    flags = [
        "--gpu",
        "A100",
        "--gpus",
        "2",
        "--nodes",
        "2",
        "--queue",
        "q",
        "-n",
        "team",
        "--kind",
        "jobset",
        "--set",
        "launch.max_restarts=7",
    ]
    done = launcher(home, api, "submit", "demo", "--name", "wide", *flags)
    assert done.returncode == 0
    assert done.stderr.startswith("notice: network: the 2 nodes exchange gradients over plain TCP")
    found = api.objects.get("jobsets", "wide", "team")
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completions"], found["spec"]["failurePolicy"]["maxRestarts"]) == (2, 7)
    assert job["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert job["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"


def test_auto_takes_a_job_where_nobody_works_on_jobsets(home: Path, api: ClusterApi) -> None:
    api.addons.add("JobSet")
    wide = ["submit", "demo", "--set", "launch.nodes=2", "--set", "hyperparameters.per_device_train_batch_size=1"]
    assert launcher(home, api, *wide, "--name", "working").returncode == 0
    assert (api.objects.names("jobsets"), api.objects.names("jobs")) == (["working"], [])
    api.idle.add("JobSet")
    done = launcher(home, api, *wide, "--name", "idle")
    assert done.returncode == 0
    assert (api.objects.names("jobsets"), api.objects.names("jobs")) == (["working"], ["idle"])
    said = "using a plain Job: JobSet's controller is probably down (its webhook did not answer)"
    assert said in " ".join((done.stdout + done.stderr).split())


def test_what_a_gpu_needs_is_said_and_whether_it_fits_only_where_the_gpu_is_known(home: Path, api: ClusterApi) -> None:
    controllers.node(api, "gpus", gpus=1, labels={"nvidia.com/gpu.product": "NVIDIA-L4"})
    shutil.copytree(REPOSITORY / "configs" / "models", home / "configs" / "models")

    def memory(*args: str) -> str | None:
        done = launcher(home, api, "submit", "demo", *args)
        assert (done.returncode, done.stderr) == (0, "")
        return next((line for line in done.stdout.splitlines() if line.startswith("memory")), None)

    assert memory() is None
    unknown = "the cluster's GPUs are unknown (name one in launch.kubernetes.node_selector: nvidia.com/gpu.product)"
    size = r"\d+\.\d\d GiB"
    assert re.fullmatch(
        rf"memory      needs at least {size} per GPU, or {size} with gradient checkpointing; {re.escape(unknown)}",
        memory("--gpus", "1") or "",
    )
    always = ["--set", "hyperparameters.use_gradient_checkpointing=true"]
    assert re.fullmatch(rf"memory      needs at least {size} per GPU; {re.escape(unknown)}", memory("--gpus", "1", *always) or "")
    selected = ["--set", "launch.kubernetes.node_selector={nvidia.com/gpu.product: NVIDIA-L4}"]
    assert re.fullmatch(
        rf"memory      fits on L4: about {size} per GPU of 22\.49 GiB \(20\.24 GiB usable: gpu_memory_utilization 0\.9\)",
        memory("--gpus", "1", *selected) or "",
    )


def test_preflight_says_all_and_nothing_is_created(home: Path, api: ClusterApi) -> None:
    api.objects.delete("persistentvolumeclaims", "dpo-runs")
    api.deny("create", "services")
    done = launcher(home, api, "submit", "demo", "--gpus", "1")
    assert done.returncode == 1
    assert re.findall(r"^(?:error: )?([a-z][\w -]+): ", done.stderr, re.MULTILINE) == [
        "namespace default",
        "claim dpo-runs",
        "nodes",
    ]
    assert (api.objects.names("jobs"), api.objects.names("configmaps")) == ([], [])
    assert done.stdout == "preflight checks: namespace default, context emulator\n"


def test_anyway_lets_the_server_decide(home: Path, api: ClusterApi) -> None:
    api.objects.delete("persistentvolumeclaims", "dpo-runs")
    done = launcher(home, api, "submit", "demo", "--anyway")
    assert (done.returncode, len(api.objects.names("jobs"))) == (0, 1)
    assert done.stderr.startswith("warning: claim dpo-runs: not found in namespace default; it holds the runs\n")


def test_an_image_of_this_machine_is_refused_with_the_command(home: Path, api: ClusterApi) -> None:
    done = launcher(home, api, "submit", "demo", "--set", "launch.image=null")
    assert done.returncode == 1
    assert re.search(
        r"^error: image: dpo-launcher:cpu-\w+ exists only on this machine; the cluster cannot pull it\n"
        r"    hint:     submit with --registry registry\.example\.com/team, or first run: "
        r"launcher build --variant cpu --push --registry registry\.example\.com/team$",
        done.stderr,
        re.MULTILINE,
    )
    pushed = launcher(home, api, "submit", "demo", "--set", "launch.image=null", DPO_REGISTRY="registry.example.com/team")
    assert pushed.stderr.startswith("error: no Docker engine: unix:///no/engine not found")


class _Engine(BaseHTTPRequestHandler):
    """A Docker engine that has every image, and a registry that takes all of them."""

    def do_GET(self) -> None:
        found = {"ApiVersion": "1.45", "Id": f"sha256:{'1' * 64}", "RepoTags": [], "Config": {}, "Architecture": "arm64"}
        self._answer(200, b"OK" if self.path.endswith("/_ping") else json.dumps(found).encode())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = json.dumps({"aux": {"Digest": f"sha256:{'c' * 64}"}}).encode() if "/push" in self.path else b""
        self._answer(200 if said else 201, said)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"tcp://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def of_others_or_by_tag(plural: str, obj: dict[str, Any]) -> str | None:
    """A policy's reason to refuse a pod."""
    image = obj["spec"]["containers"][0]["image"] if plural == "pods" else ""
    is_ours = plural != "pods" or re.fullmatch(r"registry\.example\.com/team/[^@]+@sha256:[0-9a-f]{64}", image)
    return None if is_ours else "images come from registry.example.com/team, by digest"


@pytest.mark.parametrize(("registry", "code"), [("registry.example.com/team", 0), ("registry.example.com/other", 1)])
def test_policies_judge_the_image_as_it_was_pushed(registry: str, code: int, home: Path, api: ClusterApi, engine: str) -> None:
    api.refuse("validate.kyverno.svc-fail", of_others_or_by_tag)
    line = ("submit", "demo", "--set", "launch.image=null", "--registry", registry, "--name", "first")
    done = launcher(home, api, *line, DOCKER_HOST=engine)
    assert done.returncode == code, done.stderr
    if code:
        why = "admission webhook validate.kyverno.svc-fail refuses the run's pods: images come from registry.example.com/team"
        assert f"error: pod: {why}" in done.stderr
        assert api.objects.names("jobs") == []
        return
    pod = api.objects.get("jobs", "first")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"{registry}/dpo-launcher@sha256:{'c' * 64}"
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "arm64"}, "for which the engine has built it"


@pytest.mark.parametrize(("registry", "code"), [("registry.example.com/team", 0), ("registry.example.com/other", 1)])
def test_policies_judge_an_image_by_the_digest_that_was_verified(registry: str, code: int, home: Path, api: ClusterApi) -> None:
    api.refuse("validate.kyverno.svc-fail", of_others_or_by_tag)
    payload = {"critical": {"image": {"docker-manifest-digest": f"sha256:{'d' * 64}"}}}
    cosign = home / "cosign"
    cosign.write_text(f"#!/bin/sh\necho '{json.dumps([payload])}'\n")
    cosign.chmod(0o755)
    image = ("--set", f"launch.image={registry}/dpo:v1", "--set", "launch.signed_by={key: cosign.pub}", "--name", "first")
    path = f"{home}:{os.environ['PATH']}"
    plain = launcher(home, api, "submit", "demo", *image, PATH=path)
    assert plain.returncode == 1, "a tag that nobody verifies stays a tag"
    assert "error: pod: admission webhook validate.kyverno.svc-fail refuses the run's pods" in plain.stderr
    done = launcher(home, api, "submit", "demo", "--verify", *image, PATH=path)
    assert done.returncode == code, done.stderr
    if code:
        assert "error: pod: admission webhook validate.kyverno.svc-fail refuses the run's pods" in done.stderr
        assert api.objects.names("jobs") == []
        return
    pod = api.objects.get("jobs", "first")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"{registry}/dpo@sha256:{'d' * 64}"


def test_a_registry_that_nothing_is_pushed_to_is_told(home: Path, api: ClusterApi) -> None:
    done = launcher(home, api, "submit", "demo", "--registry", "registry.example.com/other")
    image = f"registry.example.com/team/dpo@sha256:{'a' * 64}"
    what = f"--registry registry.example.com/other is not used: image {image} (launch.image) is not built on this machine"
    assert (done.returncode, done.stderr) == (0, f"notice: {what}\n")


def test_mistakes_are_found_before_a_cluster_is_asked(home: Path, api: ClusterApi) -> None:
    (home / "data" / "training_data.csv").write_text("prompt,chosen\nWhy?,Because.\n")
    assert launcher(home, api, "submit", "demo").returncode == 43
    assert launcher(home, api, "submit", "demo", "--set", "hyperparameters.model_output_dir=/out").returncode == 42
    assert api.requests == []


def test_data_on_the_claim_are_read_there(home: Path, api: ClusterApi) -> None:
    controllers.claim(api, "data", "ReadOnlyMany")
    settings = ["--set", "launch.kubernetes.volumes={data: data}", "--set", "datasets_path=answers"]
    done = launcher(home, api, "submit", "demo", "--name", "first", *settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert "data        answers: read and checked in the pods only" in done.stdout.splitlines()
    assert api.objects.names("configmaps") == ["first"]


def test_a_cluster_that_refuses_the_credentials(home: Path, api: ClusterApi) -> None:
    env = environment(home, api)
    api.token = "the-token-of-another-day"
    done = subprocess.run(
        [*LAUNCHER, "submit", "demo"], cwd=home, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 44
    assert "rejects the credentials" in done.stderr


def test_no_cluster(home: Path, api: ClusterApi) -> None:
    api.stop()
    done = launcher(home, api, "submit", "demo")
    message = f"error: cannot connect to the cluster at {api.url} (context emulator): connection refused\n"
    assert (done.returncode, done.stderr) == (48, message)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_removes_what_was_created(number: int, home: Path, api: ClusterApi) -> None:
    gate = api.hold("/jobs$|/jobs[?]fieldValidation=Strict$", method="POST")
    process = subprocess.Popen(
        [*LAUNCHER, "submit", "demo"],
        cwd=home,
        env=environment(home, api),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: [one for one in api.asked("POST", "/jobs$") if "dryRun" not in one.query])
    process.send_signal(number)
    threading.Timer(1, gate.set).start()  # the server does what nobody waits for any more
    _, said = process.communicate(timeout=300)
    api.settle()
    assert process.returncode == 130
    assert "not submitted: interrupted\n    nothing was left behind" in said
    assert [api.objects.names(kind) for kind in ("services", "configmaps", "jobs")] == [[], [], []]


def test_secrets_are_pushed_by_name_alone(home: Path, api: ClusterApi) -> None:
    (home / "configs" / "demo.yml").write_text(CONFIG.replace("gpus: 0", "gpus: 0, secrets: [LOGIN]") + "  notify: CHAT\n")
    (home / ".env").write_text(f"HF_TOKEN={TOKEN}\nLOGIN=dana-and-more\nOTHER_TOKEN=x\nCHAT=https://chat.example/x\n")
    trial = launcher(home, api, "secrets", "push", "--dry-run")
    assert trial.stdout == "added       CHAT, HF_TOKEN, LOGIN\nsecret dpo-secrets in namespace default: would be created\n"
    assert api.objects.names("secrets") == []
    done = launcher(home, api, "secrets", "push", "demo", "--namespace", "default")
    assert done.stdout == "added       CHAT, HF_TOKEN, LOGIN\nsecret dpo-secrets in namespace default: created\n"
    again = launcher(home, api, "secrets", "push", "demo")
    assert again.stdout == "the same    CHAT, HF_TOKEN, LOGIN\nsecret dpo-secrets in namespace default: unchanged\n"
    assert sorted(api.objects.get("secrets", "dpo-secrets")["data"]) == ["CHAT", "HF_TOKEN", "LOGIN"]
    assert launcher(home, api, "submit", "demo").returncode == 0
    assert TOKEN not in str([obj for kind in ("configmaps", "jobs", "services") for obj in api.objects.list(kind)])


def test_secrets_that_are_missing_or_refused(home: Path, api: ClusterApi) -> None:
    done = launcher(home, api, "secrets", "push")
    assert (
        done.returncode,
        done.stderr.startswith("error: nothing to push: the environment and .env have none of HF_TOKEN"),
    ) == (2, True)
    api.fail(422, "secrets", method="POST", message=f"Secret is invalid: {TOKEN}", reason="Invalid", times=None)
    refused = launcher(home, api, "secrets", "push", HF_TOKEN=TOKEN)
    assert (refused.returncode, "Secret is invalid: [hidden: HF_TOKEN]" in refused.stderr) == (1, True)
    assert TOKEN not in refused.stdout + refused.stderr
