"""Checks whether a new run's name already exists on the claim, possibly with another experiment and a deleted Job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ...errors import Mistake

if TYPE_CHECKING:
    from ...backends.kubernetes.api.cluster import Cluster
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...backends.kubernetes.render.spec import KubernetesSpec

_SHOWN: Final = 3  # settings shown that differ


def check_names(cluster: Cluster, specs: Sequence[KubernetesSpec], namespace: str) -> list[str]:
    """Notices about existing folders with the same experiment: those runs resume.

    Raises NotReady if a folder contains another experiment, which the pod would reject. Without a reader pod only the pod can
    tell.
    """
    from ...backends.kubernetes.api.cluster import ApiError
    from ...backends.kubernetes.follow.archive import NoReader
    from ...backends.kubernetes.submit.preflight import NotReady

    notices, findings = list[str](), list[Mistake]()
    with suppress(NoReader, ApiError):
        for spec in specs:
            _look(cluster, spec, namespace, notices, findings)
    if findings:
        raise NotReady(findings)
    return notices


def _look(cluster: Cluster, spec: KubernetesSpec, namespace: str, notices: list[str], findings: list[Mistake]) -> None:
    from ...backends.kubernetes.follow.archive import run_of, said
    from ...backends.kubernetes.follow.copied import archive_of, with_copies
    from ...why import begins

    run = with_copies(run_of(namespace, spec.folder, {}), spec.owner)
    archive = archive_of(cluster, run)
    record = archive.record(run)
    if not record:
        return
    stored = json.loads(archive.file(run, "experiment.json") or "{}")
    other = list(_differences(stored, _asked(spec)))
    if other:
        findings.append(_another(run, other))
        return
    end = said(record)
    if end is not None and end.state == "done":
        notices.append(f"{run.name} is done, in {run.path}: its pod ends at once; choose another --name to train again")
    else:
        notices.append(f"{run.name} exists with the same experiment, in {run.path}: it {begins(archive.checkpoints(run))}")


def _asked(spec: KubernetesSpec) -> Any:
    """The experiment as the pods of ``spec`` read it."""
    found = next(one for one in spec.objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == spec.job)
    return json.loads(found["data"]["experiment.json"])


def _another(run: ClusterRun, other: Sequence[tuple[str, str, str]]) -> Mistake:
    words = [f"{name} is {there} there, {here} here" for name, there, here in other[:_SHOWN]]
    more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
    what = f"a run with this name exists with another experiment ({'; '.join(words)}{more}): {run.path}"
    return Mistake(f"--name {run.name}", what, hint=f"resume that run with: launcher resume {run.name}; or choose another --name")


def _differences(stored: Any, asked: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """(setting, value in the folder, value now) for each setting that differs."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        for name in sorted({*stored, *asked}):
            yield from _differences(stored.get(name), asked.get(name), f"{path}.{name}" if path else name)
    elif stored != asked:
        yield path, json.dumps(stored, ensure_ascii=False), json.dumps(asked, ensure_ascii=False)
