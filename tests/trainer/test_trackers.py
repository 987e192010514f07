"""The trackers by their own offline stores where they are installed, else played by callbacks that write down what they get."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from launcher.errors import CredentialError, ExperimentError, LauncherError, Stopped
from launcher.experiment.schema import Experiment
from launcher.packages import adding
from launcher.runs.run_dir import RunDir

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
SETTINGS: dict[str, Any] = {"max_steps": 2, "max_seq_length": 64, "logging_steps": 1, "save_strategy": "no"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of the machine's settings, nor of the test before: both libraries keep what they have read first."""
    from trainer import trackers

    monkeypatch.setattr(trackers, "_OWN", {})
    of_wandb = "DIR RUN_ID RESUME CONSOLE MODE ERROR_REPORTING INIT_TIMEOUT FINISH_TIMEOUT API_KEY BASE_URL"
    of_mlflow = (
        "RUN_ID MAX_LOG_PARAMS DISABLE_TELEMETRY HTTP_REQUEST_MAX_RETRIES HTTP_REQUEST_TIMEOUT TRACKING_URI ALLOW_FILE_STORE"
    )
    own = "TRACKIO_DIR", "GIT_PYTHON_REFRESH"
    for name in (*(f"WANDB_{one}" for one in of_wandb.split()), *(f"MLFLOW_{one}" for one in of_mlflow.split()), *own):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    yield
    if (wandb := sys.modules.get("wandb")) is not None:
        wandb.teardown()
    if (mlflow := sys.modules.get("mlflow")) is not None:
        mlflow.set_tracking_uri(None)


class Played:
    """Plays a callback of transformers."""

    def __init__(self, told: list[Any], fails_at: str = ""):
        self._told, self._fails_at = told, fails_at

    def __call__(self) -> Played:
        return self

    def _note(self, what: str, *more: Any) -> None:
        if what == self._fails_at:
            raise RuntimeError(f"no {what}\nat line 2")
        self._told.append((what, *more))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("begin", args.run_name)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self._note("log", logs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("save")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("end")


def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **fails_at: str) -> tuple[Any, list[Any]]:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    from trainer.trackers import Trackers

    told: list[Any] = []
    for name, moment in fails_at.items():
        monkeypatch.setitem(INTEGRATION_TO_CALLBACK, name, Played(told, moment))
    return Trackers(list(fails_at), RunDir(tmp_path / "r")), told


ARGS = (SimpleNamespace(run_name="r"), SimpleNamespace(), SimpleNamespace())


def test_a_tracker_gets_the_numbers_and_ends_when_the_run_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trackers, told = played(monkeypatch, tmp_path, mlflow="")
    trackers.on_train_begin(*ARGS)
    trackers.on_log(*ARGS, logs={"loss": 0.5, "rows": "row 3"})
    trackers.on_train_end(*ARGS)
    trackers.on_log(*ARGS, logs={"eval_loss": 0.4})
    trackers.close(failed=False)
    trackers.close(failed=False)
    assert told == [("begin", "r"), ("log", {"loss": 0.5}), ("log", {"eval_loss": 0.4}), ("end",)]


def test_a_tracker_that_fails_is_a_warning_once_and_the_others_get_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers, told = played(monkeypatch, tmp_path, mlflow="log", trackio="")
    trackers.on_train_begin(*ARGS)
    for loss in (0.5, 0.4):
        trackers.on_log(*ARGS, logs={"loss": loss})
    trackers.close(failed=False)
    assert told == [("begin", "r"), ("begin", "r"), ("log", {"loss": 0.5}), ("log", {"loss": 0.4}), ("end",)]
    assert capsys.readouterr().out == "warning: mlflow gets no metrics from now on: no log\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("api_key not configured (no-tty). call wandb.login", 44, "wandb cannot start: api_key not configured (no-tty)"),
        ("unknown mode 'off-line'", 42, "hyperparameters.report_to: wandb cannot start: unknown mode 'off-line'"),
    ],
)
def test_a_tracker_that_cannot_start_ends_the_run_before_its_first_step_and_the_others_are_closed(
    words: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trackers, told = played(monkeypatch, tmp_path, mlflow="", wandb="")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"{words}\nat line 2")

    trackers._live = {name: trackers._live[name] for name in ("mlflow", "wandb")}
    trackers._live["wandb"].on_train_begin = fail
    with pytest.raises(LauncherError) as error:
        trackers.on_train_begin(*ARGS)
    assert (error.value.exit_code, str(error.value).startswith(said)) == (code, True)
    assert "WANDB_API_KEY" in str(error.value)
    assert "line 2" not in str(error.value)
    trackers.close(failed=True)
    assert told == [("begin", "r"), ("end",)]


