"""Adapters between a run, a bucket and this machine: which run or folder a person means, and where it was uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..experiment.schema import Experiment, StorageConfig
from ..runs.finding import choose
from ..runs.run_dir import RunDir
from ..storage import Place, Progress, download_folder, key_parts, upload_folder, upload_run
from ..storage.progress import ticking
from .status.finding import find, local_runs, on_cluster
from .status.state import known

if TYPE_CHECKING:
    from ..storage.progress import Listener
    from .kubernetes.backend import Kubernetes
    from .kubernetes.follow.run import ClusterRun


@dataclass(frozen=True)
class Sent:
    """What was uploaded. ``server``: the endpoint_url, None for AWS; ``key``: an experiment whose storage_config names it;
    ``notices``: what was left undone.
    """

    uri: str
    objects: int
    bytes: int
    server: str | None
    key: str
    notices: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def download(self) -> str:
        """What a person types after ``launcher`` on another machine to have it."""
        return f"download {self.uri}" + (f" --experiment {self.key}" if self.server is not None else "")


@dataclass(frozen=True)
class Arrived:
    """What was downloaded to ``folder``; ``was_there``: nothing was missing."""

    folder: Path
    files: int
    bytes: int
    was_there: bool

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder), "loading": self.loading}

    @property
    def loading(self) -> str | None:
        """A line of Python that loads the model, None where the folder holds neither an adapter nor a model."""
        for folder in (self.folder, self.folder / "adapter"):
            for file, library, name in _LOADED:
                if (folder / file).is_file():
                    return f'from {library} import {name}; model = {name}.from_pretrained("{folder}")'
        return None


_LOADED = (
    ("adapter_config.json", "peft", "AutoPeftModelForCausalLM"),
    ("config.json", "transformers", "AutoModelForCausalLM"),
)


@dataclass(frozen=True)
class Bucket:
    """The experiment whose storage_config counts: ``experiment`` of ``file``, None for that of the run itself."""

    experiment: str | None = None
    file: Path | None = None

    def load(self) -> Experiment:
        from ..experiment.files import load

        if self.experiment is None:
            raise UsageError("a folder outside every run needs --experiment EXP: its storage_config names the bucket")
        return load(self.experiment, root=Path(), file=self.file).experiment


def upload(source: str, bucket: Bucket, env: Mapping[str, str], listener: Listener) -> Sent:
    """Uploads the run, its adapter's folder or any other folder that ``source`` names. Uploads resume.

    Raises UsageError where nothing or no bucket is meant, and what :func:`upload_folder` raises.
    """
    run, folder = _run_or_folder(source)
    if run is not None:
        _check_over(run)
    own = _experiment_of(run) if run is not None else None
    experiment = bucket.load() if bucket.experiment is not None or own is None else own
    storage, keys = experiment.storage_config, own or experiment
    if storage is None or storage.bucket_name is None:
        whose = f"--experiment {bucket.experiment}" if bucket.experiment is not None else f"the experiment of {source}"
        raise UsageError(f"{whose} has no storage_config.bucket_name; set it, or name another experiment with --experiment EXP")
    if run is not None and folder == run.adapter:
        done = upload_run(run, keys, storage=storage, env=env, listener=listener)
    else:
        names = (folder.name,) if run is None else (run.name, *folder.relative_to(run.path).parts)
        done = upload_folder(folder, storage=storage, prefix_parts=key_parts(keys, *names), env=env, listener=listener)
    key = bucket.experiment or str(run.read_record().get("key", "EXP") if run is not None else "EXP")
    return Sent(done.uri, done.objects, done.bytes, storage.endpoint_url, key, done.notices)


@dataclass(frozen=True)
class Wanted:
    """What is to be downloaded: a run or ``s3://…``, to the new folder ``to``; ``every``: all of a cluster run's folder."""

    source: str
    to: Path | None = None
    every: bool = False
    cluster: bool = False
    namespace: str | None = None


