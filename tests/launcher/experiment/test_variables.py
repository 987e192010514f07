from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.files import read_env
from launcher.experiment.schema import Experiment
from launcher.experiment.variables import (
    VARIABLES,
    check_addresses,
    has_password,
    is_of_this_machine,
    local_addresses,
    not_needed,
    secrets,
    settings,
)

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "containers.md"


def experiment(**fields: object) -> Experiment:
    return Experiment.parse({"model_name": "org/model", "datasets_path": "d", **fields})


S3 = experiment(storage_config={"bucket_name": "b"})
OWN = experiment(storage_config={"bucket_name": "b", "endpoint_url": "https://minio.example.com"})


@pytest.mark.parametrize(
    ("address", "has"),
    [
        ("http://proxy:3128", False),
        ("http://user:word@proxy:3128", True),
        ("user:word@proxy:3128", True),
        ("http://user@proxy:3128/", True),
        ("http://user:wo/rd@proxy", True),
        ("https://host/x?mail=a@b", False),
        ("", False),
    ],
)
def test_a_password_in_an_address_is_seen(address: str, has: bool) -> None:
    assert has_password(address) == has


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("http://localhost:9000", True),
        ("127.0.0.1:3128", True),
        ("http://user:word@127.1.2.3/", True),
        ("http://[::1]:80", True),
        ("http://0.0.0.0", True),
        ("http://minio.localhost", True),
        ("http://10.0.0.1", False),
        ("https://localhost.example.com", False),
        ("http://[broken", False),
        ("", False),
    ],
)
def test_an_address_of_this_machine_is_seen(address: str, is_here: bool) -> None:
    assert is_of_this_machine(address) == is_here


def test_what_is_passed_on_has_no_password_and_a_proxy_with_one_is_a_secret() -> None:
    caller = {
        "HTTPS_PROXY": "http://user:word@proxy:3128", "http_proxy": "http://proxy:3128", "NO_PROXY": ".example.com,10.0.0.0/8",
        "HF_ENDPOINT": "https://hub.example.com", "HF_HUB_OFFLINE": "1", "AWS_REGION": "eu-west-1", "AWS_CA_BUNDLE": "/ca.pem",
        "HF_TOKEN": "t", "AWS_ACCESS_KEY": "k", "PATH": "/bin", "ALL_PROXY": "",
    }  # fmt: skip
    assert settings(S3, caller).keys() == {"http_proxy", "NO_PROXY", "HF_ENDPOINT", "HF_HUB_OFFLINE", "AWS_REGION"}
    assert secrets(S3, caller) == ["HF_TOKEN", "AWS_ACCESS_KEY", "HTTPS_PROXY"]
    assert secrets(experiment(), caller) == ["HF_TOKEN", "HTTPS_PROXY"]
    assert secrets(experiment(), {"HUGGING_FACE_HUB_TOKEN": "t"}) == ["HUGGING_FACE_HUB_TOKEN"]
    assert secrets(experiment(), {"HUGGING_FACE_HUB_TOKEN": "t", "HF_TOKEN": "u"}) == ["HF_TOKEN"]


@pytest.mark.parametrize(
    ("name", "hint", "which"),
    [
        ("AWS_ENDPOINT_URL", "put AWS_ACCESS_KEY and AWS_SECRET_KEY into .env", S3),
        ("AWS_ENDPOINT_URL_S3", "put AWS_ACCESS_KEY and AWS_SECRET_KEY into .env", experiment(datasets_path="s3://b/d")),
        ("HF_ENDPOINT", "put a token into HF_TOKEN", experiment()),
        (
            "GOOGLE_SHEETS_API_URL",
            "use GOOGLE_SHEETS_CLIENT_EMAIL and GOOGLE_SHEETS_PRIVATE_KEY",
            experiment(datasets_path=None, spreadsheet_id="1", train_sheet="T"),
        ),
    ],
)
def test_a_server_s_address_with_a_password_is_refused_as_in_yaml(name: str, hint: str, which: Experiment) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_addresses(which, {name: "https://user:hush@host"})
    (mistake,) = caught.value.mistakes
    assert (mistake.where, mistake.what, mistake.hint) == (name, "contains a user name or a password", hint)
    assert "hush" not in str(caught.value)


def test_an_address_that_the_experiment_does_not_ask_is_not_refused_and_not_passed_on() -> None:
    caller = {"AWS_ENDPOINT_URL": "https://user:hush@host"}
    for which in (experiment(), OWN):
        check_addresses(which, caller)
        assert settings(which, caller) == {}


def test_servers_of_this_machine_are_named_without_their_password() -> None:
    caller = {
        "AWS_ENDPOINT_URL": "http://localhost:9000",
        "HTTPS_PROXY": "http://me:hush@127.0.0.1:3128",
        "http_proxy": "http://p:1",
    }
    assert local_addresses(S3, caller) == {"AWS_ENDPOINT_URL": "http://localhost:9000", "HTTPS_PROXY": "http://127.0.0.1:3128"}
    assert local_addresses(OWN, caller).keys() == {"HTTPS_PROXY"}
    mine = experiment(storage_config={"bucket_name": "b", "endpoint_url": "http://127.0.0.1:9000"})
    assert local_addresses(mine, {}) == {"storage_config.endpoint_url": "http://127.0.0.1:9000"}


def test_secrets_that_no_part_of_the_experiment_needs_are_left_out() -> None:
    caller = {
        "HF_TOKEN": "a", "AWS_SECRET_KEY": "b", "GOOGLE_SHEETS_PRIVATE_KEY": "c", "GITHUB_TOKEN": "d", "WANDB_API_KEY": "e",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "TOKENIZERS_PARALLELISM": "false", "AWS_WEB_IDENTITY_TOKEN_FILE": "/f",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "g", "PATH": "/bin", "HTTPS_PROXY": "http://me:hush@p",
    }  # fmt: skip
    always = ["GITHUB_TOKEN", "GOOGLE_SHEETS_PRIVATE_KEY"]
    assert not_needed(S3, caller, ["WANDB_API_KEY"]) == always
    assert not_needed(experiment(), caller, []) == sorted(
        [*always, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_SECRET_KEY", "WANDB_API_KEY"]
    )


def test_what_libraries_read_from_the_environment_is_set_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"NO_PROXY": "localhost"})
    (tmp_path / ".env").write_text("HTTPS_PROXY=http://proxy:1\nNO_PROXY=x\nHF_TOKEN=hush\nHF_ENDPOINT=https://hub\nOTHER=1\n")
    read_env(tmp_path)
    assert os.environ == {"NO_PROXY": "localhost", "HTTPS_PROXY": "http://proxy:1", "HF_ENDPOINT": "https://hub"}


def test_the_page_names_every_variable_that_reaches_a_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [one.name for one in VARIABLES if f"`{one.name}`" not in text and not one.name.islower()] == []


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"model_name": "org/model"}, ["HF_TOKEN"]),
        ({"model_name": "model"}, ["HF_TOKEN"]),  # may be an id of the hub
        ({"model_name": "./model"}, []),
        ({"model_name": "/dpo/cache/model", "adapter": "../adapter"}, []),
        ({"model_name": "/dpo/cache/model", "adapter": "org/adapter"}, ["HF_TOKEN"]),
        ({"model_name": "./model", "datasets_path": "hf://org/pairs"}, ["HF_TOKEN"]),
    ],
)
def test_a_token_of_the_hub_is_for_what_the_hub_has(fields: dict[str, str], wanted: list[str]) -> None:
    assert secrets(experiment(**fields), {"HF_TOKEN": "t"}) == wanted