def unreachable() -> Exception:
    return httpx.ConnectError("connection refused")


def test_a_tracker_whose_server_is_down_at_the_start_is_a_warning_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers, told = played(monkeypatch, tmp_path, mlflow="", trackio="")

    def fail(*_: object, **__: object) -> None:
        raise unreachable()

    trackers._live["mlflow"].on_train_begin = fail
    trackers.on_train_begin(*ARGS)
    trackers.on_log(*ARGS, logs={"loss": 0.5})
    trackers.close(failed=False)
    assert told == [("begin", "r"), ("log", {"loss": 0.5}), ("end",)]
    assert capsys.readouterr().out.startswith("warning: mlflow gets no metrics of this run: ")


@pytest.fixture
def closed_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def begun(tmp_path: Path, tracker: str, *losses: float) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from trainer.trackers import Trackers

    run = RunDir(tmp_path / "r")
    run.path.mkdir()
    args, state = TrainingArguments(str(tmp_path / "out"), run_name="r", use_cpu=True), TrainerState(is_world_process_zero=True)
    trackers = Trackers([tracker], run)
    trackers.on_train_begin(args, state, TrainerControl())
    for state.global_step, loss in enumerate(losses, 1):
        trackers.on_log(args, state, TrainerControl(), logs={"loss": loss})
    trackers.close(failed=False)


