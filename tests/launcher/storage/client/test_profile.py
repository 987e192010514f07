"""What a profile of the AWS SDK sets reaches containers, which have no ``~/.aws``."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment, StorageConfig
from launcher.storage import upload_folder
from launcher.storage.client.profile import with_profile
from launcher.storage.client.store import Effort, Store

EXPERIMENT = {"model_name": "m", "datasets_path": "d"}
S3 = Experiment.parse({**EXPERIMENT, "storage_config": {"bucket_name": "b"}})
KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush", "AWS_REGION": "eu-west-1"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[profile team]\nregion = eu-west-1\nservices = ours\nca_bundle = /team.pem\n"
        "use_fips_endpoint = true\ns3 =\n  addressing_style = virtual\n"
        "[services ours]\ns3 =\n  endpoint_url = https://oss.example.com\n[profile plain]\nendpoint_url = https://all.example.com\n"
    )
    (tmp_path / ".aws" / "credentials").write_text("[team]\naws_access_key_id = AKIA\naws_secret_access_key = hush\n")
    return tmp_path


def files(home: Path) -> dict[str, str]:
    return {"AWS_CONFIG_FILE": f"{home}/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": f"{home}/.aws/credentials"}


def test_region_endpoint_and_addressing_style_become_variables_and_the_environment_wins(home: Path) -> None:
    env = {"AWS_PROFILE": "team", **files(home)}
    found = {
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_S3": "https://oss.example.com",
        "DPO_S3_ADDRESSING_STYLE": "virtual",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_CA_BUNDLE": "/team.pem",
    }
    assert with_profile(S3, env) == ({**env, **found}, True)
    mine = {"AWS_DEFAULT_REGION": "x", "AWS_ENDPOINT_URL": "https://mine.example.com", "DPO_S3_ADDRESSING_STYLE": "path"}
    assert with_profile(S3, {**env, **mine, **KEYS}) == (
        {**env, **mine, **KEYS, "AWS_USE_FIPS_ENDPOINT": "true", "AWS_CA_BUNDLE": "/team.pem"},
        False,
    )
    plain, _ = with_profile(S3, {**env, "AWS_PROFILE": "plain"})
    assert plain["AWS_ENDPOINT_URL_S3"] == "https://all.example.com"


def test_without_a_bucket_or_a_profile_nothing_is_read(home: Path) -> None:
    env = {"AWS_PROFILE": "team", **files(home)}
    assert with_profile(Experiment.parse(EXPERIMENT), env) == (env, False)
    assert with_profile(S3, {"HOME": str(home / "nobody")}) == ({"HOME": str(home / "nobody")}, False)
    unknown = {**env, "AWS_PROFILE": "unknown"}
    assert with_profile(S3, unknown) == (unknown, True)


@pytest.mark.parametrize(
    ("style", "address"), [("path", "https://oss.example.com/models/k"), ("virtual", "https://models.oss.example.com/k")]
)
def test_the_style_is_that_of_every_request(style: str, address: str) -> None:
    storage = StorageConfig(bucket_name="models", endpoint_url="https://oss.example.com")
    store = Store.open("models", storage, {**KEYS, "DPO_S3_ADDRESSING_STYLE": style}, Effort())
    assert store.client.generate_presigned_url("get_object", Params={"Bucket": "models", "Key": "k"}).partition("?")[0] == address


def test_a_style_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ExperimentError, match="DPO_S3_ADDRESSING_STYLE: must be one of auto, path, virtual"):
        Store.open("b", None, {**KEYS, "DPO_S3_ADDRESSING_STYLE": "host"}, Effort())


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_nothing_is_sent_to_an_address_with_a_password(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    env = {**KEYS, name: "http://me:hush-hush@127.0.0.1:1"}
    with pytest.raises(ExperimentError, match=f"{name}: contains a user name or a password") as caught:
        upload_folder(tmp_path, storage=StorageConfig(bucket_name="b"), prefix_parts=("x",), env=env)
    assert "hush" not in str(caught.value)
