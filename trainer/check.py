"""The tokens of experiments, made as a run makes them before it loads weights, for ``launcher check --tokens``.

    python -m trainer.check ASKED ANSWERS

ASKED holds a JSON list of {"experiment": …, "copy": a folder with a spreadsheet's cells, or null, "row": a training pair's row, 0
for the first, or null}; ANSWERS gets a list in its order: {"pairs", "tokens", "longest", "cut", "notices": [{"text",
"is_warning"}]}, with a row also "lengths", "shown", "examples" (see inputs.looked), or {"error": {"code", "text", "mistakes"}}.
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

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError, LauncherError, Mistake, Warned
from launcher.experiment.files import read_env
from launcher.experiment.schema import Experiment
from launcher.redact import REDACTOR, learn_environment
from launcher.runs.whole import write_whole

from .output import say, stage
from .processes.ending import how_it_failed


def main() -> None:
    learn_environment()
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with stage("importing torch and transformers", after=0):
        from .prepare import inputs  # noqa: F401 - what takes long is imported here, once for all experiments
    answers = [answer(Experiment.model_validate(one["experiment"]), one["copy"], one.get("row")) for one in asked]
    write_whole(Path(sys.argv[2]), json.dumps(REDACTOR.value(answers)))


def answer(experiment: Experiment, copy: str | None, row: int | None = None) -> Mapping[str, Any]:
    """What a run of ``experiment`` would find of its tokens; the data lie below the working directory."""
    try:
        return _counted(experiment, None if copy is None else Path(copy), row)
    except LauncherError as error:
        mistakes = [asdict(mistake) for mistake in getattr(error, "mistakes", ())]
        return {"error": {"code": error.exit_code, "text": str(error), "mistakes": mistakes}}
    except Exception as error:  # a library's own: the other experiments are still answered
        code, text = how_it_failed(error)
        return {"error": {"code": code, "text": text, "mistakes": []}}


def _counted(experiment: Experiment, copy: Path | None, row: int | None) -> Mapping[str, Any]:
    from .inputs.models.model import load_tokenizer
    from .inputs.models.skeleton import examined
    from .inputs.models.starting import locate
    from .inputs.tokens.clock import today
    from .inputs.tokens.reach import check_reach, read_from
    from .prepare.inputs import tokenize_all

    cache, h = Path(os.environ["DPO_CACHE_ROOT"]), experiment.hyperparameters
    pairs = read_pairs(experiment, Reading(Path(), read_env(Path()), cache, copy, say))
    located = locate(experiment, Path(), cache, first=True)
    experiment, path = located.experiment, located.path
    tokenizer = load_tokenizer(experiment, path, located.tokenizer)
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
        **({} if row is None else _looked(experiment, pairs, tokenizer, cache, day, row)),
    }


def _looked(experiment: Experiment, pairs: Pairs, tokenizer: Any, cache: Path, day: date, row: int) -> Mapping[str, Any]:
    """The lengths of the training pairs before they are cut, and the pair of ``row``; their tokens are in the cache."""
    from .inputs.tokens.preview import examples, lengths, shown
    from .inputs.tokens.tokens import tokenize

    h, source = experiment.hyperparameters, pairs.sources[0].name
    uncut = h.model_copy(update={"max_seq_length": 2**31 - 1})
    whole = tokenize(pairs.train, tokenizer, uncut, source=source, cache=cache, day=day, system=pairs.system).pairs
    place = next((place for place, line in enumerate(whole.lines.tolist()) if row in (0, line)), None)
    if place is None:
        lines = f"{whole.lines[0]} to {whole.lines[-1]}"
        raise DataError(Mistake(source, f"no pair in row {row}", "the row where a pair begins", f"rows {lines}"))
    limit = h.max_seq_length
    return {
        "lengths": lengths(whole, limit),
        "shown": shown(whole[place], limit, tokenizer),
        "examples": examples(whole, limit, tokenizer) if row == 0 else [],
    }


if __name__ == "__main__":
    main()
