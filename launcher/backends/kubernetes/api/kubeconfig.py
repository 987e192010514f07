"""Which API server is meant, and with which credentials: from a kubeconfig or a pod's service account."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ....errors import nearest
from .errors import ClusterError, ClusterRefused

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CONNECTIONS: Final = 128  # kept open: for the logs of 64 pods, a watch, and other requests


@dataclass(frozen=True)
class Access:
    """``configuration`` is the official client's; ``context`` and ``namespace`` are those in force."""

    configuration: Any
    context: str
    namespace: str


def access(caller: Mapping[str, str]) -> Access:
    """How ``caller`` reaches its cluster: the files in KUBECONFIG, else ~/.kube/config, else the service account of this pod.

    Raises ClusterError if all of these are missing, or if their contents are invalid.
    """
    named = caller.get("KUBECONFIG")
    home = Path(caller.get("HOME") or Path.home())
    paths = [Path(path).expanduser() for path in (named or str(home / ".kube" / "config")).split(os.pathsep) if path]
    there = [path for path in paths if path.is_file()]
    if there:
        return _of_files(there)
    if named is None and caller.get("KUBERNETES_SERVICE_HOST"):
        return _of_pod()
    if named:
        raise ClusterError(f"no cluster: {named} not found (set in KUBECONFIG)")
    raise ClusterError(
        f"no cluster: {paths[0]} not found\n"
        "    hint:     save the kubeconfig from your cluster's administrator there, or set KUBECONFIG to its path"
    )


@contextmanager
def overheard(heard: list[str]) -> Iterator[None]:
    """Collects warnings of the root logger and keeps them off the screen. The client reports the failure of a credential plugin
    there only, and then continues without credentials."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear, root = Ear(logging.WARNING), logging.getLogger()
    root.addHandler(ear)
    try:
        yield
    finally:
        root.removeHandler(ear)


def client_modules() -> None:
    """Imports the official client, and hides `kubernetes_validate` from it: if installed, the client loads it, which reads every
    schema of every API version (1.5 s) for a check that is not used here."""
    if "kubernetes" in sys.modules:
        return
    name = "kubernetes_validate"
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import kubernetes  # noqa: F401
    finally:
        if hidden:
            del sys.modules[name]


def _of_files(paths: list[Path]) -> Access:
    client_modules()
    import yaml
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

    where = os.pathsep.join(map(str, paths))
    heard: list[str] = []
    try:
        merged = KubeConfigMerger(where)
        if merged.config is None or not isinstance(merged.config.value, dict):
            raise ClusterError(f"{where}: not a kubeconfig")
        _check_context(merged.config.value, where)
        loader = KubeConfigLoader(config_dict=merged.config, config_base_path=None, config_persister=merged.save_changes)
        configuration = _configuration()
        with overheard(heard):
            loader.load_and_set(configuration)
    except OSError as error:
        raise ClusterError(f"{error.filename or where}: {error.strerror or error}") from error
    except (ConfigException, yaml.YAMLError, UnicodeError, ValueError, TypeError, AttributeError) as error:
        raise ClusterError(f"{where}: not a valid kubeconfig: {error}") from error
    context = loader.current_context
    if heard and not configuration.api_key and not configuration.cert_file:
        what = heard[0].removeprefix("exec: ")
        raise ClusterRefused(
            f"context {context['name']}: cannot get the credentials: {what}\n"
            f"    hint:     run the command under users[].user.exec in {where} by hand, or log in again"
        )
    return Access(configuration, str(context["name"]), str(context["context"].get("namespace") or "default"))


def _check_context(config: Mapping[str, Any], where: str) -> None:
    known = [str(one["name"]) for one in config.get("contexts") or []]
    chosen = config.get("current-context")
    there = ", ".join(known) or "none"
    if not chosen:
        raise ClusterError(f"{where}: no current context (contexts: {there})\n    hint:     kubectl config use-context NAME")
    if chosen not in known:
        hint = nearest(str(chosen), known)
        raise ClusterError(
            f"{where}: current-context {chosen!r} not found (contexts: {there})" + (f"\n    hint:     {hint}" if hint else "")
        )


def _of_pod() -> Access:
    client_modules()
    from kubernetes.config import ConfigException, load_incluster_config

    configuration = _configuration()
    try:
        load_incluster_config(client_configuration=configuration)
        namespace = _ACCOUNT.read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        raise ClusterError(f"no cluster: this pod has no service account token: {error}") from error
    return Access(configuration, "in-cluster", namespace or "default")


def _configuration() -> Any:
    from kubernetes.client import Configuration

    configuration = Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    configuration.retries = False  # Cluster retries, and knows what may be sent twice
    configuration.keep_alive = True  # a watch or a log may be silent for long; a dead peer sends nothing
    return configuration
