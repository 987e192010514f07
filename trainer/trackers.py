"""Trackers: W&B, MLflow and trackio beside the run's own log, through the callbacks of transformers, on the first rank."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from launcher.errors import CredentialError, ExperimentError, LauncherError, Mistake, UnreachableError, Warned
from launcher.experiment.sections.trackers import OFFLINE, TRACKERS
from launcher.hub import of_network
from launcher.packages import adding
from launcher.redact import REDACTOR
from launcher.runs.run_dir import RunDir

from .output import notices

_REFUSED: Final = re.compile(r"api.?key|log ?in|unauthori[sz]ed|forbidden|credential|\b40[13]\b", re.IGNORECASE)
_OWN: dict[str, str] = {}  # variables that are set here
_HELP: Final = {
    "wandb": "set WANDB_API_KEY in .env and name it in launch.secrets, or set WANDB_MODE=offline in launch.env",
    "mlflow": "check MLFLOW_TRACKING_URI, and name MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_PASSWORD in launch.secrets",
    "trackio": "without trackio_space_id it writes to this machine; see TRACKIO_DIR",
}


def check_installed(report_to: Iterable[str]) -> None:
    """Raises ExperimentError where the package of a tracker is not installed in this environment."""
    missing = [name for name in report_to if name in TRACKERS and find_spec(name) is None]
    if missing:
        what = f"{', '.join(missing)} not installed"
        raise ExperimentError(Mistake("hyperparameters.report_to", what, hint=f"where the run trains: {adding('trackers')}"))


def check_key(report_to: Iterable[str]) -> None:
    """Raises CredentialError where W&B has no key, before a model is loaded. A wrong one is found when the tracker starts."""
    if "wandb" not in report_to or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in OFFLINE:
        return
    import wandb

    try:
        wandb.login()  # looks into netrc and its own settings, and asks nobody where there is no terminal
    except wandb.errors.AuthenticationError:
        return
    except wandb.errors.UsageError as error:
        raise CredentialError(f"wandb cannot start: {_words(error)}; {_HELP['wandb']}") from error


class Trackers(TrainerCallback):
    """Hands on what is logged to the trackers that ``report_to`` names; they are closed when the run ends, and not before.

    A tracker with wrong settings or a wrong key ends the run before its first step. One whose server does not answer never does:
    W&B then writes its offline files, the others get nothing. One that fails later is a warning, once.
    """

    def __init__(self, report_to: Sequence[str], run: RunDir):
        _prepare(run)
        if (project := project_of(run)) is not None:
            run.update_record(trackers={**_begun(run), "project": project})
        if "trackio" in report_to:  # it reads TRACKIO_DIR while it is imported, which TRL or an earlier run has done
            for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
                del sys.modules[name]
        self._run = run
        self._live: dict[str, TrainerCallback] = {name: INTEGRATION_TO_CALLBACK[name]() for name in TRACKERS if name in report_to}
        if "trackio" in self._live and (sweep := _sweep_of(run)) is not None:  # its module is this run's own, see above
            trackio: Any = self._live["trackio"]._trackio  # type: ignore[attr-defined]
            trackio.init = partial(trackio.init, group=sweep)
        self._last: tuple[Any, ...] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raises ExperimentError or CredentialError where a tracker cannot start and waiting would not help."""
        self._last = (args, state, control)
        if (project := project_of(self._run)) is not None:
            args.project = project  # trackio's, which has no variable for it
        for name, tracker in list(self._live.items()):
            try:
                tracker.on_train_begin(args, state, control, **kwargs)
            except Exception as error:
                del self._live[name]
                failure = _cannot_start(name, error)
                if not isinstance(failure, UnreachableError):
                    raise failure from error
                self._without(name, failure, lambda offline: offline.on_train_begin(args, state, control, **kwargs))
        if (mlflow := _mlflow(self._live.get("mlflow"))) is not None:
            self._run.update_record(trackers={**_begun(self._run), "mlflow": mlflow.active_run().info.run_id})
        self._each(self._tell_settings)

    def _tell_settings(self, tracker: Any) -> None:
        """The experiment's hyperparameters under the names of its file, such as ``hyperparameters.r``, in every tracker alike."""
        given = dict((self._run.read_record().get("experiment") or {}).get("hyperparameters") or {})
        told = {**(given.pop("trl", None) or {}), **given}
        if hasattr(tracker, "_ml_flow"):
            if os.environ.get("MLFLOW_MAX_LOG_PARAMS") != "0":  # else those of the first attempt stay
                fit = [(f"hyperparameters.{k}", v) for k, v in told.items() if len(str(v)) <= tracker._MAX_PARAM_VAL_LENGTH]
                size = tracker._MAX_PARAMS_TAGS_PER_BATCH
                for begin in range(0, len(fit), size):
                    tracker._ml_flow.log_params(dict(fit[begin : begin + size]))
            return
        module = getattr(tracker, "_wandb", None) or getattr(tracker, "_trackio", None)
        if module is not None:
            module.config.update({"hyperparameters": told}, allow_val_change=True)

    def _without(self, name: str, failure: LauncherError, begin: Callable[[TrainerCallback], object]) -> None:
        """Goes on without the server of ``name``: W&B in its offline mode, which loses nothing."""
        if name != "wandb":
            notices([Warned(f"{name} gets no metrics of this run: {failure}")])
            return
        import wandb

        wandb.teardown()  # its service still holds the run that could not start
        os.environ["WANDB_MODE"] = _OWN["WANDB_MODE"] = "offline"
        tracker = INTEGRATION_TO_CALLBACK[name]()
        try:
            begin(tracker)
        except Exception as error:
            notices([Warned(f"wandb gets no metrics of this run: {failure}, and offline: {_words(error)}")])
            return
        self._live[name] = tracker
        files = self._run.path / "wandb" / "offline-run-*"
        notices([Warned(f"wandb works offline: {failure}; send its files later with: wandb sync {files}")])

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        numbers = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float)}
        self._each(lambda tracker: tracker.on_log(args, state, control, logs=numbers, **kwargs))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._each(lambda tracker: tracker.on_save(args, state, control, **kwargs))

    def close(self, *, failed: bool) -> None:
        """Ends the trackers' runs here: the process leaves by ``os._exit``, which skips the trackers' own exit handlers."""
        last, self._last = self._last, None
        if last is None:
            return
        if failed:
            self._each(lambda tracker: _fail(tracker))
        self._each(lambda tracker: tracker.on_train_end(*last))
        if "wandb" in self._live:
            self._each(lambda tracker: _finish(tracker, failed=failed))
        self._live = {}

    def _each(self, do: Callable[[TrainerCallback], object]) -> None:
        for name, tracker in list(self._live.items()):
            try:
                do(tracker)
            except Exception as error:
                del self._live[name]
                notices([Warned(f"{name} gets no metrics from now on: {_words(error)}")])


