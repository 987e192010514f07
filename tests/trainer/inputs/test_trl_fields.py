from __future__ import annotations

from launcher.experiment.other_tools.trl_fields import REFUSED, trl_fields
from launcher.experiment.sections.hyperparameters import Hyperparameters
from trainer.inputs.trl_fields import FILE, text


def test_the_checked_in_list_equals_the_installed_trl() -> None:
    assert FILE.read_text() == text(), "run `make trl-fields`"


def test_every_refused_name_is_one_of_trl_s_or_of_its_past() -> None:
    past = {"no_cuda", "logging_dir"}
    assert set(REFUSED) - set(trl_fields()) == past


def test_no_setting_of_ours_is_refused() -> None:
    assert not set(REFUSED) & set(Hyperparameters.model_fields)