def test_mlflow_without_an_answer_costs_seconds_and_not_the_run(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    begun(tmp_path, "mlflow", 0.5)
    server = f"its server (http://127.0.0.1:{closed_port})"
    assert f"warning: mlflow gets no metrics of this run: {server} cannot be reached: " in capsys.readouterr().out


def test_wandb_without_an_answer_writes_offline_files_that_can_be_sent_later(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    begun(tmp_path, "wandb", 0.5, 0.4)
    assert "warning: wandb works offline: " in (printed := capsys.readouterr().out)
    assert f"send its files later with: wandb sync {tmp_path}/r/wandb/offline-run-*" in printed
    assert "a" * 40 not in printed
    (file,) = tmp_path.glob("r/wandb/offline-run-*/run-r.wandb")
    assert b"train/loss" in file.read_bytes()


def test_a_missing_key_of_wandb_is_told_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    from trainer.trackers import check_key

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    with pytest.raises(CredentialError) as error:
        check_key(["tensorboard", "wandb"])
    assert "set WANDB_API_KEY in .env" in str(error.value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_key(["wandb"])


def test_each_run_of_a_process_has_its_own_run_in_wandb_unless_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from trainer.trackers import Trackers

    for name in ("one", "two"):
        Trackers([], RunDir(tmp_path / name))
        assert (os.environ["WANDB_RUN_ID"], os.environ["WANDB_DIR"]) == (name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    Trackers([], RunDir(tmp_path / "three"))
    assert (os.environ["WANDB_RUN_ID"], os.environ["WANDB_DIR"]) == ("mine", str(tmp_path / "three"))


def test_a_tracker_that_is_not_installed_is_a_mistake_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "mlflow" else object())
    trackers.check_installed(("tensorboard", "wandb", "none"))
    with pytest.raises(ExperimentError) as error:
        trackers.check_installed(("tensorboard", "mlflow"))
    assert "hyperparameters.report_to: mlflow not installed" in str(error.value)
    assert f"where the run trains: {adding('trackers')}" in str(error.value)
    assert "[trackers]" in adding("trackers")


def trained(tmp_path: Path, make_experiment: Make, new_run: NewRun, tracker: str) -> RunDir:
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    experiment = make_experiment(report_to=[tracker], **SETTINGS)
    run = new_run(tmp_path, experiment, f"with-{tracker}")
    train(run, experiment, Roots(tmp_path, tmp_path, tmp_path / "cache"), StopRequest(), attempt=1)
    return run


def experiments(client: Any) -> list[str]:
    return [one.experiment_id for one in client.search_experiments()]


def losses(run: RunDir) -> list[float]:
    events = map(json.loads, run.steps.read_text().splitlines())
    return [event["loss"] for event in events if event["type"] == "train"]


def test_mlflow_without_a_server_has_the_losses_in_the_folder_of_the_run(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    run = trained(tmp_path, make_experiment, new_run, "mlflow")
    client = mlflow.tracking.MlflowClient(f"file:{run.path}/mlruns")
    (found,) = client.search_runs(experiments(client))
    assert (found.info.run_name, found.info.status) == ("with-mlflow", "FINISHED")
    assert [one.value for one in client.get_metric_history(found.info.run_id, "loss")] == pytest.approx(losses(run))
    assert mlflow.active_run() is None


def test_a_run_that_resumes_continues_its_run_in_mlflow(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from trainer.trackers import Trackers

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def attempt(run: RunDir, steps: range, *, failed: bool) -> None:
        args = TrainingArguments(str(tmp_path / "out"), run_name=run.name, use_cpu=True, max_steps=steps.stop)
        state = TrainerState(is_world_process_zero=True)
        trackers = Trackers(["mlflow"], run)
        trackers.on_train_begin(args, state, TrainerControl())
        for state.global_step in steps:
            trackers.on_log(args, state, TrainerControl(), logs={"loss": 1 / state.global_step})
        trackers.close(failed=failed)

    experiment = make_experiment()
    run, other = (new_run(tmp_path, experiment, name) for name in ("resumed", "other"))
    attempt(run, range(1, 3), failed=True)
    attempt(run, range(3, 5), failed=False)
    attempt(other, range(1, 2), failed=False)
    client = mlflow.tracking.MlflowClient(f"file:{tmp_path}/mlruns")
    found = {one.info.run_name: one for one in client.search_runs(experiments(client))}
    assert {name: one.info.status for name, one in found.items()} == {"resumed": "FINISHED", "other": "FINISHED"}
    history = client.get_metric_history(found["resumed"].info.run_id, "loss")
    assert sorted((one.step, one.value) for one in history) == [(step, 1 / step) for step in range(1, 5)]
    assert found["resumed"].data.params["max_steps"] == "3", "as the first attempt logged it"
    assert run.read_record()["trackers"]["mlflow"] == found["resumed"].info.run_id


def test_wandb_writes_its_offline_run_whole(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = trained(tmp_path, make_experiment, new_run, "wandb")
    assert wandb.run is None
    (file,) = run.path.glob("wandb/offline-run-*/run-with-wandb.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content
    assert b"rewards/margins" in content
    assert len(losses(run)) == 2


def test_trackio_has_the_losses_in_the_folder_of_the_run(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    run = trained(tmp_path, make_experiment, new_run, "trackio")
    (store,) = (run.path / "trackio").glob("*.db")
    with sqlite3.connect(store) as database:
        rows = [json.loads(row) for (row,) in database.execute("select metrics from metrics where run_name = ?", [run.name])]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == pytest.approx(losses(run))


def test_each_run_of_a_process_has_its_own_folder_of_trackio(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    trackio = pytest.importorskip("trackio.utils", reason="trackio is not installed")
    from trainer.trackers import Trackers

    for name in ("one", "two"):
        run = new_run(tmp_path, make_experiment(), name)
        trackers: Any = Trackers(["trackio"], run)
        assert trackers._live["trackio"]._trackio.utils.TRACKIO_DIR == run.path / "trackio" != trackio.TRACKIO_DIR


def test_mlflow_is_quiet_where_there_is_no_git_as_in_the_image(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    code = (
        "import sys; from pathlib import Path; from launcher.runs.run_dir import RunDir\nfrom trainer.trackers import Trackers\n"
    )
    code += "Trackers(['mlflow'], RunDir(Path(sys.argv[1]) / 'run'))\n"
    code += "import mlflow; mlflow.start_run(); mlflow.end_run()"
    (tmp_path / "script.py").write_text(code)
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "git" not in done.stderr.lower()


def test_a_run_that_stops_closes_its_trackers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from trainer import train

    closed: list[bool] = []

    class Closing:
        def __init__(self, *_: object) -> None: ...

        def close(self, *, failed: bool) -> None:
            closed.append(failed)

    monkeypatch.setattr(train, "Trackers", Closing)
    added: list[Any] = []
    experiment = SimpleNamespace(hyperparameters=SimpleNamespace(report_to=("tensorboard", "wandb")))
    rank, ready = (
        SimpleNamespace(experiment=experiment, first=True, run=None),
        SimpleNamespace(trainer=SimpleNamespace(add_callback=added.append)),
    )
    with pytest.raises(Stopped), train._tracked(rank, ready):
        raise Stopped("stopped")
    with train._tracked(rank, ready):
        pass
    with train._tracked(SimpleNamespace(experiment=experiment, first=False, run=None), ready):
        pass
    assert (closed, len(added)) == ([True, False], 2), "the other ranks report nothing"


def a_point(tmp_path: Path, make_experiment: Make, new_run: NewRun, tracker: str) -> RunDir:
    """The first point of the sweep ``grid`` of the experiment ``tune``, trained."""
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    experiment = make_experiment(report_to=[tracker], r=4, **SETTINGS)
    run = new_run(tmp_path, experiment, "grid-1")
    run.update_record(key="tune", sweep={"name": "grid", "point": 1}, experiment=json.loads(experiment.model_dump_json()))
    train(run, experiment, Roots(tmp_path, tmp_path, tmp_path / "cache"), StopRequest(), attempt=1)
    assert run.read_record()["trackers"]["project"] == "tune"
    return run


def test_mlflow_names_experiment_run_sweep_and_settings_as_the_file_does(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    run = a_point(tmp_path, make_experiment, new_run, "mlflow")
    client = mlflow.tracking.MlflowClient(f"file:{run.path}/mlruns")
    (found,) = client.search_runs(experiments(client))
    assert client.get_experiment(found.info.experiment_id).name == "tune"
    assert (found.info.run_name, found.data.tags["sweep"], found.data.params["hyperparameters.r"]) == ("grid-1", "grid", "4")


def test_wandb_names_project_run_group_and_settings_as_the_file_does(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    init, told = wandb.init, {}

    def seen(**given: Any) -> Any:
        made = init(**given)
        told.update(project=made.project, name=made.name, group=made.group, config=made.config)
        return made

    monkeypatch.setattr(wandb, "init", seen)
    a_point(tmp_path, make_experiment, new_run, "wandb")
    assert (told["project"], told["name"], told["group"]) == ("tune", "grid-1", "grid")
    assert told["config"]["hyperparameters"]["r"] == 4


def test_trackio_names_project_run_group_and_settings_as_the_file_does(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    run = a_point(tmp_path, make_experiment, new_run, "trackio")
    (store,) = (run.path / "trackio").glob("*.db")
    assert store.stem == "tune"
    with sqlite3.connect(store) as database:
        ((name, text),) = database.execute("select run_name, config from configs").fetchall()
    config = json.loads(text)
    assert (name, config["_Group"], config["hyperparameters"]["r"]) == ("grid-1", "grid", 4)


def test_a_run_that_an_earlier_version_began_keeps_its_place_in_the_trackers(tmp_path: Path) -> None:
    from trainer.trackers import project_of

    run = RunDir(tmp_path / "r")
    (run.path / "wandb").mkdir(parents=True)
    run.update_record(key="tune")
    assert project_of(run) is None
    run.update_record(trackers={"project": "tune"})
    assert project_of(run) == "tune"
    other = RunDir(tmp_path / "o")
    other.path.mkdir()
    other.update_record(key="tune", trackers={"mlflow": "0123"})
    assert project_of(other) is None
