from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from tests.hub import COMMIT, Hub, serving
from trainer.card.base import Base, name_base

CARD = "---\nlicense: other\nlicense_name: tongyi\nlicense_link: https://example.com/LICENSE\nlanguage: en\n---\n\nA model.\n"
LICENCE = {"license": "other", "license_name": "tongyi", "license_link": "https://example.com/LICENSE"}
SNAPSHOT = "models--some-org--some-model/snapshots/" + COMMIT


def experiment_of(model: str, **hyper: Any) -> Experiment:
    return Experiment.parse(
        {"experiment_id": "7", "model_name": model, "datasets_path": "nowhere", "hyperparameters": hyper, "launch": {"gpus": 0}}
    )


def folder_of(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_local_folder_has_a_name_and_a_hash_and_the_licence_of_its_card(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "models" / "tiny", _name_or_path="/home/me/models/tiny")
    (folder / "README.md").write_text(CARD)
    base = Base.of(experiment_of(str(folder)), str(folder), {"identity": "ab" * 32, "revision": None})
    assert base == Base("tiny", None, None, "ab" * 32, LICENCE)


def test_a_folder_of_the_hub_s_cache_or_one_whose_configuration_names_the_hub_s_model_is_that_model(tmp_path: Path) -> None:
    cached = folder_of(tmp_path / SNAPSHOT)
    base = Base.of(experiment_of(str(cached)), str(cached), {})
    assert (base.name, base.hub, base.revision) == ("some-org/some-model", "some-org/some-model", COMMIT)
    copied = folder_of(tmp_path / "copy", _name_or_path="some-org/some-model")
    assert Base.of(experiment_of(str(copied)), str(copied), {}).hub == "some-org/some-model"


def test_a_model_of_the_hub_has_the_licence_that_its_card_in_the_cache_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (folder_of(tmp_path / SNAPSHOT) / "README.md").write_text(CARD)
    experiment = experiment_of("some-org/some-model", model_cache_dir=str(tmp_path))
    base = Base.of(experiment, experiment.model_name, {"identity": "ab" * 32, "revision": COMMIT})
    assert base == Base("some-org/some-model", "some-org/some-model", COMMIT, "ab" * 32, LICENCE)


def test_a_hub_is_asked_once_for_a_card_that_the_cache_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    folder = folder_of(tmp_path / "served")
    (folder / "README.md").write_text(CARD)
    experiment = experiment_of("some-org/some-model", model_cache_dir=str(tmp_path / "cache"))
    with serving(Hub(folder)) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        assert Base.of(experiment, experiment.model_name, {"revision": COMMIT}).licence == LICENCE
        hub.status = 503
        hub.requests.clear()
        experiment = experiment_of("some-org/some-model", model_cache_dir=str(tmp_path / "other"))
        assert Base.of(experiment, experiment.model_name, {"revision": COMMIT}).licence == {}
        assert len(hub.requests) == 1, "no retries at the end of a run"


@pytest.mark.parametrize(
    ("model", "path", "expected"),
    [
        ("s3://models/base/tiny", "/home/me/.cache/dpo-launcher/s3/folders/0123", "s3://models/base/tiny"),
        ("data/demo/tiny", "/dpo/data/data/demo/tiny", "data/demo/tiny"),
        ("/dpo/cache/staged/0123/tiny", "/dpo/cache/staged/0123/tiny", "tiny"),
        ("data/demo/tiny", "/home/me/checkout/data/demo/tiny", "/home/me/checkout/data/demo/tiny"),
        ("some-org/some-model", "some-org/some-model", "some-org/some-model"),
        ("some-org/some-model", f"/home/me/hub/models--some-org--some-model/snapshots/{COMMIT}", "some-org/some-model"),
    ],
)
def test_an_adapter_names_its_base_by_what_another_process_of_this_machine_can_read(
    tmp_path: Path, model: str, path: str, expected: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": path}))
    name_base(tmp_path, path, experiment_of(model), Base("tiny"))
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {"base_model_name_or_path": expected}
