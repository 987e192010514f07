"""Staging: inputs too large for a ConfigMap are put where the pods read them, once, under the hash of their contents."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ....errors import LauncherError
from ....experiment.schema import StorageConfig
from ....storage.progress import Lines, Meter, size
from ..api.cluster import Cluster
from ..api.errors import ApiError, ExecError
from ..render.objects import QUEUE
from ..render.placement import Folder, Staged
from ..render.pod import CONTAINER
from ..render.spec import KubernetesSpec
from .patience import running_pod
from .probes import is_denied
from .standing import stands

Say = Callable[[str], None]

_UNPACK: Final = Path(__file__).with_name("unpack.py")
_LIFE: Final = 6 * 3600  # seconds after which the cluster ends a forgotten staging Job
_CHUNK: Final = 1 << 20


def stage(
    cluster: Cluster,
    spec: KubernetesSpec,
    namespace: str,
    storage: StorageConfig | None,
    env: Mapping[str, str],
    say: Say,
    *,
    is_patient: bool = False,
) -> None:
    """Puts every folder of ``spec.staged`` in its place, if missing there. Raises LauncherError, and then leaves nothing.

    ``is_patient``: a pod that copies waits for its node as long as a run would.
    """
    for one in spec.staged:
        if one.target.startswith("s3://"):
            _to_bucket(one, storage, env, say)
        else:
            _to_claim(cluster, spec, namespace, one, say, is_patient)


def _to_bucket(staged: Staged, storage: StorageConfig | None, env: Mapping[str, str], say: Say) -> None:
    from ....storage import upload_folder

    assert storage is not None, "a target in a bucket is made of storage_config"
    folder = staged.folder
    say(f"staging  {folder.path} ({size(folder.size)}) to {staged.target}")
    *_, above, digest, name = staged.target.split("/")
    upload_folder(
        folder.path,
        storage=storage,
        prefix_parts=(above, digest, name),
        env=env,
        names=folder.files,
        listener=Lines("staged", say),
    )


def _to_claim(cluster: Cluster, spec: KubernetesSpec, namespace: str, staged: Staged, say: Say, is_patient: bool) -> None:
    """Copies by a short-lived Job, whose pod mounts the claim and reads the files from a command's standard input.

    There is no such pod where another one shows that the folder is there.
    """
    folder, jobs, claim = staged.folder, f"/apis/batch/v1/namespaces/{namespace}/jobs", spec.claims.get("cache")
    mount = next(one for one in spec.container["volumeMounts"] if one["name"] == "cache")
    if claim is not None and stands(cluster, namespace, claim, staged.target, str(mount.get("subPath") or "")):
        say(f"staged   {staged.target} (already there)")
        return
    say(f"staging  {folder.path} ({size(folder.size)}) to {staged.target}{'' if claim is None else f' on claim {claim}'}")
    suffix = secrets.token_hex(4)
    job = staging_job(spec, staged, namespace, suffix)
    if spec.queue is not None and _must_queue(cluster, jobs, job):
        job = staging_job(spec, staged, namespace, suffix, queue=spec.queue)
    name = job["metadata"]["name"]
    try:
        pod = running_pod(cluster, cluster.create(jobs, job), say, is_patient=is_patient)
        said = _send(cluster, namespace, pod, staged, say)
        say(f"staged   {staged.target}{' (already there)' if said == 'there' else ''}")
    except ExecError as error:
        words = error.stderr.strip().splitlines() or [str(error)]
        raise LauncherError(f"{folder.path} not staged: {words[-1]}") from error
    finally:
        cluster.delete(f"{jobs}/{name}", grace=0)


def _must_queue(cluster: Cluster, jobs: str, job: Mapping[str, Any]) -> bool:
    """Whether the cluster lets no Job run that names no queue: Kueue suspends it, perhaps in the namespace's default queue, or a
    policy refuses it."""
    try:
        return cluster.create(jobs, job, dry_run=True)["spec"].get("suspend") is True
    except ApiError as error:
        if not is_denied(error):
            raise
        return True


def staging_job(spec: KubernetesSpec, staged: Staged, namespace: str, suffix: str, *, queue: str | None = None) -> dict[str, Any]:
    """A Job with one small pod, otherwise like those of the run, that sleeps until it is deleted; ``queue``: where it waits."""
    labels = {**spec.owner["metadata"]["labels"], **spec.pod["metadata"]["labels"]}  # the experiment's patch may add some
    own = {name: value for name, value in labels.items() if not name.startswith(("dpo-launcher/", "kueue.x-k8s.io/"))}
    own["dpo-launcher/user"] = labels["dpo-launcher/user"]
    own["app.kubernetes.io/component"] = "staging"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"dpo-stage-{staged.folder.digest[:12]}-{suffix}",
            "namespace": namespace,
            "labels": own if queue is None else {**own, QUEUE: queue},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _LIFE,
            "ttlSecondsAfterFinished": 60,
            "template": {"metadata": {**spec.pod["metadata"], "labels": own}, "spec": _staging_pod(spec, has_disk=queue is None)},
        },
    }


def _staging_pod(spec: KubernetesSpec, *, has_disk: bool) -> dict[str, Any]:
    """``has_disk``: it asks for a part of the node's disk, which few queues cover."""
    small = {"cpu": "500m", "memory": "512Mi", **({"ephemeral-storage": "1Gi"} if has_disk else {})}
    run_pod = spec.pod["spec"]
    kept = (
        "affinity", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets", "nodeSelector", "priorityClassName",
        "runtimeClassName", "securityContext", "serviceAccountName", "tolerations",
    )  # fmt: skip
    container = {
        "name": CONTAINER,
        "image": spec.image.reference,
        "imagePullPolicy": spec.container["imagePullPolicy"],
        "args": ["sleep", str(_LIFE)],
        "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "resources": {"requests": small, "limits": small},
        "securityContext": spec.container["securityContext"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            next(one for one in spec.container["volumeMounts"] if one["name"] == "cache"),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        **{name: run_pod[name] for name in kept if name in run_pod},
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [
            next(one for one in run_pod["volumes"] if one["name"] == "cache"),
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }


def _send(cluster: Cluster, namespace: str, pod: str, staged: Staged, say: Say) -> str:
    """Sends the files; returns the pod's answer, ``there`` or ``staged``."""
    asked, is_wanted = threading.Event(), False
    meter = Meter(staged.folder.size, Lines("staged", say))

    def stdin() -> Iterator[bytes]:
        asked.wait()
        if is_wanted:
            yield from packed(staged.folder, meter)

    command = ["python", "-c", _UNPACK.read_text(encoding="utf-8"), staged.target, staged.folder.digest]
    said = ""
    try:
        with meter:
            for piece in cluster.exec(pod, CONTAINER, command, namespace, stdin()):
                said += piece.decode()
                is_wanted = is_wanted or said.startswith("send\n")
                if "\n" in said:
                    asked.set()
    finally:
        asked.set()
    return said.split()[-1] if said else ""


def packed(folder: Folder, meter: Meter) -> Iterator[bytes]:
    """What ``unpack.py`` reads: the length of the list of names and sizes in 8 digits, the list, the contents in order of names.

    Raises LauncherError if the size of a file has changed.
    """
    names = json.dumps(dict(folder.files)).encode()
    yield b"%08d" % len(names) + names
    for name in sorted(folder.files):
        left = folder.files[name]
        with (folder.path / name).open("rb") as file:
            while left and (data := file.read(min(left, _CHUNK))):
                yield data
                left -= len(data)
                meter.add(len(data))
        if left:
            raise LauncherError(f"{folder.path / name}: changed while it was staged")
