"""Secrets are planted where they belong, everything that handles them is made to talk, and what a run leaves is searched."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.kubelet import Kubelet
from tests.sheets.google import SPREADSHEET, Answering, Google, new_key, none, quota, serving
from tests.webhook import SECRET as HOOK
from tests.webhook import hook

REPOSITORY = Path(__file__).parents[1]

SECRETS = {
    "AWS_ACCESS_KEY": "AKIAPLANTED0EXAMPLE0",
    "AWS_SECRET_KEY": "planted/secret+key=of the store",
    "HF_TOKEN": "hf_plantedABCDEFGHIJ1234567890",
    "GOOGLE_SHEETS_PRIVATE_KEY": r"-----BEGIN PRIVATE KEY-----\nMIIplantedEvQIBADANBgkqhkiG9w0\n"
    r"BAQEFplantedAASCBKcw\n-----END PRIVATE KEY-----\n",
    "LOGIN": "anna-planted:geheim",
}


def spellings(texts: Iterable[str]) -> list[str]:
    """Each of ``texts`` as it may be written."""
    return [way for text in texts for way in {text, quote(text, safe=""), base64.b64encode(text.encode()).decode()}]


# Pieces of the values above that no other text holds.
PIECES = spellings(
    [
        *[value for name, value in SECRETS.items() if name != "GOOGLE_SHEETS_PRIVATE_KEY"],
        "MIIplantedEvQIBADANBgkqhkiG9w0",
        "BAQEFplantedAASCBKcw",
    ]
)

# A library that prints its environment, and one that has it in an exception: here the trainer's own module is imported, whose
# output is the rank's log by then.
TALKATIVE = """
import os, sys, warnings
class Talkative:
    def find_spec(self, name, path=None, target=None):
        if name == "trainer.train":
            print("my environment:", dict(os.environ))
            print("DEBUG", *os.environ.values(), file=sys.stderr)
            warnings.warn(f"deprecated: {os.environ}")
sys.meta_path.insert(0, Talkative())
"""
# A client that says all that it sends, and logs what it has done, as people let it when something does not work.
WORDY = """
import sys
class Wordy:
    def find_spec(self, name, path=None, target=None):
        if name == "gspread":
            import http.client, logging
            http.client.HTTPConnection.debuglevel = 1
            logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
