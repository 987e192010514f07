"""Who asks: seen in the Authorization header of what reaches the server, and in what a server that checks signatures answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from launcher.errors import CredentialError, ExperimentError, UnreachableError
from launcher.experiment.schema import StorageConfig
from launcher.storage import check_bucket, upload_folder
from tests.s3.proxy import Fault, FaultProxy
from tests.s3.server import MotoServer

from ..conftest import EFFORT, KEYS

Config = Callable[..., StorageConfig]


def upload(folder: Path, storage: StorageConfig, env: dict[str, str]) -> None:
    upload_folder(folder, storage=storage, prefix_parts=("run",), env=env, effort=EFFORT)


def signed_with(proxy: FaultProxy) -> set[str]:
    """The access keys of all requests that have reached the server."""
    credentials = [request.headers["Authorization"].partition("Credential=")[2] for request in proxy.requests]
    return {credential.partition("/")[0] for credential in credentials}


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto: MotoServer) -> tuple[Path, Path]:
    """(credentials, config): files of the SDK that know the profile ``team``, and ``trainer``, a role that it may take."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text("[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = of-the-team\n")
    role = "role_arn = arn:aws:iam::123456789012:role/trainer\nsource_profile = team"
    config.write_text(f"[profile team]\nregion = us-east-1\n[profile trainer]\nregion = us-east-1\n{role}\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
    return credentials, config


def test_the_seed_s_names_are_taken_before_all_others(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    others = {"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "other", "AWS_SESSION_TOKEN": "of-the-other"}
    upload(adapter, storage(), {**KEYS, **others})
    assert signed_with(proxy) == {"AKIAEXAMPLE"}
    assert not any("X-Amz-Security-Token" in request.headers for request in proxy.requests)


def test_the_sdk_s_own_names_are_taken_from_env_with_their_token(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    upload(adapter, storage(), {"AWS_ACCESS_KEY_ID": "AKIAOWN", "AWS_SECRET_ACCESS_KEY": "own", "AWS_SESSION_TOKEN": "ticket"})
    assert signed_with(proxy) == {"AKIAOWN"}
    assert {request.headers["X-Amz-Security-Token"] for request in proxy.requests} == {"ticket"}


def test_the_sdk_s_own_names_are_taken_from_the_environment(
    adapter: Path, storage: Config, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPROCESS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")
    upload(adapter, storage(), {})
    assert signed_with(proxy) == {"AKIAPROCESS"}


def test_a_profile_that_the_environment_names_is_taken(
    adapter: Path, storage: Config, proxy: FaultProxy, profiles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles[0]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles[1]))
    monkeypatch.setenv("AWS_PROFILE", "team")
    upload(adapter, storage(), {})
    assert signed_with(proxy) == {"AKIATEAM"}


@pytest.mark.parametrize(("profile", "begins"), [("team", "AKIATEAM"), ("trainer", "ASIA")])
def test_a_profile_or_its_role_may_be_named_in_env_alone(
    profile: str, begins: str, adapter: Path, storage: Config, proxy: FaultProxy, profiles: tuple[Path, Path]
) -> None:
    env = {"AWS_PROFILE": profile, "AWS_SHARED_CREDENTIALS_FILE": str(profiles[0]), "AWS_CONFIG_FILE": str(profiles[1])}
    upload(adapter, storage(), env)
    (key,) = signed_with(proxy)
    assert key.startswith(begins)
    has_token = {"X-Amz-Security-Token" in request.headers for request in proxy.requests}
    assert has_token == {profile == "trainer"}


def test_a_web_identity_is_exchanged_for_a_role(
    adapter: Path, storage: Config, proxy: FaultProxy, tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pod with a service account of the cloud has it: a token in a file, and a role."""
    token = tmp_path / "token"
    token.write_text("header.claims.signature")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trainer")
    upload(adapter, storage(), {"AWS_REGION": "us-east-1"})
    (key,) = signed_with(proxy)
    assert key.startswith("ASIA")
    assert all(request.headers["X-Amz-Security-Token"] for request in proxy.requests)


def test_an_unknown_profile_and_no_credentials_at_all_are_said(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    for env, kind in (({"AWS_PROFILE": "nobody"}, "ProfileNotFound"), ({}, "NoCredentialsError")):
        with pytest.raises(CredentialError) as caught:
            upload(adapter, storage(), env)
        assert str(caught.value) == (
            f"bucket models at {proxy.url}: no credentials ({kind}); "
            "set AWS_ACCESS_KEY and AWS_SECRET_KEY (or the AWS SDK's own names, a profile or a role)"
        )
        assert caught.value.exit_code == 44


@pytest.mark.parametrize(("given", "missing"), [("AWS_ACCESS_KEY", "AWS_SECRET_KEY"), ("AWS_SECRET_KEY", "AWS_ACCESS_KEY")])
def test_half_of_the_credentials_is_not_enough(adapter: Path, storage: Config, given: str, missing: str) -> None:
    with pytest.raises(CredentialError) as caught:
        upload(adapter, storage(), {given: "hush-hush"})
    assert str(caught.value) == f"{given} is set and {missing} is not; set both or neither"


@pytest.fixture
def guarded(moto: MotoServer, client: Any) -> Iterator[dict[str, str]]:
    """The server checks every signature; gives the access key of a user who exists."""
    known = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=moto.url, **known)
    iam.create_user(UserName="trainer")
    key = iam.create_access_key(UserName="trainer")["AccessKey"]
    moto.post("/moto-api/reset-auth", b"0")
    yield key
    moto.post("/moto-api/reset-auth", b"inf")


@pytest.mark.parametrize(
    ("known", "own_secret", "said"),
    [
        (False, False, "permission denied (InvalidAccessKeyId); check "),
        (True, False, "permission denied (SignatureDoesNotMatch); check "),
        (True, True, "ListObjectsV2 was refused: needs s3:ListBucket on the bucket; the server's answer: "
         "AccessDenied, Access Denied\n    hint:     check "),
    ],
)  # fmt: skip
def test_refused_credentials_are_said_without_the_secret(
    known: bool, own_secret: bool, said: str, guarded: dict[str, str], moto: MotoServer, adapter: Path
) -> None:
    env = {
        "AWS_ACCESS_KEY": guarded["AccessKeyId"] if known else "AKIAEXAMPLE",
        "AWS_SECRET_KEY": guarded["SecretAccessKey"] if own_secret else "hush-hush",
    }
    with pytest.raises(CredentialError) as caught:
        upload(adapter, StorageConfig(bucket_name="models", endpoint_url=moto.url), env)
    assert str(caught.value) == (
        f"bucket models at {moto.url}: {said}AWS_ACCESS_KEY and AWS_SECRET_KEY (or the AWS SDK's own names, "
        "a profile or a role) and their rights to write"
    )


def test_a_server_may_be_named_in_the_environment(adapter: Path, storage: Config, proxy: FaultProxy) -> None:
    upload(adapter, storage(endpoint_url=None), {**KEYS, "AWS_ENDPOINT_URL_S3": proxy.url})
    assert proxy.requests


def check(storage: StorageConfig, env: dict[str, str] = KEYS) -> list[str]:
    return check_bucket(storage, env, ("exp_1", "run"), EFFORT)


def test_what_no_upload_can_work_with_is_found_before_it(storage: Config, proxy: FaultProxy) -> None:
    check(storage())
    with pytest.raises(CredentialError, match="no credentials"):
        check(storage(), {})
    with pytest.raises(ExperimentError, match=r"storage_config\.bucket_name: bucket modells not found at"):
        check(storage(bucket_name="modells"))
    proxy.faults = [Fault("status", times=99)]
    with pytest.raises(UnreachableError, match=r"ListObjectsV2 failed: SlowDown \(HTTP 503\)"):
        check(storage())


def test_the_check_writes_reads_and_removes_one_object_below_the_upload_s_place(
    storage: Config, proxy: FaultProxy, contents: Callable[[], dict[str, bytes]]
) -> None:
    assert check(storage()) == []
    key = "/models/team/exp_1/run/.dpo-launcher-write-check"
    assert [(one.method, one.path) for one in proxy.requests] == [
        ("GET", "/models"), ("PUT", key), ("HEAD", key), ("DELETE", key),
    ]  # fmt: skip
    assert contents() == {}


@pytest.mark.parametrize(
    ("method", "operation", "right", "answer"),
    [
        ("PUT", "PutObject", "s3:PutObject", "AccessDenied, by the proxy"),
        ("HEAD", "HeadObject", "s3:GetObject", "403"),
    ],
)
def test_credentials_that_may_list_and_not_write_are_found_before_the_training(
    method: str, operation: str, right: str, answer: str, storage: Config, proxy: FaultProxy
) -> None:
    proxy.faults = [Fault("status", method, status=403, code="AccessDenied", times=9)]
    with pytest.raises(CredentialError) as caught:
        check(storage())
    assert f": {operation} was refused: needs {right} on its objects; the server's answer: {answer}" in str(caught.value)
    assert caught.value.exit_code == 44


def test_a_check_that_may_not_remove_its_object_says_that_it_stays(storage: Config, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("status", "DELETE", status=403, code="AccessDenied", times=9)]
    assert check(storage()) == [
        "s3://models/team/exp_1/run/.dpo-launcher-write-check (the check before the training) stays in the bucket: DeleteObject "
        "was refused: needs s3:DeleteObject on its objects; the server's answer: AccessDenied, by the proxy"
    ]


def test_a_quota_is_not_taken_for_a_missing_right(storage: Config, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("status", "PUT", status=403, code="QuotaExceeded", times=9)]
    with pytest.raises(CredentialError, match="PutObject was refused; the server's answer: QuotaExceeded, by the proxy"):
        check(storage())


def test_a_clock_that_is_off_is_said_with_how_much_and_the_server_s_time(storage: Config, proxy: FaultProxy) -> None:
    there = datetime.now(UTC) - timedelta(minutes=20)
    date = {"Date": format_datetime(there, usegmt=True)}
    proxy.faults = [Fault("status", status=403, code="RequestTimeTooSkewed", headers=date, times=9)]
    with pytest.raises(CredentialError) as caught:
        check(storage())
    assert str(caught.value) == (
        f"bucket models at {proxy.url}: this machine's clock is 20 min ahead of the server's ({there:%Y-%m-%d %H:%M:%S} UTC): "
        "RequestTimeTooSkewed, by the proxy\n    hint:     set the clock (timedatectl set-ntp true)"
    )


def test_a_metadata_service_that_is_away_is_waited_for_and_its_refusal_is_not() -> None:
    from botocore.exceptions import CredentialRetrievalError

    from launcher.errors import StorageError
    from launcher.storage.client.explained import explained

    for said, kind in (("Connect timeout on endpoint URL", UnreachableError), ("access denied for role", CredentialError)):
        with pytest.raises(kind, match="cannot get the SDK's credentials"):  # noqa: SIM117
            with explained("models", None, purpose="read", failure=StorageError):
                raise CredentialRetrievalError(provider="container-role", error_msg=said)
