"""The verbs that bring adapters into a bucket and out of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import cluster_option, file_option, namespace_option

if TYPE_CHECKING:
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from ..experiment.schema import Experiment, StorageConfig
    from ..runs.run_dir import RunDir
    from ..storage import Progress as Transfer
    from ..storage.progress import Listener

_storage_option = click.option(
    "--experiment", "other", metavar="EXP", help="Take storage_config from this experiment, not from the run's own."
)


@click.command("upload", short_help="Upload a run's adapter, or a folder, to a bucket.")
@click.argument("source", metavar="RUN|PATH")
@_storage_option
@file_option
def upload(source: str, other: str | None, file: Path | None) -> None:
    """Upload a run's adapter, or a folder, to the bucket of its storage_config.

    Goes on where an earlier upload was cut off. A run that was trained but not uploaded (47) is done afterwards. A folder that
    lies in no run needs --experiment.
    """
    from ..experiment.files import read_env
    from ..storage import key_parts, upload_folder, upload_run
    from ..storage.progress import size

    env = read_env(Path.cwd())
    run, folder = _run_or_folder(source)
    if run is not None:
        _check_over(run)
    experiment = _experiment(other, file) if other is not None or run is None else _experiment_of(run)
    storage = experiment.storage_config
    if storage is None or storage.bucket_name is None:
        whose = f"--experiment {other}" if other is not None else f"the experiment of {source}"
        raise UsageError(f"{whose} names no bucket: set storage_config.bucket_name, or name another one with --experiment EXP")
    keys = experiment if run is None else _experiment_of(run)
    with _drawn("uploaded") as listener:
        if run is not None and folder == run.adapter:
            done = upload_run(run, keys, storage=storage, env=env, listener=listener)
        else:
            names = (folder.name,) if run is None else (run.name, *folder.relative_to(run.path).parts)
            parts = key_parts(keys, *names)
            done = upload_folder(folder, storage=storage, prefix_parts=parts, env=env, listener=listener)
    click.echo(f"uploaded {done.objects} objects, {size(done.bytes)}, to {done.uri}")


@click.command("download", short_help="Download the adapter of a run, or what lies at s3://….")
@click.argument("source", metavar="RUN|s3://…")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="A new folder (default: the name of what is read).")
@click.option(
    "--all", "every", is_flag=True, help="All of a run's folder on the cluster but its checkpoints, not the adapter alone."
)
@cluster_option
@namespace_option
@_storage_option
@file_option
def download(
    source: str, to: Path | None, every: bool, cluster: bool, namespace: str | None, other: str | None, file: Path | None
) -> None:
    """Download the adapter of a run that has uploaded it or lies on the cluster, or what lies at s3://….

    Only what a manifest names is read, and nothing appears in DIR before all of it is there and is what was sent. After a kill or
    a failure the same command reads only the files that are missing. Where s3://… lies on another server than AWS, --experiment
    names a storage_config that has its endpoint_url. A run on the cluster that has uploaded nothing is read from the runs' claim,
    which begins again after a kill.
    """
    from ..backends.finding import find, on_cluster
    from ..experiment.files import read_env
    from ..storage import Place, download_folder
    from ..storage.progress import size

    env = read_env(Path.cwd())
    found = None if source.startswith("s3://") else find(source, cluster=cluster, namespace=namespace)
    there = None if found is None else on_cluster(*found)
    if there is not None:
        where, run = there
        record = where.record(run)
        if every or not record.get("uploaded"):
            _bring(where, run, to or Path(run.name), every=every)
            return
        uri, storage = _place_of(record["uploaded"])
    elif every:
        raise UsageError("--all is for a run on the cluster: here its folder is there already")
    else:
        uri, storage = (source, None) if found is None else _uploaded(found[1])
    if other is not None:
        storage = _experiment(other, file).storage_config
    place = Place.parse(uri)
    target = to or Path(place.prefix.rpartition("/")[2] or place.bucket)
    with _drawn("downloaded") as listener:
        done = download_folder(uri, target, storage=storage, env=env, listener=listener)
    files = f"{done.files} file{'s' * (done.files != 1)}, {size(done.bytes)}"
    click.echo(f"{done.folder} has them already: {files}" if done.was_there else f"downloaded {files}, to {done.folder}")


def _uploaded(run: RunDir) -> tuple[str, StorageConfig | None]:
    """Where what ``run`` has uploaded lies, and the storage_config that says on which server."""
    uploaded = run.read_record().get("uploaded")
    if uploaded is None:
        _check_over(run)
        raise UsageError(f"{run.name} was not uploaded: its adapter is {run.adapter}, `launcher upload {run.name}` uploads it")
    return _place_of(uploaded)


def _place_of(uploaded: Mapping[str, Any]) -> tuple[str, StorageConfig | None]:
    from ..experiment.schema import StorageConfig

    server = {name: uploaded.get(name) for name in ("endpoint_url", "region")}
    return str(uploaded["uri"]), StorageConfig.model_validate(server)


def _bring(where: Kubernetes, run: ClusterRun, target: Path, *, every: bool) -> None:
    """What lies on the claim of a run on the cluster."""
    from ..backends.kubernetes.follow.bring import NotThere, bring
    from ..storage import Progress as Transfer
    from ..storage.progress import size

    now = where.status(run)
    if every and not now.is_over:
        raise UsageError(f"{run.name} is {now.state}: its folder still changes; without --all its adapter is read")
    with _drawn("downloaded") as listener:
        try:
            files, total, was_there = bring(
                where.archive(run),
                run.path if every else run.path / "adapter",
                target,
                lambda done, of: listener(Transfer(done, of)),
            )
        except NotThere:
            raise UsageError(f"{run.name} has no {'folder' if every else 'adapter'} on the claim, it is {now.state}") from None
    said = f"{files} file{'s' * (files != 1)}, {size(total)}"
    click.echo(f"{target} has them already: {said}" if was_there else f"downloaded {said}, to {target}")


def _run_or_folder(source: str) -> tuple[RunDir | None, Path]:
    """(the run, its adapter), (the run, a folder in it), or (None, a folder elsewhere)."""
    from ..runs.run_dir import RunDir

    path = Path(source)
    if "/" not in source:
        try:
            run = _known_run(source)
        except UsageError:
            if not path.is_dir():
                run = _run_elsewhere(source)
                return run, run.adapter
        else:
            return run, run.adapter
    if not path.is_dir():
        raise UsageError(f"there is no folder {source}")
    folder = path.resolve()
    found = next((RunDir(above) for above in (folder, *folder.parents) if (above / "experiment.json").is_file()), None)
    if found is None:
        return None, folder
    return found, found.adapter if folder == found.path else folder


def _known_run(name: str) -> RunDir:
    from ..runs.finding import choose, newest_first, output_dirs

    return choose(name, newest_first(output_dirs(Path.cwd())))


def _run_elsewhere(name: str) -> RunDir:
    """A run that is not below this directory; raises UsageError for one on the cluster, whose adapter does not lie here."""
    from ..backends.finding import find, on_cluster

    where, run = find(name)
    if on_cluster(where, run) is not None:
        raise UsageError(
            f"{run.name} is on the cluster, and so is its adapter: `launcher resume {run.name}` uploads it where that failed; "
            f"or `launcher download {run.name}`, then `launcher upload ./{run.name} --experiment {run.key}`"
        )
    found: RunDir = run
    return found


def _check_over(run: RunDir) -> None:
    from ..backends.finding import known

    now = known(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}: `launcher logs -f {run.name}` follows it")
    if not run.adapter.is_dir():
        raise UsageError(f"{run.name} has no adapter, it is {now.state}: `launcher resume {run.name}` goes on with it")


def _experiment(name: str | None, file: Path | None) -> Experiment:
    from ..experiment.files import load

    if name is None:
        raise UsageError("a folder that lies in no run needs --experiment EXP, whose storage_config says where it goes")
    return load(name, root=Path(), file=file).experiment


def _experiment_of(run: RunDir) -> Experiment:
    from ..experiment.schema import Experiment

    return Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))


@contextmanager
def _drawn(verb: str) -> Iterator[Listener]:
    """A bar on a terminal, a line now and then elsewhere."""
    from ..storage import Lines

    if sys.stdout is None or not sys.stdout.isatty():
        yield Lines(verb, click.echo)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(verb), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(verb, total=None)

        def listen(now: Transfer) -> None:
            bar.update(task, completed=now.done, total=now.total)

        yield listen


VERBS: tuple[click.Command, ...] = (upload, download)
