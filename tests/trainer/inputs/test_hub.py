"""The hub is away, refuses, or comes back: a real client asks a server over HTTP."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.errors import CredentialError, ExperimentError, LauncherError, Stopped, UnreachableError, Warned
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.hub import Hub, serving
from trainer.inputs.recorded import recorded_base

Make = Callable[..., Experiment]
NAME = "some-org/some-model"


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import close_session, constants

    with serving(Hub(tiny_model)) as hub:
        _ask(hub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        close_session()
        yield hub
    close_session()  # its proxies are those of the environment when it was made


def _ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the client ask ``url``, which it reads from the environment when it is imported."""
    from huggingface_hub import constants
    from transformers.utils import hub

    monkeypatch.setattr(hub, "_hf_api", None)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def experiment(make_experiment: Make, tmp_path: Path) -> Experiment:
    return make_experiment(experiment={"model_name": NAME}, model_cache_dir=str(tmp_path / "hub"))


def tokenizer(experiment: Experiment, name: str = NAME) -> Any:
    from trainer.inputs.models.model import load_tokenizer

    return load_tokenizer(experiment, name)


def failure(experiment: Experiment, name: str = NAME) -> LauncherError:
    from huggingface_hub.utils import _http

    pauses: list[float] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_http, "time", SimpleNamespace(**{**vars(time), "sleep": pauses.append}))
        with pytest.raises(LauncherError) as caught:
            tokenizer(experiment, name)
    assert pauses == [], "no retries of the client's own"
    return caught.value


@pytest.mark.parametrize(
    ("status", "why"),
    [(503, "HTTP 503 (Service Unavailable)"), (429, "HTTP 429 (Too Many Requests)"), (500, "HTTP 500 (Internal Server Error)")],
)
def test_a_hub_that_fails_for_now_is_48(hub: Hub, experiment: Experiment, status: int, why: str) -> None:
    hub.status = status
    error = failure(experiment)
    assert (error.exit_code, str(error)) == (48, f"the hub ({hub.url}) cannot be reached: {why}")


