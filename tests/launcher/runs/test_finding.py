"""Which run a name means."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.runs.finding import AmbiguousName, choose, newest_first, output_dirs, remember, remembered
from launcher.runs.run_dir import RunDir


def make(root: Path, name: str, hour: int, **record: str) -> None:
    run = RunDir.of(root, "out", "1", "m", name)
    run.create({run.experiment: "{}"}, {"run": name, "created": f"2026-11-24T{hour}:00:00+00:00", **record})


def test_a_run_that_python_started_is_found_by_its_key_as_any_other(tmp_path: Path) -> None:
    make(tmp_path, "exp_1-20261124-100000-aaaa", 10, key="exp_1", experiment_id="1", backend="host")
    make(tmp_path, "exp_1-20261124-110000-bbbb", 11, key="exp_1", experiment_id="1", backend="python")
    runs = newest_first([tmp_path / "out"])
    for word in ("exp_1", "1", "latest", "exp_1-20261124-11"):
        assert choose(word, runs).name == "exp_1-20261124-110000-bbbb"


def test_a_beginning_that_fits_several_runs_names_them_and_none_names_the_nearest(tmp_path: Path) -> None:
    for hour, name in ((10, "alpha-1"), (11, "alpha-2")):
        make(tmp_path, name, hour, key="exp_1")
    runs = newest_first([tmp_path / "out"])
    with pytest.raises(AmbiguousName, match=r"(?s)matches several runs; type more of the name:.*alpha-2\n.*alpha-1$"):
        choose("alpha", runs)
    with pytest.raises(UsageError, match="run 'alpa-1' not found: did you mean 'alpha-1'"):
        choose("alpa-1", runs)
    with pytest.raises(UsageError, match="no runs yet; start one with: launcher run EXP"):
        choose("alpha", [])


def elsewhere(root: Path, out: str, name: str, root_of_out: Path | None = None) -> RunDir:
    run = RunDir.of(root_of_out or root, out, "1", "m", name)
    assert remember(root, run) is None
    run.create({run.experiment: "{}"}, {"run": name, "created": "2026-11-24T10:00:00+00:00"})
    return run


def found(root: Path) -> list[Path]:
    return [run.path for run in newest_first(output_dirs(root), remembered(root))]


def test_a_run_in_any_output_folder_is_found_without_a_file_that_names_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    inside, outside = elsewhere(root, "other/out", "r1"), elsewhere(root, str(tmp_path / "scratch"), "r2")
    below = elsewhere(root, "data/dpo/model/mine", "r3")
    elsewhere(root, "data/dpo/model", "r4")
    assert sorted(path.name for path in (root / "data/dpo/model/elsewhere").iterdir()) == ["r1", "r2", "r3"]
    assert sorted(found(root)) == sorted([inside.path, outside.path, below.path, root / "data/dpo/model/exp_1/m/runs/r4"])
    root.rename(tmp_path / "moved")
    assert {path.name for path in found(tmp_path / "moved")} == {"r1", "r2", "r3", "r4"}, "a folder may be moved"


def test_a_run_is_found_once_and_not_when_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yml").write_text(
        "e: {experiment_id: 1, model_name: m, datasets_path: d, hyperparameters: {model_output_dir: out}}"
    )
    run = elsewhere(tmp_path, "out", "r1")
    gone = elsewhere(tmp_path, "other", "r2")
    shutil.rmtree(gone.path)
    assert found(tmp_path) == [run.path]
    again = elsewhere(tmp_path, "third", "r2")
    assert found(tmp_path) == [run.path, again.path], "a name that is free again"


def test_links_hold_where_the_data_folder_is_a_link_itself(tmp_path: Path) -> None:
    root, disk = tmp_path / "home" / "me" / "root", tmp_path / "disk"
    root.mkdir(parents=True)
    disk.mkdir()
    (root / "data").symlink_to(disk)
    assert found(root) == []
    run = elsewhere(root, "out", "r1")
    assert found(root) == [run.path]


def test_a_link_that_cannot_be_written_is_a_notice_with_the_command_that_works(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    run = RunDir.of(tmp_path, "my out", "1", "m", "r1")
    link = tmp_path / "data/dpo/model/elsewhere/r1"
    assert remember(tmp_path, run) == (
        f"cannot write {link}: not a directory; name the run by its folder: launcher status '{run.path}'"
    )