def download(wanted: Wanted, bucket: Bucket, env: Mapping[str, str], listener: Listener) -> Arrived:
    """Downloads what ``wanted`` names: from the bucket where it was uploaded, else from the claim of the cluster's runs.

    Raises UsageError where it has no adapter or was not uploaded, and what :func:`download_folder` raises.
    """
    source = wanted.source
    found = None if source.startswith("s3://") else find(source, cluster=wanted.cluster, namespace=wanted.namespace)
    there = None if found is None else on_cluster(*found)
    if there is not None:
        where, run = there
        record = where.record(run)
        kept = _kept_copy(run, record)
        if kept is not None and not wanted.every:
            record = {**record, "uploaded": record.get("uploaded") or kept}
        if wanted.every or not record.get("uploaded"):
            return _from_claim(where, run, wanted.to or Path(run.name), listener, every=wanted.every)
        uri, storage = _uploaded_to(record["uploaded"])
    elif wanted.every:
        raise UsageError(f"--all is for a run on the cluster; {source} is not")
    else:
        uri, storage = (source, None) if found is None else _uploaded(found[1])
    if bucket.experiment is not None:
        storage = bucket.load().storage_config
    place = Place.parse(uri)
    target = wanted.to or Path(place.prefix.rpartition("/")[2] or place.bucket)
    done = download_folder(uri, target, storage=storage, env=env, listener=listener)
    return Arrived(done.folder, done.files, done.bytes, done.was_there)


def _uploaded(run: RunDir) -> tuple[str, StorageConfig | None]:
    """The address of what ``run`` has uploaded, and the storage_config of its server."""
    uploaded = run.read_record().get("uploaded")
    if uploaded is None:
        _check_over(run)
        raise UsageError(f"{run.name} was not uploaded; its adapter is {run.adapter}. Upload it with: launcher upload {run.name}")
    return _uploaded_to(uploaded)


def _kept_copy(run: ClusterRun, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the adapter of a run is whose pods had only disks of their own; None for other runs, and before there is one."""
    uri = (record.get("mirror") or {}).get("adapter")
    return None if run.copies is None or uri is None else {"uri": uri, "endpoint_url": run.store, "region": run.region}


def _uploaded_to(uploaded: Mapping[str, Any]) -> tuple[str, StorageConfig | None]:
    server = {name: uploaded.get(name) for name in ("endpoint_url", "region")}
    return str(uploaded["uri"]), StorageConfig.model_validate(server)


def _from_claim(where: Kubernetes, run: ClusterRun, target: Path, listener: Listener, *, every: bool) -> Arrived:
    from .kubernetes.follow.bring import NotThere, bring

    now = where.status(run)
    if every and not now.is_over:
        raise UsageError(f"{run.name} is {now.state} and its folder still changes; download its adapter without --all")
    folder = run.path if every else run.path / "adapter"
    latest = Progress(0, 0)

    def told(done: int, of: int) -> None:
        nonlocal latest
        latest = Progress(done, of)
        listener(latest)

    try:
        with ticking(lambda: listener(latest)):  # the hashes on the claim take a while before the first byte comes
            files, total, was_there = bring(where.archive(run), folder, target, told)
    except NotThere:
        what = "folder" if every else "adapter"
        raise UsageError(f"{run.name} has no {what} on the claim (state: {now.state})") from None
    return Arrived(target, files, total, was_there)


def _run_or_folder(source: str) -> tuple[RunDir | None, Path]:
    """(the run, its adapter), (the run, a folder in it), or (None, a folder elsewhere)."""
    path = Path(source)
    if "/" not in source:
        try:
            run = choose(source, local_runs())
        except UsageError:
            if not path.is_dir():
                run = _run_elsewhere(source)
                return run, run.adapter
        else:
            return run, run.adapter
    if not path.is_dir():
        raise UsageError(f"folder {source} not found")
    folder = path.resolve()
    found = next((RunDir(above) for above in (folder, *folder.parents) if (above / "experiment.json").is_file()), None)
    if found is None:
        return None, folder
    return found, found.adapter if folder == found.path else folder


def _run_elsewhere(name: str) -> RunDir:
    """A run that is not below this directory; raises UsageError for one on the cluster, whose adapter is not on this machine."""
    where, run = find(name)
    if on_cluster(where, run) is not None:
        raise UsageError(
            f"{run.name} is on the cluster, and so is its adapter. If its upload failed, resume it with: "
            f"launcher resume {run.name}\n    else: launcher download {run.name}, "
            f"then launcher upload ./{run.name} --experiment {run.key}"
        )
    found: RunDir = run
    return found


def _check_over(run: RunDir) -> None:
    now = known(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}. Follow it with: launcher logs -f {run.name}")
    if not run.adapter.is_dir():
        raise UsageError(f"{run.name} has no adapter (state: {now.state}). Resume it with: launcher resume {run.name}")


def _experiment_of(run: RunDir) -> Experiment:
    return Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))
