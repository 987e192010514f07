"""The tables of TRL's fields: what each does here, those that are accepted before those that are refused."""

from __future__ import annotations

from launcher.experiment.explain.explained import TRL, trl_keys
from launcher.experiment.other_tools.trl_fields import BATCHED, REFUSED, trl_fields
from launcher.experiment.sections.hyperparameters import Hyperparameters

from .tables import plain, table, ticked


def fields() -> str:
    rows = [("key", "type", "default", "here", "example")]
    for key in trl_keys():
        idle = f"; no effect with {' or '.join(f'`{one}`' for one in key.idle_with)}" if key.idle_with else ""
        rows.append((f"`{key.name}`", key.type, ticked(key.default), key.meaning.removeprefix(TRL) + idle, ticked(key.example)))
    ours = ", ".join(
        f"[`{name}`](keys.md#hyperparameters{name})" for name in sorted(trl_fields().keys() & Hyperparameters.model_fields.keys())
    )
    other = [(f"`{name}`", plain(instead)) for name, instead in sorted(REFUSED.items())]
    return "\n\n".join(
        (
            "## What each does here\n\n" + table(rows),
            f"Honoured on both paths, with defaults and limits of their own: {ours}. "
            f"The losses {', '.join(sorted(BATCHED))} look at a whole batch and take the plain path.",
            "## Decided by this project\n\nThese names are refused. The error names the replacement.\n\n"
            + table([("TRL's name", "instead"), *other]),
        )
    )
