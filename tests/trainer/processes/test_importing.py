"""What a rank's imports leave out: the collector's walks, and a tracker that the run does not report to."""

import gc
import sys
from importlib.util import find_spec

import pytest

from trainer.processes.importing import quickly


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield
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


def test_wandb_is_imported_for_a_run_that_reports_to_it_alone():
    with quickly(["tensorboard", "wandb"]):
        assert find_spec("wandb") is not None
    with quickly(["tensorboard"]):
        assert find_spec("wandb") is None
        with pytest.raises(ImportError):
            import wandb  # noqa: F401


def test_wandb_that_another_has_imported_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", gc)
    with quickly([]):
        pass
    assert sys.modules["wandb"] is gc
