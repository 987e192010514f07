"""The verb that writes an HTML page of runs, or serves pages of all runs."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from .terminal import completion
from .terminal.screen import notices, say


@click.command("report", short_help="Write an HTML page of runs, or serve pages.")
@click.argument("names", metavar="[RUN]...", nargs=-1, shell_complete=completion.runs)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write (default: report.html in the run's folder; of several runs, in this directory).",
)
@click.option("--serve", is_flag=True, help="Serve the pages of all runs on this machine until Ctrl-C.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of --serve (default: a free one).")
def report(names: tuple[str, ...], output: Path | None, serve: bool, port: int | None) -> None:
    """Write one HTML page of runs: differences, curves, health, samples, suspects, data, and how to repeat them.

    The page needs no network. A run writes its own, report.html in its folder, when it ends.
    """
    if serve:
        if output is not None:
            raise UsageError("--serve writes no file: leave -o out")
        _serve(names, port)
        return
    if port is not None:
        raise UsageError("--port needs --serve")
    from ..backends.status.reports import write

    written = write(names, output)
    say(f"Wrote {written.file}. Open it in a browser.")
    notices(written.notices)


def _serve(names: tuple[str, ...], port: int | None) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    from ..backends.status.reports import listing, reported
    from ..report.server import Server
    from ..signals import sigterm_as_ctrl_c

    reported(names)  # a wrong name is an error here, not on the page
    with Server(port or 0, listing, reported, names) as server, sigterm_as_ctrl_c():
        say(f"Reports at {server.url} (Ctrl-C stops it)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


VERBS: tuple[click.Command, ...] = (report,)
