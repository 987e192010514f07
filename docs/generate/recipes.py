"""Writes what `launcher plan` finds into the recipes and their page: ``python -m docs.generate.recipes``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from launcher.planning.fit import gib
from launcher.planning.recipes import HEAD, Recipe, recipes

from .pages import DOCS, write_part

PAGE: Final = DOCS / "how-to" / "recipes.md"
_STAYS: Final = ("weights", "adapter", "gradients", "optimizer", "gathered", "buckets")


def with_head(recipe: Recipe) -> str:
    """The recipe's file with the line that tells its plan."""
    return re.sub(rf"^{HEAD}.*$", recipe.head, recipe.text, count=1, flags=re.MULTILINE)


def table() -> str:
    """A row a recipe: on which card it trains what, and what of the card's memory it takes."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    titles = ("recipe", "GPUs", "tokens", "weights and state", "a pass", "total, per GPU", "recomputes", "a step")
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join(['---'] * len(titles))} |"
    for one in recipes():
        parts, h = one.plan.estimate.parts, one.experiment.hyperparameters
        stays = sum(part.size for part in parts if part.name in _STAYS)
        cells = (
            f"[{one.name}](../../configs/recipes/{one.name}.yml)",
            one.devices,
            f"{h.max_seq_length:,}",
            gib(stays),
            gib(one.plan.estimate.total - stays),
            f"{gib(one.plan.estimate.total)} of {gib(one.gpu.memory)}",
            "yes" if one.plan.estimate.recompute else "no",
            f"≤ {one.seconds:.0f} s",
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    for recipe in recipes():
        recipe.file.write_text(with_head(recipe), encoding="utf-8")
    write_part(PAGE, "recipes", table())


if __name__ == "__main__":
    main()
