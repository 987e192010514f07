from __future__ import annotations

from pathlib import Path

import pytest

from launcher.data.checked import Checked, CheckedData
from launcher.errors import CredentialError, DataError, LauncherError, Mistake, UnreachableError
from launcher.experiment.files import load

AWAY = UnreachableError("Google Sheets: timeout (gave up after 3 tries)")
WRONG = DataError(Mistake("a.csv:2", "column 'chosen' is empty"))
REFUSED = CredentialError("no key")


@pytest.mark.parametrize(
    ("errors", "code"), [([AWAY], 48), ([WRONG, AWAY], 43), ([AWAY, REFUSED, WRONG], 44), ([LauncherError("odd"), AWAY], 1)]
)
def test_a_mistake_decides_the_exit_code_before_a_server_that_is_away(
    errors: list[LauncherError], code: int, tmp_path: Path
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text("e: {experiment_id: 1, model_name: a/b, datasets_path: data}")
    loaded = load("e", root=tmp_path)
    found = Checked(tuple(CheckedData(loaded, None, error) for error in errors), (), ())
    assert found.errors[-1].exit_code == code
    assert len(found.errors) == len(errors)
