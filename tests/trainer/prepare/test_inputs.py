from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import DataError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.inputs.tokens import clock
from trainer.processes.stop import StopRequest

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]


@pytest.fixture
def dated(tmp_path: Path, tiny_model: Path) -> Path:
    """The tiny model with a chat template that writes the date."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "dated"))
    template = model / "chat_template.jinja"
    template.write_text("Today is {{ strftime_now('%d %b %Y') }}.\n" + template.read_text())
    return model


def prepared(root: Path, run: RunDir, experiment: Experiment) -> Any:
    """What a run is made of, as a rank finds it."""
    from trainer.prepare.inputs import find_model, prepare_inputs
    from trainer.prepare.rank import Rank, Roots
    from trainer.processes.ranks.machine import Device

    device = Device(cuda=False, bf16=False, rank=0, world=1)
    return prepare_inputs(*find_model(Rank(run, experiment, Roots(root, root, root / "cache"), StopRequest(), 1, device)))


def checkpoint(run: RunDir, made_of: dict[str, Any]) -> Path:
    folder = run.path / "checkpoint-1"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 1}))
    (folder / "origin.json").write_text(json.dumps(made_of))
    return folder


def test_a_run_is_resumed_on_another_day_though_its_chat_template_writes_the_date(
    tmp_path: Path, dated: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(day: int, run: RunDir, **hyper: Any) -> Any:
        monkeypatch.setattr(clock, "today", lambda: date(2026, 7, day))
        return prepared(tmp_path, run, make_experiment(experiment={"model_name": str(dated)}, **hyper))

    run = new_run(tmp_path, make_experiment(experiment={"model_name": str(dated)}), "one")
    first = on(4, run)
    assert run.read_record()["template_date"] == "2026-07-04"
    kept = checkpoint(run, first.made_of)
    resumed = on(5, run)
    assert resumed.checkpoint == kept
    assert resumed.tokens.pairs == first.tokens.pairs

    other = new_run(tmp_path, make_experiment(experiment={"model_name": str(dated)}), "other")
    assert on(6, other, resume_from_checkpoint=str(kept)).tokens.pairs == first.tokens.pairs, "another run goes on from it"
    with pytest.raises(DataError, match=r"expected: 2026-07-04\n    found:    2024-07-26"):
        on(6, other, resume_from_checkpoint=str(kept), template_date="2024-07-26")
    fresh = new_run(tmp_path, make_experiment(experiment={"model_name": str(dated)}), "fresh")
    assert on(6, fresh).tokens.pairs != first.tokens.pairs
    assert on(6, fresh, template_date="2026-07-04").tokens.pairs == first.tokens.pairs