sys.meta_path.insert(0, Wordy())
"""

pytestmark = pytest.mark.slow


class _TalkativeStore(BaseHTTPRequestHandler):
    """An S3 that refuses every request and says all that it was told, as real ones do for a wrong signature."""

    protocol_version = "HTTP/1.1"

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = f"{SECRETS['AWS_ACCESS_KEY']} {self.headers.get('Authorization')} signed with {SECRETS['AWS_SECRET_KEY']}"
        body = f"<Error><Code>InternalFault</Code><Message>You sent {said}</Message></Error>".encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _refuse

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[int]:
    server = ThreadingHTTPServer(("0.0.0.0", 0), _TalkativeStore)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture
def home(tmp_path: Path, demo_model: Path) -> Path:
    (tmp_path / "configs").mkdir()
    shutil.copytree(REPOSITORY / "configs" / "demo", tmp_path / "configs" / "demo")
    shutil.copytree(demo_model, tmp_path / "data" / "demo" / "qwen3-tiny")
    (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in SECRETS.items()))
    (tmp_path / "talkative").mkdir()
    (tmp_path / "talkative" / "sitecustomize.py").write_text(TALKATIVE)
    return tmp_path


def write_experiment(home: Path, endpoint: str, path: str, **more: object) -> None:
    """``more`` replaces what the experiment says; None leaves it out."""
    experiment = {
        "experiment_id": "planted",
        "model_name": "data/demo/qwen3-tiny",
        "datasets_path": "configs/demo",
        "dpo_column_mapping_config": {"input_columns": {"question": "question"}, "chosen": "concrete", "rejected": "vague"},
        "hyperparameters": {"max_steps": 1, "save_strategy": "no"},
        "storage_config": {"upload_to_cloud": True, "bucket_name": "models", "endpoint_url": endpoint, "region": "us-east-1"},
        "launch": {"gpus": 0, "secrets": ["LOGIN", "HF_TOKEN"], "env": {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}},
        **more,
    }
    experiment = {name: value for name, value in experiment.items() if value is not None}
    (home / "configs" / "planted.yml").write_text(json.dumps({"planted": experiment}))


def launcher(home: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DPO_CACHE_ROOT": str(home / "cache"), **more}
    return subprocess.run(
        [sys.executable, "-m", "launcher", *args],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def held(home: Path, *words: str, pieces: Iterable[str] = PIECES) -> list[str]:
    """Where a piece of a secret is found: in files below ``home`` (``.env`` may hold them), or in ``words``: what was said, or
    what a server was told, as JSON.
    """
    texts = {str(number): word.encode() for number, word in enumerate(words)}
    texts |= {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != ".env"}
    return [f"{piece} in {where}" for where, text in texts.items() for piece in pieces if piece.encode() in text]


def test_the_search_finds_what_is_planted(home: Path) -> None:
    (home / "left.json").write_text(json.dumps(SECRETS))
    assert len(held(home)) == len(SECRETS) + 1


def test_a_run_on_the_host_leaves_no_secret_anywhere(home: Path, store: int) -> None:
    path, short = (
        os.pathsep.join([str(REPOSITORY), str(home / "talkative")]),
        {"max_steps": 1, "save_strategy": "no", "max_seq_length": 128},
    )
    write_experiment(home, f"http://127.0.0.1:{store}", path, notify="CHAT_URL", hyperparameters=short)
    with hook(503) as chat:
        with (home / ".env").open("a") as env:
            env.write(f"CHAT_URL={chat.url}\n")
        run = launcher(home, "run", "planted", "--backend", "host", "--name", "one", PYTHONPATH=str(REPOSITORY))
    assert run.returncode == 47, run.stdout + run.stderr
    told = [(message["event"], message.get("rule"), message.get("exit_code")) for message in chat.taken[1:]]
    assert told == [("health", "truncated", None), ("failed", None, 47)], "what is answered with 503 is sent again"
    said = [
        launcher(home, *line, PYTHONPATH=str(REPOSITORY))
        for line in (
            ("show", "planted"),
            ("check", "planted"),
            ("render", "planted", "--backend", "host"),
            ("status", "one"),
            ("status", "one", "--json"),
            ("logs", "one"),
            ("--debug", "upload", "one"),
        )
    ]
    words = [text for done in (run, *said) for text in (done.stdout, done.stderr)]
    log = next(home.rglob("rank-0.log")).read_text()
    assert "my environment:" in log
    assert "[hidden: LOGIN]" in log
    assert "[hidden: CHAT_URL]" in log
    assert "InternalFault" in "".join(words)
    assert held(home, *words, json.dumps(chat.taken), pieces=[*PIECES, HOOK]) == []


def _telling(request: Answering) -> bool:
    """A refusal that repeats what was sent."""
    sent = f"you sent {request.headers.get('Authorization')} for {request.world.assertions[-1]}, signed {request.world.key}"
    request.answer(400, {"error": {"code": 400, "message": sent, "status": "INVALID_ARGUMENT"}})
    return True


def test_a_run_on_a_spreadsheet_leaves_nothing_of_googles_key_anywhere(home: Path, store: int) -> None:
    rows = [["question", "concrete", "vague"], *([f"What is {n}?", f"It is {n} apples.", f"Some, {n}."] for n in range(8))]
    with serving(Google(new_key(), sheets={SPREADSHEET: {"Train": rows}})) as google:
        sheet = {"datasets_path": None, "spreadsheet_id": SPREADSHEET, "train_sheet": "Train", "storage_config": None}
        path = os.pathsep.join([str(REPOSITORY), str(home / "talkative")])
        write_experiment(home, f"http://127.0.0.1:{store}", path, **sheet)
        planted = {**SECRETS, **google.env()}
        (home / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in planted.items()))
        (home / "wordy").mkdir()
        (home / "wordy" / "sitecustomize.py").write_text(WORDY)
        wordy = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(home / "wordy")])}
        google.faults = [none, quota("0")]
        run = launcher(home, "run", "planted", "--backend", "host", "--name", "three", **wordy)
        assert run.returncode == 0, run.stdout + run.stderr
        google.faults = [none, _telling]
        told = launcher(home, "--debug", "check", "planted", **wordy)
        lines = (("show", "planted"), ("status", "three", "--json"), ("logs", "three"))
        said = [launcher(home, *line, **wordy) for line in lines]
    assert "you sent Bearer [hidden" in told.stderr
    body = google.key.splitlines()[1:-1]
    sent = [part for one in google.assertions for part in (one, one.split(".")[2])]
    pieces = [*PIECES, *spellings([*body, "".join(body), *sent, *google.tokens])]
    words = [text for done in (run, told, *said) for text in (done.stdout, done.stderr)]
    assert "send: b'POST /token" in words[0]
    assert "Authorization: [hidden]" in words[0]
    assert held(home, *words, pieces=pieces) == []


@pytest.mark.engine
def test_a_run_in_a_container_leaves_no_secret_anywhere(
    home: Path, store: int, cpu_image: str, build_settings: Mapping[str, str], engine: object
) -> None:
    gateway = engine.networks.get("bridge").attrs["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")  # type: ignore[attr-defined]
    write_experiment(home, f"http://{gateway}:{store}", "/opt/dpo-launcher:configs/demo")
    shutil.copy(home / "talkative" / "sitecustomize.py", home / "configs" / "demo")  # which the container sees as data
    settings = {**build_settings, "PYTHONPATH": str(REPOSITORY)}
    run = launcher(home, "run", "planted", "--backend", "docker", "--name", "two", **settings)
    assert run.returncode == 47, run.stdout + run.stderr
    rendered = launcher(home, "render", "planted", "--backend", "docker", **settings)
    logs = launcher(home, "logs", "two", **settings)
    log = next(home.rglob("rank-0.log")).read_text()
    assert "[hidden: LOGIN]" in log
    assert held(home, *(text for done in (run, rendered, logs) for text in (done.stdout, done.stderr))) == []


@pytest.mark.engine
def test_a_pod_of_a_cluster_leaves_no_secret_anywhere(
    home: Path, store: int, cpu_image: str, build_settings: Mapping[str, str], engine: object
) -> None:
    gateway = engine.networks.get("bridge").attrs["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")  # type: ignore[attr-defined]
    write_experiment(home, f"http://{gateway}:{store}", "/opt/dpo-launcher:/dpo/cache/talkative")
    settings = {**build_settings, "PYTHONPATH": str(REPOSITORY)}
    sets = (f"launch.image={cpu_image}", "launch.kubernetes.volumes.data=dpo-data")
    said = [word for one in sets for word in ("--set", one)]
    rendered = launcher(home, "render", "planted", "--cluster", "--name", "three", *said, **settings)
    differs = launcher(home, "diff", "planted", *said, **settings)
    assert (rendered.returncode, differs.returncode) == (0, 0), rendered.stderr + differs.stderr
    assert "key: LOGIN" in rendered.stdout

    kubelet = Kubelet(engine, home / "cluster", {"dpo-secrets": SECRETS})
    for name in ("configs/demo", "data/demo/qwen3-tiny"):
        shutil.copytree(home / name, kubelet.claim("dpo-data") / name, copy_function=shutil.copyfile)
    shutil.copytree(home / "talkative", kubelet.claim("dpo-cache") / "talkative")
    pod = kubelet.run(rendered.stdout, network_mode="bridge")
    assert pod.code == 47, pod.output
    assert "[rank 0] my environment:" in pod.output
    assert "[hidden: LOGIN]" in pod.output
    assert "InternalFault" in pod.last_words["sentence"]
    shutil.rmtree(home / "cluster" / "volumes" / "secrets")  # the cluster's own
    assert held(home, rendered.stdout, differs.stdout, pod.output, json.dumps(pod.last_words)) == []
