"""The verb that estimates, before anything is built or started, memory and time of a run and what would make it fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..errors import Warned
from .terminal import completion
from .terminal.options import file_option, json_option, set_option

if TYPE_CHECKING:
    from ..planning.fit import Fit
    from ..planning.planned import Planned


@click.command("plan", short_help="Estimate memory, time and what makes EXP fit.")
@click.argument("name", metavar="EXP|RUN", shell_complete=completion.experiments)
@click.option("--gpu", "gpu_name", metavar="NAME", help="Plan for this GPU, such as 'RTX 4090' (default: this machine's).")
@click.option("--gpu-memory", metavar="SIZE", help="Plan for a GPU with this much memory, such as 24GiB.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs per node (default: launch.gpus).")
@click.option("--nodes", type=click.IntRange(1), help="Number of nodes (default: launch.nodes).")
@click.option("--parallelism", metavar="NAME", help="ddp, zero1, zero2, zero3 … (default: launch.parallelism).")
@click.option(
    "--model-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's config.json (default: from the checkout, the cache, the hub or S3).",
)
@set_option
@file_option
@json_option
def plan(
    name: str,
    gpu_name: str | None,
    gpu_memory: str | None,
    gpus: int | None,
    nodes: int | None,
    parallelism: str | None,
    model_config: Path | None,
    overrides: tuple[str, ...],
    file: Path | None,
    as_json: bool,
) -> None:
    """Estimate what the experiment EXP needs: memory, steps, tokens and time; and the cheapest changes that make it fit.

    For a finished RUN (its full name or its folder): what chat, generate, score, merge and serve need. Reads the model's
    config.json. Needs neither torch nor the model's weights.
    """
    from ..after.planned import Uses, plan_of
    from ..planning.planned import Wanted
    from .terminal.reading import reading

    wanted = Wanted(gpu_name, gpu_memory, gpus, nodes, parallelism, model_config)
    with reading() as told:
        found = plan_of(name, wanted, file=file, overrides=overrides, say=told)
    if as_json:
        import json

        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
    elif isinstance(found, Uses):
        from .terminal.screen import facts

        facts(found.facts)
    else:
        _show(found)


def _show(found: Planned) -> None:
    from .terminal.screen import facts, notices, say

    fit = found.fit
    if found.missing:
        notices([Warned(f"{found.missing} not found; planned for the longest pairs that max_seq_length allows")], err=True)
    facts(_head(found))
    say()
    _show_memory(fit)
    say()
    facts({"time": fit.time, **fit.copies, "verdict": fit.verdict})
    if found.on_cluster is not None:
        facts({"cluster": found.on_cluster})
    notes = [*found.notes, *([fit.why] if fit.why else []), *fit.estimate.notes]
    if not fit.machine.cuda and fit.experiment.launch.gpus != 0:
        notes.append("no GPU on this machine; plan for one with --gpu 'RTX 4090' or --gpu-memory 24GiB")
    for note in notes:
        facts({"note": note})
    _show_changes(found)


def _head(found: Planned) -> dict[str, str]:
    from ..planning.derived import starting_facts
    from ..planning.sizes.adapter import Adapter

    fit = found.fit
    h, guess, work = fit.experiment.hyperparameters, fit.estimate, fit.work
    trained = "all weights" if h.full_finetuning else Adapter(h, fit.config).sentence
    tokens = f"{work.tokens:,} tokens per epoch, longest sequence {work.longest:,}"
    if found.missing:
        tokens = f"≤ {work.tokens:,} tokens per epoch, longest sequence ≤ {work.longest:,} (assumed: all answers are that long)"
    elif not work.exact:
        tokens = f"≤ {work.tokens:,} tokens per epoch, longest sequence ≤ {work.longest:,} (upper bound: one token per byte)"
    checkpointing = "gradient checkpointing" if guess.recompute else "no gradient checkpointing"
    return {
        "experiment": f"{found.key} ({found.file}) on {fit.device}",
        "model": f"{fit.experiment.model_name}: {fit.config.parameters:,} parameters; trains {trained}",
        **starting_facts(fit.experiment),
        "sizes": f"from {found.sizes_from}",
        "data": f"{work.pairs:,} pairs, {tokens}",
        "a step": f"{fit.experiment.global_batch} pairs, at most {guess.row:,} tokens per forward pass; {checkpointing}",
        "image": f"{found.image}; the host backend needs none",
    }


def _show_memory(fit: Fit) -> None:
    from ..planning.fit import gib
    from .terminal.screen import LABEL, say

    rows = [(part.name, gib(part.size), part.why) for part in fit.estimate.parts if part.size]
    rows.append(("total", gib(fit.estimate.total), f"of {gib(fit.memory)}" if fit.memory is not None else ""))
    if fit.estimate.host:
        rows.append(("main memory", gib(fit.estimate.host), "per rank, offloaded"))
    for name, size, why in (("memory", "GiB", ""), *rows):
        say(f"{name:<{LABEL}}{size:>7}  {why}".rstrip(), indent=LABEL + 9)


def _show_changes(found: Planned) -> None:
    from ..planning.fit import gib
    from .terminal.screen import say

    fit = found.fit
    if fit.fits is not False:
        return
    if any(change.fits for change in fit.changes):
        head = "the cheapest changes that make it fit:"
    else:
        head = "no change makes it fit; the closest:" if fit.changes else "no change makes it fit; use a smaller model"
    say(f"\n{head}")
    for change in fit.changes:
        click.echo(f"  {change.options}")  # never wrapped, so that it can be copied
        say(f"      {gib(change.total)} GiB; {change.cost}")
    if found.recipes:
        say("\nrecipes of this model that fit (write one with: launcher init --recipe NAME):")
        for name in found.recipes:
            click.echo(f"  {name}")


VERBS: Final = (plan,)
