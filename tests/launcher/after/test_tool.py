"""Where the processes that work with trained weights run, and what they answer."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.after import tool as tools
from launcher.after.tool import Tool, events, job_of, tool
from launcher.backends.docker.backend import Docker
from launcher.backends.docker.container import Container, Person, Place, render_work
from launcher.backends.session import ProcessSession, Work
from launcher.errors import DataError, ExperimentError, LauncherError
from launcher.job.exchange import decoded, encoded
from launcher.job.image import Image
from launcher.job.target import Target
from launcher.packages import installation
from tests.run_folders import Made

ME = Person(1000, 1000, (1000, 27), "you", Path("/home/you"))
ECHO = """
import sys
from trainer.after.exchange import serve, tell
from trainer.output import say
from launcher.errors import DataError, Mistake

def work(requests):
    print("a library's line")
    say("loading")
    for asked in requests:
        match asked:
            case {"fail": what}:
                raise DataError(Mistake("f.csv:2", what))
            case {"die": code}:
                sys.stderr.write("the last words\\n")
                sys.stderr.flush()
                import os
                os._exit(code)
            case {"wait": _}:
                tell({"began": True})
                tell({"stopped": requests.stop.wait(30)})
            case {"last": value}:
                return value
        tell({"asked": asked})

serve(work)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "echo_tool.py").write_text(ECHO)
    return tmp_path


