from __future__ import annotations

import re
from pathlib import Path

import pytest
from botocore.handlers import VALID_BUCKET, VALID_S3_ARN

from launcher.errors import ExperimentError
from launcher.experiment.files import load
from launcher.experiment.sections.bucket_name import is_bucket, meant, split
from launcher.storage import Place

ACCESS_POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/models"
OUTPOST = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/accesspoint/ap"
NAMES = [
    "models", "my.models-2", "Legacy_Bucket", "a", "x" * 255, "192.168.0.1", "a..b", ACCESS_POINT, ACCESS_POINT.replace("/", ":"),
    OUTPOST, "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:models",
    "", "s3://models", "models/x", "no spaces", "modèles", "x" * 256, "models\n", "{bucket}", "arn:aws:s3:::models",
    "arn:aws:s3:eu-west-1:12:accesspoint/models",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_refused_where_the_s3_client_would_refuse_it(name: str) -> None:
    accepted = re.fullmatch(VALID_BUCKET.pattern.strip("^$"), name) or VALID_S3_ARN.search(name)
    assert is_bucket(name) == (accepted is not None)


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://models", "models", ""),
        ("s3://models/base/tiny/", "models", "base/tiny"),
        (f"s3://{ACCESS_POINT}/base/tiny", ACCESS_POINT, "base/tiny"),
        (f"s3://{OUTPOST}/base", OUTPOST, "base"),
    ],
)
def test_the_bucket_of_an_address_may_be_an_access_point(uri: str, bucket: str, prefix: str) -> None:
    assert split(uri) == (bucket, prefix)
    assert (Place.parse(uri).bucket, Place.parse(uri).prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("s3://models/x/y", "bucket_name: models, and object_prefix: x/y"),
        ("models/", "bucket_name: models"),
        (" models ", "bucket_name: models"),
        ("no spaces", None),
    ],
)
def test_what_was_meant_is_shown_where_it_shows(name: str, hint: str | None) -> None:
    assert meant(name) == hint


def test_a_name_that_no_bucket_has_is_an_error_at_its_place_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text(
        "e:\n  experiment_id: 1\n  model_name: s3://my models/base\n  datasets_path: s3:///data\n"
        "  storage_config:\n    bucket_name: s3://models/x\n    upload_to_cloud: true\n"
    )
    with pytest.raises(ExperimentError) as caught:
        load("e", root=tmp_path)
    places = {mistake.where.rpartition("e.yml:")[2]: mistake for mistake in caught.value.mistakes}
    assert list(places) == ["3:15", "4:18", "6:18"]
    bucket = places["6:18"]
    name = "the name of a bucket (letters, digits, '.', '-' and '_') or the ARN of an access point"
    assert bucket.what == f"storage_config.bucket_name must be {name} (in e)"
    assert (bucket.found, bucket.hint) == ('"s3://models/x"', "bucket_name: models, and object_prefix: x")
    assert places["3:15"].what == f"model_name must be s3://bucket/folder, with {name} (in e)"