def test_nobody_at_the_hub_s_address_is_48(hub: Hub, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    _ask("http://127.0.0.1:9", monkeypatch)
    error = failure(experiment)
    assert (error.exit_code, str(error)) == (48, "the hub (http://127.0.0.1:9) cannot be reached: connection refused")


def test_an_unknown_host_is_48(hub: Hub, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    _ask("http://hub.invalid", monkeypatch)
    error = failure(experiment)
    assert (error.exit_code, str(error)) == (48, "the hub (http://hub.invalid) cannot be reached: unknown host name (DNS)")


def test_a_proxy_that_is_away_is_48_and_named_without_its_password(
    hub: Hub, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session

    monkeypatch.setenv("HTTP_PROXY", "http://me:hush-hush@127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://me:hush-hush@127.0.0.1:9")
    _ask("http://hub.example", monkeypatch)
    close_session()
    error = failure(experiment)
    through = "through proxy http://127.0.0.1:9"
    assert (error.exit_code, str(error)) == (48, f"the hub (http://hub.example) cannot be reached {through}: connection refused")


@pytest.mark.parametrize(("status", "kind"), [(403, CredentialError), (404, ExperimentError)])
def test_what_the_hub_refuses_is_no_outage(hub: Hub, experiment: Experiment, status: int, kind: type[LauncherError]) -> None:
    hub.status = status
    assert type(failure(experiment)) is kind


def test_a_name_that_the_hub_does_not_know_is_the_experiment_s_mistake(hub: Hub, experiment: Experiment) -> None:
    assert type(failure(experiment, "some-org/other")) is ExperimentError


def test_without_a_network_on_purpose_a_model_that_is_not_cached_is_the_experiment_s_mistake(
    hub: Hub, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert type(failure(experiment)) is ExperimentError
    assert hub.requests == []


def test_what_the_cache_has_is_used_while_the_hub_is_away(
    hub: Hub, experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tokenizer(experiment)
    hub.status = 503
    assert tokenizer(experiment).get_vocab() == there.get_vocab()
    away = f"the hub ({hub.url}) cannot be reached: HTTP 503 (Service Unavailable)"
    assert capsys.readouterr().out == f"notice: {away}; the tokenizer of {NAME} is read from the cache\n"
    (next(iter((tmp_path / "hub").rglob("tokenizer.json")))).unlink()
    assert str(failure(experiment)) == away


def test_a_hub_that_comes_back_is_waited_for(hub: Hub, experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    from trainer.processes.waiting import Waiting

    hub.status, hub.times = 503, 2
    assert Waiting(longest=600, first=0.01)(lambda: tokenizer(experiment)).pad_token is not None
    said = f"waiting: the hub ({hub.url}) cannot be reached: HTTP 503 (Service Unavailable); trying again for up to 10 min\n"
    assert capsys.readouterr().out == said  # once a minute
    assert hub.times == 0


def test_a_stop_is_heard_while_the_hub_is_waited_for(hub: Hub, experiment: Experiment) -> None:
    from trainer.processes.waiting import Waiting

    def look() -> None:
        raise Stopped("stopped before the first step: nothing to resume")

    hub.status = 503
    with pytest.raises(Stopped):
        Waiting(look)(lambda: tokenizer(experiment))


def test_a_hub_that_stays_away_ends_the_run_with_how_long_it_was_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from trainer.processes import waiting

    clock = [0.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))

    def once() -> None:
        raise UnreachableError("the hub cannot be reached: timeout\n    cached:   nothing")

    with pytest.raises(UnreachableError) as caught:
        waiting.Waiting()(once)
    assert str(caught.value) == "the hub cannot be reached: timeout (gave up after 5 min)\n    cached:   nothing"
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "waiting: the hub cannot be reached: timeout; trying again for up to 5 min",
        "waiting: the hub cannot be reached: timeout; trying again for up to 4 min",
    ]
    assert len(lines) == 5


def test_what_waiting_cannot_mend_is_raised_at_once() -> None:
    from trainer.processes.waiting import Waiting

    tried = []

    def once() -> None:
        tried.append(1)
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        Waiting()(once)
    assert tried == [1]


def test_weights_that_the_cache_lacks_are_48_while_the_hub_is_away(hub: Hub, experiment: Experiment) -> None:
    from trainer.inputs.models.model import choose_precision, load_model

    tokenizer(experiment)
    hub.status = 503
    precision = choose_precision(experiment.hyperparameters, cuda=False, bf16=False)
    with pytest.raises(UnreachableError, match=r"cannot be reached: HTTP 503 \(Service Unavailable\)"):
        load_model(experiment, NAME, precision, cuda=False)


EARLIER = "e" * 40


@pytest.fixture
def moved(hub: Hub, tmp_path: Path) -> Hub:
    """A hub whose model has a newer commit, whose configuration is empty."""
    earlier, newest = tmp_path / "earlier", tmp_path / "newest"
    for folder in (earlier, newest):
        shutil.copytree(hub.folder, folder)
        (folder / "pytorch_model.bin").write_text("a second copy of the weights")
    (newest / "config.json").write_text("{}")
    hub.earlier[EARLIER], hub.folder = earlier, newest
    return hub


def run_of(folder: Path, **record: Any) -> RunDir:
    run = RunDir(folder / "second")
    run.path.mkdir()
    run.update_record(**record)
    return run


@pytest.mark.parametrize("part", ["again", "resumed"])
def test_the_commit_of_the_record_is_loaded_and_not_the_newest(
    moved: Hub, experiment: Experiment, tmp_path: Path, part: str
) -> None:
    from trainer.inputs.models.model import choose_precision, load_model
    from trainer.reference.identity import base_identity, revision

    made_of = {"identity": "a" * 64, "revision": EARLIER}
    record = {"again": {"of": "first", "anyway": False, "model": made_of}} if part == "again" else {"model": made_of}
    path, said = recorded_base(run_of(tmp_path, **record), experiment, NAME)
    assert (path, said) == (str(tmp_path / "hub" / f"models--{NAME.replace('/', '--')}" / "snapshots" / EARLIER), [])
    assert not (Path(path) / "pytorch_model.bin").exists(), "transformers does not read it"
    assert revision(path) == EARLIER
    folder = moved.earlier[EARLIER]
    assert base_identity(path, tmp_path / "cache") == base_identity(str(folder), tmp_path / "cache")
    model = load_model(experiment, path, choose_precision(experiment.hyperparameters, cuda=False, bf16=False), cuda=False)
    assert model.config.vocab_size == json.loads((folder / "config.json").read_text())["vocab_size"]
    assert tokenizer(experiment, path).pad_token is not None

    moved.status = 503  # and again without the hub
    assert recorded_base(RunDir(tmp_path / "second"), experiment, NAME) == (path, [])
    (Path(path) / "model.safetensors").unlink()
    with pytest.raises(UnreachableError):
        recorded_base(RunDir(tmp_path / "second"), experiment, NAME)


def test_a_commit_that_the_hub_no_longer_has_is_refused_and_with_anyway_a_warning(
    moved: Hub, experiment: Experiment, tmp_path: Path
) -> None:
    again = {"of": "first", "anyway": False, "model": {"identity": "a" * 64, "revision": "d" * 40}}
    run = run_of(tmp_path, again=again)
    with pytest.raises(ExperimentError) as caught:
        recorded_base(run, experiment, NAME)
    assert str(caught.value).splitlines()[:3] == [
        f"model_name: revision dddddddddddd of {NAME} not found",
        f"    expected: {'d' * 40}",
        "    found:    neither on the hub nor in its cache",
    ]
    run.update_record(again={**again, "anyway": True})
    assert recorded_base(run, experiment, NAME) == (
        NAME,
        [Warned(f"revision dddddddddddd of {NAME} not found: the newest one is used")],
    )


def test_a_run_without_a_recorded_commit_loads_the_newest(experiment: Experiment, tmp_path: Path) -> None:
    assert recorded_base(run_of(tmp_path, model={"identity": "a" * 64, "revision": None}), experiment, NAME) == (NAME, [])
