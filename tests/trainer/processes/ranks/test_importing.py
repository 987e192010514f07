"""What a rank's imports leave out: the collector's walks, and a tracker that the run does not report to."""

import gc
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from launcher.experiment.sections.trackers import TRACKERS
from trainer.processes.ranks.importing import _HIDDEN, DEEPSPEED, quickly, reveal


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    for name in _HIDDEN:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv(DEEPSPEED, raising=False)
    yield
    for name in _HIDDEN:
        reveal(name)
    gc.unfreeze()


def test_the_collector_is_off_while_the_libraries_are_imported_and_never_looks_at_them_later():
    before = gc.get_freeze_count()
    with quickly([]):
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - before > len(kept)


def test_the_collector_is_on_again_after_an_import_that_fails():
    with pytest.raises(ImportError), quickly([]):
        raise ImportError
    assert gc.isenabled()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_tracker_is_imported_for_a_run_that_reports_to_it_alone(tracker, monkeypatch):
    pytest.importorskip(tracker, reason=f"{tracker} is not installed")
    monkeypatch.delitem(sys.modules, tracker)
    with quickly(["tensorboard", tracker]):
        assert find_spec(tracker) is not None
    with quickly(["tensorboard"]):
        assert find_spec(tracker) is None
        with pytest.raises(ImportError):
            import_module(tracker)


def test_deepspeed_is_imported_where_ranks_share_a_model_and_where_another_needs_it(monkeypatch):
    monkeypatch.setenv(DEEPSPEED, "zero3.json")
    with quickly([]):
        assert find_spec("deepspeed") is not None
    monkeypatch.delenv(DEEPSPEED)
    with quickly([]):
        assert find_spec("deepspeed") is None
    reveal("deepspeed")
    assert find_spec("deepspeed") is not None


def test_what_another_has_imported_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", gc)
    with quickly([]):
        pass
    reveal("wandb")
    assert sys.modules["wandb"] is gc