def session(here: Path) -> ProcessSession:
    return ProcessSession(Work("echo_tool", here), here, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_a_process_answers_requests_one_after_the_other_and_its_lines_are_told(here: Path) -> None:
    told: list[str] = []
    with session(here) as process:
        for request in ({"one": "ä\n"}, {"two": 2}, {"last": [3]}):
            process.send(encoded(request))
        assert list(events(process, told.append, "nothing")) == [
            {"asked": {"one": "ä\n"}},
            {"asked": {"two": 2}},
            {"answer": [3]},
        ]
    assert told == ["a library's line", "loading"]


def test_an_error_in_the_process_is_raised_here_with_its_place_and_its_exit_code(here: Path) -> None:
    with session(here) as process:
        process.send(encoded({"fail": "it is wrong"}))
        with pytest.raises(DataError, match=r"f\.csv:2: it is wrong"):
            list(events(process, print, "nothing"))


def test_a_process_that_ends_without_an_answer_is_an_error_with_its_last_words(here: Path) -> None:
    with session(here) as process:
        process.send(encoded({"die": 3}))
        with pytest.raises(LauncherError, match=r"not scored \(exit 3\):\nthe last words"):
            list(events(process, print, "not scored"))


def test_a_request_to_stop_is_seen_while_the_process_works(here: Path) -> None:
    with session(here) as process:
        process.send(encoded({"wait": True}))
        found = events(process, lambda line: None, "nothing")
        assert next(found) == {"began": True}
        process.send(encoded({"stop": True}))
        assert next(found) == {"stopped": True}


def interrupted(lines: Iterator[str]) -> None:
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    for _ in lines:
        pass


def test_an_interrupted_wait_loses_no_line(here: Path) -> None:
    with session(here) as process:
        lines = process.lines()
        assert next(lines) == "a library's line"
        with pytest.raises(KeyboardInterrupt):
            interrupted(lines)
        process.send(encoded({"last": 1}))
        assert decoded(next(process.lines())) == {"answer": 1}


def test_a_process_ends_with_the_launcher_that_started_it(here: Path) -> None:
    process = session(here)
    process.send(encoded({"hello": True}))
    process.send(encoded({"wait": True}))
    next(events(process, lambda line: None, "nothing"))
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 20
    assert process._process.returncode == 0


def target(home: Path, **settings: Any) -> Target:
    run = Made("one", settings=settings).write(home)
    run.adapter.mkdir()
    return Target.of(run.path)


def place(home: Path, caller: dict[str, str]) -> Place:
    image = Image("dpo-launcher:cpu-0123456789abcdef", "cpu")
    return Place(home, 4, ME, image, Path("/dev/shm/dpo-launcher-1000"), caller, exists=lambda path: True)


def container(found: Target, home: Path, caller: dict[str, str], *args: str, **paths: Any) -> Container:
    work = Tool(found, print, home, None, None, {}).work("score", args, **paths)
    return render_work(job_of(found, "score", caller), place(home, caller), work)


def test_a_container_reads_the_run_the_model_and_the_file_and_no_secret_but_the_hubs(here: Path) -> None:
    (here / "data" / "demo" / "qwen3-tiny").mkdir(parents=True)
    found = target(here)
    caller = {"HOME": str(here), "HF_TOKEN": "hush", "AWS_ACCESS_KEY": "hush", "GOOGLE_SHEETS_PRIVATE_KEY": "hush"}
    made = container(found, here, caller, "new.csv", reads=["new.csv"], writes=["../out"])
    kept = here.name
    assert {mount.target: (str(mount.source), mount.read_only) for mount in made.mounts} == {
        "/dpo/target/one": (str(found.folder), True),
        f"/dpo/data/{kept}/data/demo/qwen3-tiny": (str(here / "data/demo/qwen3-tiny"), True),
        f"/dpo/data/{kept}/new.csv": (str(here / "new.csv"), True),
        "/dpo/data/out": (str(here.parent / "out"), False),
        "/dpo/cache": (str(here / ".cache/dpo-launcher"), False),
        "/run/secrets": (str(made.secret_dir), True),
    }
    assert made.working_dir == f"/dpo/data/{kept}"
    assert made.command == ("python", "-m", "trainer.after.score", "/dpo/target/one", "new.csv")
    assert (made.secrets, made.user, made.gpus, made.shm_size) == (("HF_TOKEN",), "1000:1000", 0, "2g")
    assert made.env["DPO_CACHE_ROOT"] == "/dpo/cache"
    assert "hush" not in repr(made)
    assert "dpo-launcher/folder" not in made.labels, "it is no container of the run"


def test_a_container_of_a_whole_model_mounts_it_once(here: Path) -> None:
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{}")
    made = container(Target.of(here / "model"), here, {"HOME": str(here)})
    assert [mount.target for mount in made.mounts] == ["/dpo/cache", "/dpo/target/model"]


def test_a_folder_whose_name_no_container_may_have_is_worked_with(here: Path) -> None:
    (here / "mein Modell").mkdir()
    (here / "mein Modell" / "config.json").write_text("{}")
    made = container(Target.of(here / "mein Modell"), here, {"HOME": str(here)})
    assert made.name.startswith("dpo-score-mein-Modell-")


def test_a_file_that_would_hide_the_images_own_is_refused(here: Path) -> None:
    with pytest.raises(ExperimentError, match=r"/opt/new\.csv: would hide files of the image in a container"):
        container(target(here), here, {"HOME": str(here)}, reads=["/opt/new.csv"])


def test_a_run_on_many_gpus_is_worked_with_on_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.backends.host.gpus_there", lambda caller: 2)
    run = Made("many", settings={"per_device_train_batch_size": 2}).write(here)
    launch = {
        "gpus": 8,
        "nodes": 4,
        "parallelism": "zero3",
        "memory": "64Gi",
        "env": {"LANG": None, "MODE": "x"},
        "secrets": ["K"],
    }
    data = {**Made("many").experiment().model_dump(mode="json", exclude_unset=True), "launch": launch, "notify": "HOOK"}
    run.experiment.write_text(Made("many").experiment().parse(data).model_dump_json())
    run.adapter.mkdir()
    job = job_of(Target.of(run.path), "chat", {})
    assert (job.gpus, job.world, job.topology.nodes, job.topology.parallelism.name) == (1, 1, 1, "ddp")
    assert (job.resources.memory, dict(job.env), job.env_names, job.secrets) == ("64Gi", {"MODE": "x"}, (), ())
    made = render_work(
        job, place(here, {"HOME": str(here)}), Tool(Target.of(run.path), print, here, None, None, {}).work("chat", ())
    )
    assert (made.gpus, made.is_on_host_network, made.memory) == (1, False, "64g")


@pytest.mark.parametrize(
    ("ran", "wanted", "installed", "engine", "place"),
    [
        ("host", None, True, True, "host"),
        ("docker", None, True, True, "docker"),
        ("docker", None, True, False, "host"),
        ("kubernetes", None, True, True, "host"),
        ("host", None, False, True, "docker"),
        ("host", "docker", True, True, "docker"),
        ("docker", "host", True, True, "host"),
    ],
)
def test_it_runs_where_the_run_ran_if_it_can(
    here: Path, monkeypatch: pytest.MonkeyPatch, ran: str, wanted: str | None, installed: bool, engine: bool, place: str
) -> None:
    found = target(here)
    assert found.run is not None
    found.run.update_record(backend=ran)
    monkeypatch.setattr(tools, "missing_packages", lambda: [] if installed else ["torch"])
    monkeypatch.setattr("launcher.backends.docker.engine.answers", lambda caller: None if engine else "no engine")
    made = tool(found, wanted, "score", print)
    assert isinstance(made.docker, Docker) == (place == "docker")
    assert (made.job is None) == (place == "host")


def test_without_packages_and_without_an_engine_both_ways_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "missing_packages", lambda: ["torch", "trl"])
    monkeypatch.setattr("launcher.backends.docker.engine.answers", lambda caller: "no Docker engine: /s not found")
    with pytest.raises(LauncherError) as caught:
        tool(target(here), None, "chat", print)
    assert str(caught.value).splitlines() == [
        "chat needs torch, trl, which dpo-launcher[trainer] installs",
        *str(installation()).splitlines(),
        "    in a container: --backend docker, which needs a Docker engine (no Docker engine: /s not found)",
    ]
