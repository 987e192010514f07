"""The verb that says, before anything is built or taken, what a run needs, how long it takes, and what would make it fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .options import experiment_argument, file_option, json_option, set_option

if TYPE_CHECKING:
    from ..experiment.schema import Experiment
    from ..planning.gpus import Gpu
    from ..planning.planned import Planned


@click.command("plan", short_help="Say what EXP needs: memory, time, and what makes it fit.")
@experiment_argument()
@click.option("--gpu", "gpu_name", metavar="NAME", help="Plan for this GPU, as 'RTX 4090' (default: the one of this machine).")
@click.option("--gpu-memory", metavar="SIZE", help="Plan for a GPU with so much memory, as 24GiB.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs per node (default: launch.gpus).")
@click.option("--nodes", type=click.IntRange(1), help="Machines (default: launch.nodes).")
@click.option("--parallelism", metavar="NAME", help="ddp, zero1, zero2, zero3 … (default: launch.parallelism).")
@click.option(
    "--model-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's config.json (default: checked in, cached, or from the hub or s3://).",
)
@set_option
@file_option
@json_option
def plan(
    experiment: str,
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
    """Say what the experiment EXP needs: memory, steps, tokens, time; and the cheapest changes that make it fit.

    Needs neither torch nor the model's weights: its config.json is enough.
    """
    import json

    from ..data.pairs import read_pairs
    from ..data.rows import Reading
    from ..experiment.files import load, read_env
    from ..planning.model_config import find_model_config
    from ..planning.planned import planned
    from .screen import complain

    caller = read_env(Path.cwd())
    loaded = load(experiment, root=Path(), file=file, overrides=overrides)
    gpu = _wanted(gpu_name, gpu_memory)
    with loaded.placed():
        changed = _changed(loaded.experiment, gpus, nodes, parallelism)
        name, storage = changed.model_name, changed.storage_config
        sizes, where = find_model_config(name, Path(), caller, model_config, storage=storage)
        pairs = read_pairs(changed, Reading(Path(), caller, say=complain))
        found = planned(changed, sizes, pairs, gpu, caller)
    if as_json:
        click.echo(json.dumps(found.json(loaded.key, where), indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(_lines(loaded.key, str(loaded.file), found, where)))


def _wanted(name: str | None, memory: str | None) -> Gpu | None:
    from ..errors import UsageError
    from ..planning.gpus import Gpu, find_gpu, parse_memory

    if name is not None and memory is not None:
        raise UsageError("--gpu and --gpu-memory say the same: give one")
    if name is not None:
        return find_gpu(name)
    return None if memory is None else Gpu(f"GPU of {memory}", parse_memory(memory), None)


def _changed(experiment: Experiment, gpus: int | None, nodes: int | None, parallelism: str | None) -> Experiment:
    given = {"gpus": gpus, "nodes": nodes, "parallelism": parallelism}
    updates = {name: value for name, value in given.items() if value is not None}
    return experiment.model_copy(update={"launch": experiment.launch.model_copy(update=updates)}) if updates else experiment


def _lines(key: str, file: str, found: Planned, where: str) -> list[str]:
    from ..planning.planned import gib

    h, guess, work = found.experiment.hyperparameters, found.estimate, found.work
    trained = "all weights" if h.full_finetuning else f"a LoRA adapter of rank {h.r}"
    tokens = f"{work.tokens:,} tokens an epoch" if work.exact else f"at most {work.tokens:,} tokens an epoch (counted in bytes)"
    again = "activations are computed again" if guess.recompute else "activations are kept"
    facts = {
        "experiment": f"{key} ({file}) on {found.device}",
        "model": f"{found.experiment.model_name}: {found.config.parameters:,} parameters; trains {trained} ({where})",
        "data": f"{work.pairs:,} pairs, {tokens}, longest sequence {work.longest:,}",
        "a step": f"{found.experiment.global_batch} pairs, at most {guess.row:,} tokens at once; {again}",
    }
    rows = [(part.name, gib(part.size), part.why) for part in guess.parts if part.size]
    rows.append(("total", gib(guess.total), f"of {gib(found.memory)}" if found.memory is not None else ""))
    lines = [f"{name:<12}{fact}" for name, fact in facts.items()]
    lines += ["", f"{'memory':<12}{'GiB':>7}", *(f"{name:<12}{size:>7}  {why}".rstrip() for name, size, why in rows)]
    if guess.host:
        lines.append(f"{'main memory':<12}{gib(guess.host):>7}  a rank's, for what was moved there")
    lines += ["", f"{'time':<12}{found.time}", f"{'verdict':<12}{found.verdict}"]
    lines += [f"{'note':<12}{note}" for note in (*([found.why] if found.why else []), *guess.notes)]
    if not found.machine.cuda and found.experiment.launch.gpus != 0:
        lines.append(f"{'note':<12}there is no GPU here: --gpu 'RTX 4090' or --gpu-memory 24GiB plans for one")
    return lines + _remedies(found)


def _remedies(found: Planned) -> list[str]:
    if found.fits is not False:
        return []
    if not any(change.fits for change in found.changes):
        head = "no change makes it fit; nearest comes:" if found.changes else "no change makes it fit: take a smaller model"
    else:
        head = "the cheapest changes that make it fit:"
    from ..planning.planned import gib

    lines = ["", head]
    for change in found.changes:
        lines += [f"  {change.options}", f"      {gib(change.total)} GiB; {change.cost}"]
    return lines


VERBS: Final = (plan,)
