"""The tokens of experiments, made as a run makes them before it loads weights, for ``launcher check --tokens``.

    python -m trainer.check ASKED ANSWERS

ASKED holds a JSON list of {"experiment": …, "copy": a folder with a spreadsheet's cells, or null}; ANSWERS gets a list in its
order: {"pairs", "tokens", "longest", "cut", "notices": [{"text", "is_warning"}]}, or {"error": {"code", "text", "mistakes"}}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from launcher.data.pairs import read_pairs
from launcher.data.rows import Reading
from launcher.errors import LauncherError, Warned
from launcher.experiment.files import read_env
from launcher.experiment.schema import Experiment
from launcher.redact import REDACTOR, learn_environment
from launcher.runs.run_dir import write_whole

from .output import say, stage
from .processes.ending import how_it_failed


def main() -> None:
    learn_environment()
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with stage("importing torch and transformers", after=0):
        from . import prepare  # noqa: F401 - what takes long is imported here, once for all experiments
    answers = [answer(Experiment.model_validate(one["experiment"]), one["copy"]) for one in asked]
    write_whole(Path(sys.argv[2]), json.dumps(REDACTOR.value(answers)))


def answer(experiment: Experiment, copy: str | None) -> Mapping[str, Any]:
    """What a run of ``experiment`` would find of its tokens; the data lie below the working directory."""
    try:
        return _counted(experiment, None if copy is None else Path(copy))
    except LauncherError as error:
        mistakes = [asdict(mistake) for mistake in getattr(error, "mistakes", ())]
        return {"error": {"code": error.exit_code, "text": str(error), "mistakes": mistakes}}
    except Exception as error:  # a library's own: the other experiments are still answered
        code, text = how_it_failed(error)
        return {"error": {"code": code, "text": text, "mistakes": []}}


def _counted(experiment: Experiment, copy: Path | None) -> Mapping[str, Any]:
    from .inputs.bucket import model_path
    from .inputs.clock import today
    from .inputs.model import load_tokenizer
    from .inputs.reach import check_reach, read_from
    from .inputs.skeleton import examined
    from .prepare import tokenize_all

    cache, h = Path(os.environ["DPO_CACHE_ROOT"]), experiment.hyperparameters
    pairs = read_pairs(experiment, Reading(Path(), read_env(Path()), cache, copy, say))
    path = model_path(experiment, Path(), cache, first=True)
    tokenizer = load_tokenizer(experiment, path)
    reach = examined(experiment, path)
    day = date.fromisoformat(h.template_date) if h.template_date else today()
    tokens, held_out = tokenize_all(experiment, pairs, tokenizer, cache, day)
    beyond = check_reach(reach, experiment, read_from(pairs, tokens, held_out), tokenizer)
    notices = dict.fromkeys([*tokens.notices, *(held_out.notices if held_out else ()), *beyond])
    return {
        "pairs": len(tokens.pairs),
        "tokens": tokens.total,
        "longest": tokens.longest,
        "cut": tokens.cut,
        "notices": [{"text": one, "is_warning": isinstance(one, Warned)} for one in notices],
    }


if __name__ == "__main__":
    main()
