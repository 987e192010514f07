"""What `run`, `render`, `submit`, `resume`, `stop` and `logs` do with a sweep."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ..errors import Aborted, Stopped, UsageError
from .points import draw
from .terminal import completion
from .terminal.screen import complain, facts, notices, say, this_launcher, typed

if TYPE_CHECKING:
    from ..launch.rendered import Choice
    from ..launch.sweeps.found import Swept
    from ..launch.sweeps.grid import Sweep
    from ..launch.sweeps.local import Sweeping

sweep_option = click.option(
    "--sweep",
    "axes",
    multiple=True,
    metavar="KEY=V1,V2",
    shell_complete=completion.settings,
    help="Start one run for each value, such as hyperparameters.beta=0.05,0.1; repeatable: every combination.",
)
parallel_option = click.option(
    "--parallel",
    type=click.IntRange(1),
    metavar="N",
    help="Points of a sweep at the same time (default: as many as the GPUs, or the cluster, allow).",
)


def run_here(
    choice: Choice, axes: Sequence[str], backend: str | None, parallel: int | None, data_of: str | None, *, detach: bool
) -> int:
    """Runs a sweep on this machine, to its end unless ``detach``. Returns the exit code."""
    from ..launch.sweeps.found import here
    from ..launch.sweeps.grid import plan_sweep

    sweep = plan_sweep(choice, axes)
    there = here(sweep.name)
    if there is not None:
        there.check_idle()
    return _continue(sweep, backend, parallel, data_of, detach=detach)


def _continue(sweep: Sweep, backend: str | None, parallel: int | None, data_of: str | None, *, detach: bool) -> int:
    from ..launch.sweeps.local import sweep_here
    from .terminal.live import waiting

    with waiting("reading the model's configuration and the data") as told:
        found = sweep_here(sweep, backend, parallel, data_of, told)
    count = len(found.slots.gpus)
    if found.first is not None:
        each = {name: fact for name, fact in found.first.facts.items() if name not in ("run", "output")}
        facts({"sweep": f"{sweep.name}: {len(sweep.points)} points, {count} at a time", **each})
        notices(found.first.notices)
    if detach:
        if found.first is not None:
            found.first.where.prepare(found.first.spec, say)  # build the image before detaching, so that its progress is visible
        return _detached(found)
    asked = _watched(found, say)
    return _detached(found) if asked == "detach" else _ended(found, asked)


def _detached(found: Sweeping) -> int:
    from ..launch.sweeps.detached import detach

    detach(found, lambda: _ended(found, _watched(found, lambda _: None)))
    name = found.sweep.name
    say(f"Sweep {name} continues without this terminal. Follow it with: {this_launcher()} logs -f {name}")
    return 0


def _watched(found: Sweeping, listener: Callable[[str], None]) -> str | None:
    from .watch import Interrupts

    with Interrupts() as interrupts:
        interrupts.is_watching = True
        return found.run(_asking(interrupts), listener)


def _asking(interrupts: object) -> Callable[[], str | None]:
    """A function that returns what the user wants: ``stop`` after the first Ctrl-C (a terminal asks first), ``kill`` after the
    second.
    """
    from .watch import Interrupts, is_terminal, stop_or_detach

    assert isinstance(interrupts, Interrupts)
    heeded = False

    def asked() -> str | None:
        nonlocal heeded
        if interrupts.count > 1:
            return "kill"
        if interrupts.count and not heeded:
            heeded = True
            return stop_or_detach(interrupts) if interrupts.last == signal.SIGINT and is_terminal() else "stop"
        return None

    return asked


def _ended(found: Sweeping, asked: str | None) -> int:
    """Prints the end of a sweep. Returns its exit code."""
    outcomes = found.outcomes()
    draw(found.sweep.name, outcomes, is_swept=False)
    if asked is not None:
        return Aborted.exit_code if asked == "kill" else Stopped.exit_code
    return 0 if all(one.is_done for one in outcomes) else 1


def render_sweep(
    choice: Choice, axes: Sequence[str], backend: str | None, parallel: int | None, *, cluster: bool, full: bool
) -> None:
    """Prints what each point would start, or the single Job for all of them."""
    from ..launch.rendered import rendered, rendered_for_cluster
    from ..launch.sweeps.grid import load_points, plan_sweep

    sweep = plan_sweep(choice, axes)
    load_points(sweep)
    if cluster and parallel is not None:
        from ..backends.kubernetes.render.spec import text
        from ..launch.sweeps.cluster import rendered_in_one_job

        click.echo(text(rendered_in_one_job(sweep, parallel)), nl=False)
        return
    for point in sweep.points:
        one, note = sweep.choice_of(point), sweep.note(point)
        click.echo(f"# {sweep.run(point)}: point {point.number} of {len(sweep.points)}: {point}")
        found = rendered_for_cluster(one, note) if cluster else rendered(one, backend, note)
        click.echo(found.text(full=full), nl=False)


def submit_sweep(
    choice: Choice,
    axes: Sequence[str],
    registry: str | None,
    data_of: str | None,
    parallel: int | None,
    *,
    anyway: bool,
    as_json: bool,
) -> int:
    """Creates one Job per point, or with ``parallel`` one Job for all. The same command with the sweep's name creates what is
    missing.
    """
    from ..launch.sweeps.cluster import submit_points
    from ..launch.sweeps.grid import plan_sweep
    from .submit import Told

    sweep = plan_sweep(choice, axes)
    if parallel is not None:
        return _submit_in_one_job(sweep, parallel, registry, data_of, anyway=anyway, as_json=as_json)
    made, count = [], len(sweep.points)
    try:
        for point, done in submit_points(sweep, registry=registry, data_of=data_of, anyway=anyway, listener=Told(as_json)):
            if done is None:
                complain(f"[{point.number}/{count}] {sweep.run(point)}: {point} (exists)")
            else:
                made.append(done)
    except BaseException:
        if made:
            complain(f"{len(made)} of {count} runs were created; create the others with the same command and --name {sweep.name}")
        raise
    if as_json:
        click.echo(json.dumps([one.json() for one in made], indent=2, ensure_ascii=False))
        return 0
    say(f"Submitted {len(made)} runs of sweep {sweep.name}. See them with: {this_launcher()} status {sweep.name} --cluster")
    return 0


def _submit_in_one_job(
    sweep: Sweep, parallel: int, registry: str | None, data_of: str | None, *, anyway: bool, as_json: bool
) -> int:
    from ..launch.sweeps.cluster import submit_in_one_job
    from .submit import Told

    if data_of is not None:
        raise UsageError("--data-of cannot be combined with --parallel on a cluster")
    done = submit_in_one_job(sweep, parallel, registry=registry, anyway=anyway, listener=Told(as_json))
    if as_json:
        click.echo(json.dumps([] if done is None else [done.json()], indent=2, ensure_ascii=False))
    elif done is None:
        say(f"sweep {sweep.name} exists. See it with: {this_launcher()} status {sweep.name} --cluster")
    else:
        say(f"Submitted sweep {sweep.name}. See it with: {this_launcher()} status {sweep.name} --cluster")
    return 0


def resume_sweep(found: Swept, detach: bool) -> int:
    """Continues the points that are not done."""
    if found.sweep is None:
        from ..launch.repeats.remaining import resume_points

        names = resume_points(found, lambda line: say(typed(line)))
        if names:
            say(f"Started {', '.join(names)}. Follow the sweep with: {this_launcher()} logs -f {found.name}")
        return 0
    found.check_idle()
    entry = found.entries[0]
    return _continue(found.sweep, entry.get("backend"), entry.get("parallel"), None, detach=detach)


def stop_sweep(found: Swept, *, now: bool) -> None:
    found.stop(now=now, say=say, warn=complain)
    draw(found.name, found.outcomes(), is_swept=False)


def show_log(found: Swept, *, follow: bool) -> int:
    """Prints the sweep's log, with ``follow`` to its end. Ctrl-C does not stop the sweep."""
    from .watch import Interrupts

    with Interrupts() as interrupts:
        interrupts.is_watching = True
        for piece in found.log(follow=follow):
            click.echo(piece, nl=False)
            if interrupts.count:
                complain(f"{found.name} continues")
                return Aborted.exit_code
    return 0