def project_of(run: RunDir) -> str | None:
    """W&B's and trackio's project and MLflow's experiment of a run: its experiment's name. None leaves the libraries' own: for a
    run that an earlier version of this project began."""
    record, begun = run.read_record(), _begun(run)
    was_begun = "mlflow" in begun or any((run.path / folder).exists() for folder in ("wandb", "trackio"))
    project: str | None = begun.get("project") or (None if was_begun else record.get("key"))
    return project


def _begun(run: RunDir) -> dict[str, Any]:
    """What the run's record has of its trackers."""
    return run.read_record().get("trackers") or {}


def _sweep_of(run: RunDir) -> str | None:
    sweep: str | None = (run.read_record().get("sweep") or {}).get("name")
    return sweep


def _prepare(run: RunDir) -> None:
    """The environment's word comes first. Without a server all files are in the run's folder; a run that resumes continues its
    curves in W&B and MLflow.

    W&B takes the run's name as an id. MLflow makes an id, which the run's record keeps, and refuses other values of settings that
    it has: those of the first attempt stay.
    """
    begun, project, sweep = _begun(run).get("mlflow"), project_of(run), _sweep_of(run)
    names_experiment = not begun and "MLFLOW_EXPERIMENT_ID" not in os.environ  # a run that goes on is found by its id alone
    own = {
        "WANDB_DIR": str(run.path),
        "WANDB_RUN_ID": run.name,
        "WANDB_PROJECT": project,
        "WANDB_RUN_GROUP": sweep,
        "WANDB_RESUME": "allow",
        "WANDB_CONSOLE": "off",  # it would take lines before they are redacted
        "WANDB_MODE": None,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_INIT_TIMEOUT": "30",  # seconds
        "WANDB_FINISH_TIMEOUT": "120",  # seconds that a GPU waits at the end; by default it waits for ever
        "MLFLOW_RUN_ID": begun,
        "MLFLOW_MAX_LOG_PARAMS": "0" if begun else None,
        "MLFLOW_EXPERIMENT_NAME": project if names_experiment else None,
        "MLFLOW_TAGS": None if sweep is None else json.dumps({"sweep": sweep}),
        "MLFLOW_TRACKING_URI": f"file:{run.path / 'mlruns'}",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",  # MLflow asks for git, which the image does not have, and prints 50 lines
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with 10 s each: 35 s for a server that never answers, not 15 min
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "TRACKIO_DIR": str(run.path / "trackio"),  # in a container the home directory is lost
    }
    for name, value in own.items():
        if os.environ.get(name) not in (None, _OWN.get(name)):  # the user's, and not that of an earlier run of this process
            continue
        os.environ.pop(name, None)
        _OWN.pop(name, None)
        if value is not None:
            os.environ[name] = _OWN[name] = value


def _mlflow(tracker: Any) -> Any:
    """The module ``mlflow`` of transformers' callback where a run of it is open, else None."""
    mlflow = getattr(tracker, "_ml_flow", None)
    return mlflow if mlflow is not None and mlflow.active_run() else None


def _fail(tracker: Any) -> None:
    """A run of MLflow that failed; ``on_train_end`` would call it finished."""
    if (mlflow := _mlflow(tracker)) is not None:
        mlflow.end_run("FAILED")


def _finish(tracker: Any, *, failed: bool) -> None:
    wandb = getattr(tracker, "_wandb", None)
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))
        wandb.teardown(
            exit_code=int(failed)
        )  # its service may still write the run's file, and a container ends with this process


def _cannot_start(name: str, error: Exception) -> LauncherError:
    if (away := of_network(error)) is not None:
        return type(away)(str(away).replace("the hub (", "its server (", 1))
    what = f"{name} cannot start: {_words(error)}"
    if _REFUSED.search(what):
        return CredentialError(f"{what}; {_HELP[name]}")
    if type(error).__name__ == "CommError":  # of W&B, whose own process has met the network's error
        return UnreachableError(_words(error))
    return ExperimentError(Mistake("hyperparameters.report_to", what, hint=_HELP[name]))


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return REDACTOR.text(lines[0] if lines else type(error).__name__)
