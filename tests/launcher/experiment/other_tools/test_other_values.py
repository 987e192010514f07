from __future__ import annotations

import pytest
from pydantic import ValidationError

from launcher.experiment.other_tools.other_values import meant_value
from launcher.experiment.problems import problems
from launcher.experiment.schema import Experiment


def hint(**fields: object) -> str | None:
    with pytest.raises(ValidationError) as caught:
        Experiment.parse({"model_name": "org/model", "datasets_path": "data", **fields})
    (problem,) = problems(caught.value)
    return problem.hint


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hyperparameters": {"loss_type": "kto"}}, "not a DPO loss: this tool trains by DPO and SFT"),
        ({"hyperparameters": {"loss_type": ["sigmoid", "simpo"]}}, "not a DPO loss: this tool trains by DPO and SFT"),
        ({"hyperparameters": {"loss_type": "dpo"}}, "use sigmoid (the loss of the DPO paper)"),
        ({"hyperparameters": {"optim": "adamw"}}, "use adamw_torch"),
        ({"hyperparameters": {"lr_scheduler_type": "none"}}, "use constant"),
        ({"framework": "axolotl"}, "remove the key: TRL trains every experiment"),
        ({"storage_config": {"provider": "minio"}}, "use s3 and name the server in endpoint_url"),
    ],
)
def test_a_value_of_another_tool_is_answered_by_its_meaning(fields: dict[str, object], told: str) -> None:
    assert hint(**fields) == told


def test_an_unknown_value_gets_no_answer() -> None:
    assert meant_value("loss_type", "sigmoidal") is None


def test_capitals_make_no_difference() -> None:
    assert meant_value("loss_type", "KTO") == "not a DPO loss: this tool trains by DPO and SFT"
