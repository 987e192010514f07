"""The verbs that upload adapters to a bucket, download them, and push them to a model hub."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .terminal import completion
from .terminal.options import cluster_option, file_option, namespace_option
from .terminal.screen import notices, say, this_launcher

if TYPE_CHECKING:
    from ..backends.adapters import Bucket, Wanted
    from ..storage import Progress as Transfer
    from ..storage.progress import Listener


def _bucket(command: Callable[..., None]) -> Callable[..., None]:
    """Gives ``--experiment`` and ``-f`` to the verb as one value ``bucket``."""

    @wraps(command)
    def chosen(other: str | None, file: Path | None, **others: Any) -> None:
        from ..backends.adapters import Bucket

        command(bucket=Bucket(other, file), **others)

    option = click.option(
        "--experiment",
        "other",
        metavar="EXP",
        shell_complete=completion.experiments,
        help="Use EXP's storage_config (default: the run's own).",
    )
    return option(file_option(chosen))


def _wanted(command: Callable[..., None]) -> Callable[..., None]:
    """Gives what to download, and where to, to the verb as one value ``wanted``."""

    @wraps(command)
    def chosen(source: str, to: Path | None, every: bool, cluster: bool, namespace: str | None, **others: Any) -> None:
        from ..backends.adapters import Wanted

        command(wanted=Wanted(source, to, every, cluster, namespace), **others)

    every = click.option("--all", "every", is_flag=True, help="The whole folder of a run on the cluster, without checkpoints.")
    target = click.option(
        "--to", type=click.Path(path_type=Path), metavar="DIR", help="A new folder (default: the source's name)."
    )
    source = click.argument("source", metavar="RUN|s3://…", shell_complete=completion.runs)
    return source(target(every(cluster_option(namespace_option(chosen)))))


@click.command("upload", short_help="Upload a run's adapter, or a folder, to a bucket.")
@click.argument("source", metavar="RUN|PATH", shell_complete=completion.runs)
@_bucket
def upload(source: str, bucket: Bucket) -> None:
    """Upload a run's adapter, or a folder, to the bucket of its storage_config.

    Uploads resume: only unfinished parts are sent again. A run that was trained but not uploaded (exit code 47) is done
    afterwards. A folder outside every run needs --experiment.
    """
    from ..backends.adapters import upload as send
    from ..experiment.files import read_env
    from ..storage.progress import size

    with drawn("uploaded") as listener:
        done = send(source, bucket, read_env(Path.cwd()), listener)
    notices(done.notices)
    say(f"Uploaded {done.objects} objects ({size(done.bytes)}) to {done.uri}")
    say(f"Download it with: {this_launcher()} {done.download}")


@click.command("download", short_help="Download a run's adapter, or a folder from a bucket.")
@_wanted
@_bucket
def download(wanted: Wanted, bucket: Bucket) -> None:
    """Download the adapter of a run that was uploaded or is on the cluster, or the folder at s3://….

    DIR appears when all files are complete and equal what was uploaded. Downloads resume: only missing files are read again,
    except from the cluster's claim, which starts again. For s3://… on another server than AWS, --experiment names an experiment
    whose storage_config has the endpoint_url.
    """
    from ..backends.adapters import download as receive
    from ..experiment.files import read_env
    from ..storage.progress import size

    with drawn("downloaded") as listener:
        done = receive(wanted, bucket, read_env(Path.cwd()), listener)
    files = f"{done.files} file{'s' * (done.files != 1)} ({size(done.bytes)})"
    say(f"{done.folder} is complete: {files}, nothing to download" if done.was_there else f"Downloaded {files} to {done.folder}")
    if done.loading is not None:
        click.echo(f"Load it in Python: {done.loading}")  # never wrapped, so that it can be copied


@click.command("push", short_help="Push a run's adapter to a model hub.")
@click.argument("source", metavar="RUN|PATH", shell_complete=completion.runs)
@click.option("--to", "repository", metavar="OWNER/NAME", required=True, help="Repository on the hub.")
@click.option("--public", is_flag=True, help="Make a new repository public (default: private).")
@click.option("--revision", metavar="BRANCH", help="Push to this branch (default: main).")
def push(source: str, repository: str, public: bool, revision: str | None) -> None:
    """Push a run's adapter or weights, with their model card, to a model hub.

    PATH is the folder of a run, of an adapter or of a merged model. Creates the repository if it is missing. Only changed files
    are sent, and the same files make no new commit. Reads HF_TOKEN and HF_ENDPOINT from .env or the environment.
    """
    from ..after.push import Destination
    from ..after.push import push as send
    from ..after.target import target
    from ..experiment.files import read_env
    from ..storage.progress import size

    env = read_env(Path.cwd())
    done = send(target(source), Destination(repository, public, revision), env)
    notices(done.notices)
    files = f"{done.files} file{'s' * (done.files != 1)} ({size(done.bytes)})"
    say(f"Pushed {files} to {done.url}, commit {done.commit[:12]}" if done.is_new else f"{done.url} already has these {files}")


@contextmanager
def drawn(verb: str) -> Iterator[Listener]:
    """Shows the progress: a bar on a terminal, lines elsewhere."""
    from ..storage import Lines

    if sys.stdout is None or not sys.stdout.isatty():
        yield Lines(verb, say)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(verb), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(verb, total=None, visible=False)

        def listen(now: Transfer) -> None:
            bar.update(task, completed=now.done, total=now.total or None, visible=True)

        yield listen


VERBS: tuple[click.Command, ...] = (upload, download, push)
