"""`launcher compare` as a person types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from launcher.cli import compare as verb
from launcher.cli import main
from tests.run_folders import Made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    names = ["demo-20261128-083222-e7eb", "demo-20261128-091500-11aa", "demo-20261128-101010-0b0b"]
    for number, name in enumerate(names):
        Made(name, seed=number, settings={"learning_rate": 10.0 ** -(3 + number)}, learned=True).write(home)
    return home


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")


def typed(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    return int(ended.value.code or 0)


ALL = ("demo-20261128-08", "demo-20261128-09", "demo-20261128-10")


def test_runs_stand_beside_each_other(capsys: pytest.CaptureFixture[str]):
    assert typed("compare", *ALL[:2]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:5] == [
        "RUN              …083222-e7eb             …091500-11aa",
        "state            done                     done",
        "step             40/40                    40/40",
        "learning_rate    0.001                    0.0001",
        "accuracy         0.893 [0.843, 0.943]     0.952 [0.902, 1.000]",
    ]


@pytest.mark.parametrize(("width", "tables"), [(60, 3), (80, 2), (120, 1)])
def test_what_does_not_fit_beside_stands_below(
    width: int, tables: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verb, "columns", lambda err: width)
    assert typed("compare", *ALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("RUN ") for line in lines) == tables
    assert max(map(len, lines)) <= width


def test_json_and_csv_have_whole_names_and_numbers(capsys: pytest.CaptureFixture[str]):
    assert typed("compare", *ALL, "--json", "--sort", "-margin") == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["run"][14:20] for run in found["runs"]] == ["083222", "091500", "101010"]
    assert found["runs"][0]["settings"] == {"hyperparameters.learning_rate": 0.001}
    assert typed("compare", *ALL, "--csv", "--sort", "margin") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["hyperparameters.learning_rate"] for row in rows] == ["1e-05", "0.0001", "0.001"]
    assert float(rows[0]["margin_low"]) < float(rows[0]["margin"]) < float(rows[0]["margin_high"])


def test_a_run_that_is_not_found_ends_with_2(capsys: pytest.CaptureFixture[str]):
    assert typed("compare", "latest", "nothing") == 2
    assert "run 'nothing' not found" in capsys.readouterr().err
    assert typed("compare", "latest", "--json", "--csv") == 2
