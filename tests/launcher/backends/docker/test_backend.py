"""The Docker backend on a real engine: the real entry in real containers; torchrun is played by ``tests/fakes``."""

import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher.backends import Status
from launcher.backends.docker.backend import Docker
from launcher.errors import CredentialError, LauncherError, UsageError
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from tests.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def docker(engine, tmp_path):
    """The backend in a working directory with data and a model; none of its containers outlives the test."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\n")
    (tmp_path / "model").mkdir()
    yield Docker(tmp_path, {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "HF_TOKEN": "hush-hush"})
    for container in engine.containers.list(all=True, filters={"label": "dpo-launcher/folder"}):
        if container.labels["dpo-launcher/folder"].startswith(str(tmp_path)):
            container.remove(force=True, v=True)


@pytest.fixture
def spec(docker, fake_image):
    """Renders a run of the fake image; ``env`` tells the fake torchrun how to behave."""

    def render(name="one", env=None, **launch):
        data = {
            "experiment_id": 1,
            "model_name": "./model",
            "datasets_path": "data",
            "hyperparameters": {"model_output_dir": "out"},
        }
        launch = {"gpus": 0, "image": fake_image, "env": {"FAKE_STEPS": 3, "FAKE_PAUSE": 0.05, **(env or {})}, **launch}
        return docker.render(plan(Experiment.parse({**data, "launch": launch}), run=name, key="demo", gpus_there=0))

    return render


def over(docker, run):
    wait_for(lambda: docker.status(run).is_over)
    return docker.status(run)


def containers(engine, run):
    return engine.containers.list(all=True, filters={"label": f"dpo-launcher/folder={run.path}"})


def test_a_run_leaves_its_logs_and_its_record_and_no_container(engine, docker, spec):
    run = docker.submit(spec())
    text = "".join(docker.follow(run))
    assert [json.loads(line)["step"] for line in text.splitlines()[1:]] == [1, 2, 3]
    assert docker.status(run) == Status("done", 0, "done")
    assert (run.logs / "container.log").read_text() == "one: attempt 1: done, exit 0: done\n"
    assert containers(engine, run) == []
    record = run.read_record()
    assert (record["backend"], record["folder"], record["attempts"][0]["exit_code"]) == ("docker", str(run.path), 0)
    assert record["container"]["image"].startswith("sha256:")


def test_the_printed_command_line_asks_the_engine_for_the_same_container(engine, docker, spec, tmp_path):
    """What the client library and what the Docker command line make of one spec, as the engine saw both."""
    made = spec(env={"GREETING": 'it\'s, "me"'}, memory="1Gi", cpus=1.5, shm_size="256Mi")
    script = docker.text(made).replace("docker run --detach", "docker create")
    made.secret_dir.mkdir(parents=True)  # only submit writes secrets
    done = subprocess.run(["bash", "-e"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = engine.api.inspect_container(done.stdout.strip())
    engine.api.remove_container(done.stdout.strip())
    made.secret_dir.rmdir()
    shutil.rmtree(made.run_dir.path)
    run = docker.submit(made)
    (container,) = containers(engine, run)
    mine = engine.api.inspect_container(container.id)
    docker.stop(run, now=True)
    for section, apart in (("Config", {"AttachStdout", "AttachStderr"}), ("HostConfig", {"ConsoleSize"})):
        one, two = ({k: v or None for k, v in whole[section].items() if k not in apart} for whole in (seen, mine))
        one, two = (sort(part) for part in (one, two))
        assert {k: (one.get(k), two.get(k)) for k in one.keys() | two.keys() if one.get(k) != two.get(k)} == {}
    assert sort(seen["Mounts"]) == sort(mine["Mounts"])


def sort(value):
    """Lists in an order that does not depend on who sent them; absent and empty are one."""
    if isinstance(value, dict):
        return {k: sort(v) for k, v in value.items() if v not in (None, "", [], {}, False, 0)}
    return sorted((sort(v) for v in value), key=str) if isinstance(value, list) else value


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_files_belong_to_a_caller_whom_neither_machine_nor_image_knows(engine, spec):
    home = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    experiment = Experiment.model_validate_json(next(iter(spec().files.values())))
    (home / "data").mkdir()
    for path in (home, home / "data"):
        os.chown(path, 4711, 4712)
    os.chmod("/var/run/docker.sock", 0o666)
    try:
        child = os.fork()
        if child == 0:
            os.setgroups([4713])
            os.setgid(4712)
            os.setuid(4711)
            theirs = Docker(home, {"HOME": str(home)})
            run = theirs.submit(theirs.render(plan(experiment, run="theirs", key="demo", gpus_there=0)))
            over(theirs, run)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        os.chmod("/var/run/docker.sock", 0o660)
    run = next(home.rglob("theirs"))
    assert json.loads((run / "run.json").read_text())["outcome"]["state"] == "done"
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in home.rglob("*")} == {(4711, 4712)}
    shutil.rmtree(home)


def test_a_container_has_few_rights_and_sees_only_what_is_mounted(engine, docker, spec, tmp_path):
    (tmp_path / ".env").write_text("TOKEN=1\n")
    run = docker.submit(spec(env={"FAKE_STEPS": 10000}))
    (container,) = containers(engine, run)
    wait_for(run.steps.is_file)
    folder = "/dpo/runs/out/exp_1/model/runs/one"
    script = (
        f"grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /usr/x /dpo/data/data/x; echo 1 >> {folder}/experiment.json;"
        f" touch {folder}/ok /dpo/cache/ok /tmp/ok $HOME/ok && echo written; ls -a /dpo/data; df -k /dev/shm | tail -1"
    )
    out = container.exec_run(["sh", "-c", script]).output.decode()
    docker.stop(run, now=True)
    assert "CapEff:\t0000000000000000\nNoNewPrivs:\t1" in out
    assert out.count("Read-only file system") == 3
    assert "written" in out
    assert ".env" not in out
    assert "2097152" in out


def test_a_command_inside_a_run_is_its_user_in_its_container_with_streams_and_exit_code_of_its_own(docker, spec):
    run = docker.submit(spec(env={"FAKE_STEPS": 1000}))
    wait_for(lambda: docker.status(run).state == "running" and run.rank_log(0).is_file())
    wire = docker.attach(run, ["sh", "-c", "cat; id -u; pwd >&2; exit 7"], tty=False)
    wire.send(b"typed\n")
    wire.end()
    told = {1: b"", 2: b""}
    for stream, data in wire.pieces():
        told[stream] += data
    assert (told[1].decode(), wire.code()) == (f"typed\n{os.getuid()}\n", 7)
    assert told[2].startswith(b"/")
    wire.close()
    wire = docker.attach(run, ["sh"], tty=True)
    wire.resize(99, 33)
    wire.send(b"stty size; exit 3\n")
    assert b"33 99\r\n" in b"".join(data for _, data in wire.pieces())
    assert wire.code() == 3
    wire.close()
    docker.stop(run, now=True)


def test_a_secret_is_a_file_that_only_the_ranks_read(engine, docker, spec, tmp_path):
    made = spec(env={"FAKE_STEPS": 10000}, secrets=["HF_TOKEN"])
    assert "hush-hush" not in docker.text(made) + repr(made) + repr(docker)
    run = docker.submit(made)
    (container,) = containers(engine, run)
    wait_for(run.steps.is_file)
    assert "hush-hush" not in json.dumps(engine.api.inspect_container(container.id))
    assert stat.S_IMODE((made.secret_dir / "HF_TOKEN").stat().st_mode) == 0o400
    script = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ | grep -q hush-hush && tr '\\0' ' ' < $p/cmdline; done; true"
    out = container.exec_run(["sh", "-c", script]).output.decode()
    assert "torch.distributed.run" in out
    assert "trainer.processes.entrypoint" not in out
    docker.stop(run, now=True)
    assert not made.secret_dir.exists()
    assert [p for p in tmp_path.rglob("*") if p.is_file() and "hush-hush" in p.read_text(errors="replace")] == []


def test_a_secret_that_the_caller_does_not_have_is_said_before_anything_is_made(docker, spec, tmp_path):
    with pytest.raises(CredentialError, match="NO_SUCH_TOKEN"):
        docker.submit(spec(secrets=["NO_SUCH_TOKEN"]))
    assert not (tmp_path / "out").exists()


def test_a_stop_is_after_a_checkpoint(engine, docker, spec):
    run = docker.submit(spec(env={"FAKE_STEPS": 10000}))
    wait_for(run.steps.is_file)
    assert docker.stop(run) == Status("running")
    assert over(docker, run) == Status("stopped", 143, "stopped after a checkpoint")
    assert containers(engine, run) == []


def test_a_stop_at_once_kills_and_says_aborted(engine, docker, spec):
    run = docker.submit(spec(env={"FAKE_RANKS": "deaf"}))
    wait_for(run.steps.is_file)
    assert docker.stop(run, now=True) == Status("aborted", 130, "killed on request")
    assert containers(engine, run) == []
    assert run.read_record()["attempts"][0]["ended"] is not None


def test_two_runs_of_one_name_in_two_directories_do_not_meet(engine, docker, spec, tmp_path):
    one = docker.submit(spec(env={"FAKE_STEPS": 10000}))
    (tmp_path / "other" / "data").mkdir(parents=True)
    other = Docker(tmp_path / "other", docker.caller)
    experiment = Experiment.model_validate_json(next(iter(spec().files.values())))
    two = other.submit(other.render(plan(experiment, run="one", key="demo", gpus_there=0)))
    assert over(other, two).state == "done"
    assert docker.status(one).state == "running"
    assert set(docker.folders()) >= {one.path}
    docker.stop(one, now=True)
    with pytest.raises(UsageError, match=r"run .* exists"):
        docker.submit(spec())


def test_a_launcher_that_is_killed_leaves_a_run_that_is_found_followed_and_reaped(engine, docker, spec, tmp_path):
    run = docker.submit(spec(env={"FAKE_STEPS": 40, "FAKE_HOLD": "logs/go"}))
    launcher = [sys.executable, "-m", "launcher"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), "HOME": str(tmp_path)}
    first = subprocess.Popen([*launcher, "logs", "-f", str(run.path)], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    wait_for(run.steps.is_file)
    first.send_signal(signal.SIGKILL)
    first.wait()
    options = {"cwd": "/", "env": env, "stdout": subprocess.PIPE, "text": True}
    listed = json.loads(subprocess.run([*launcher, "ps", "--json"], **options, check=True, timeout=300).stdout)
    assert [(one["run"], one["state"]) for one in listed if one["folder"] == str(run.path)] == [("one", "running")]
    second = subprocess.Popen([*launcher, "logs", "-f", str(run.path)], **options)
    assert second.stdout.readline() == "loading the model\n"
    (run.logs / "go").touch()
    assert "step 40/40" in second.communicate(timeout=300)[0]
    assert second.returncode == 0
    assert containers(engine, run) == []


def test_a_container_that_was_removed_by_hand_is_a_lost_run(engine, docker, spec):
    run = docker.submit(spec(env={"FAKE_STEPS": 10000}))
    wait_for(run.steps.is_file)
    engine.api.remove_container(containers(engine, run)[0].id, force=True)
    assert docker.status(run) == Status("lost", 137, "its container disappeared without an exit code: it was removed by hand")


@pytest.mark.parametrize(("seconds", "state"), [(1, "starting"), (600, "lost")])
def test_a_start_that_nobody_finished_is_lost_after_a_while(docker, spec, seconds, state):
    run, made = spec().run_dir, datetime.now(UTC) - timedelta(seconds=seconds)
    record = {"created": made.isoformat(), "outcome": {"state": "starting"}, "container": {"name": "dpo-no-such-container"}}
    run.create({run.experiment: "{}"}, record)
    assert docker.status(run).state == state


def test_without_an_engine_a_run_that_goes_on_is_unknown_and_one_that_ended_is_not(docker, spec):
    run = docker.submit(spec())
    away = Docker(docker.cwd, {**docker.caller, "DOCKER_HOST": "unix:///no/such/engine"})
    assert away.status(run).state == "unknown"
    over(docker, run)
    assert away.status(run).state == "done"


def test_memory_that_runs_out_is_named_with_its_limit(docker, spec):
    made = replace(spec(memory="64Mi"), command=("python", "-c", "x = bytearray(1 << 28)"))
    sentence = "the kernel killed it: the memory of launch.memory (64Mi) ran out"
    assert over(docker, docker.submit(made)) == Status("failed", 137, sentence)


@pytest.fixture
def foreign_image(engine):
    """The smallest program for a processor that nobody has, an ELF header for machine 0x1234, and nothing else."""
    program = bytearray(b"\x7fELF\x02\x01\x01" + bytes(57))
    program[16:20] = b"\x02\x00\x34\x12"
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w") as tar:
        entry = tarfile.TarInfo("program")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    name = "dpo-launcher-test:foreign"
    engine.api.import_image_from_data(files.getvalue(), *name.split(":"), changes=['ENTRYPOINT ["/program"]'])
    yield name
    engine.images.remove(name, force=True)


def test_an_image_for_another_processor_is_said_to_be_one(docker, spec, foreign_image):
    run = docker.submit(spec(image=foreign_image))
    assert over(docker, run).sentence.startswith("the image is for another processor architecture")
    assert "exec format error" in (run.logs / "container.log").read_text()


def test_shared_memory_that_runs_out_is_a_bus_error_with_its_setting(docker, spec):
    script = (
        "import mmap; f = open('/dev/shm/x', 'w+b'); f.truncate(1 << 24); m = mmap.mmap(f.fileno(), 0); m[:] = b'1' * (1 << 24)"
    )
    made = replace(spec(shm_size="1Mi"), command=("python", "-c", script))
    assert over(docker, docker.submit(made)) == Status(
        "failed", 135, "a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size"
    )


def test_a_start_that_fails_leaves_a_failed_run_and_no_container(engine, docker, spec):
    made = replace(spec(), gpus=1)
    with pytest.raises(LauncherError, match="install the NVIDIA Container Toolkit"):
        docker.submit(made)
    assert docker.status(made.run_dir).state == "failed"
    assert containers(engine, made.run_dir) == []
