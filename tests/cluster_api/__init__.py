"""An emulator of the Kubernetes API: a real HTTP server on this machine, as strict as an API server where it matters.

    with ClusterApi(folder) as api:        # api.kubeconfig names it
        api.objects.put({...})             # what the control plane did
        api.deny("create", "jobs"); api.fail(503, "/jobs", times=2)

It keeps objects with versions, owners and labels, tells watches, asks for access, passes logs, commands and ports on, and fails
in the ways in which real ones do. It plays no controller: ``controllers`` has functions that do, step by step.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from trainer.processes.port import held_port

from .admission import mutate
from .faults import Fault, Faults
from .logs import Log
from .server import Request, Server
from .store import Admission, Change, Store
from .streams import Command

__all__ = ["Admission", "ClusterApi", "Log", "Request"]


class ClusterApi:
    """Settings may be changed at any time, by any thread.

    ``username``: by which the server knows the caller, None where it serves no SelfSubjectReviews. ``addons``: ``JobSet``,
    ``Kueue`` and ``Trainer`` where their kinds are served; ``idle``: those of them without a controller and a webhook,
    ``silent``: those whose webhook is registered and does not answer. ``delay``: seconds before every answer. ``commands``: what
    runs in a pod, by (namespace, pod): a function, or a folder that takes the place of its root for real processes. ``ports``:
    port of this machine by (namespace, pod, port). ``logs``: by (namespace, pod, container), see ``log``.
    """

    def __init__(self, folder: Path, *, tls: ssl.SSLContext | None = None, authority: Path | None = None):
        self.folder = folder
        self.objects = Store()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.addons: set[str] = set()
        self.idle: set[str] = set()
        self.silent: set[str] = set()
        self.objects.mutate = lambda kind, obj: mutate(self.objects, kind, obj, self.addons - self.idle, self.silent)
        self.token = "token-of-dana-0123456789"
        self.user = "dana"
        self.username: str | None = "dana@example.com"
        self.minor = "36"  # version of Kubernetes 1
        self.ahead = timedelta()  # of its clock
        self.delay = 0.0
        self.commands: dict[tuple[str, str], Command | Path] = {}
        self.ports: dict[tuple[str, str, int], int] = {}
        self.logs: dict[tuple[str, str, str], Log] = {}
        self.bookmarks = 0
        self.bells: list[Callable[[Change | None], None]] = []
        self._denied: set[tuple[str, str]] = set()
        self._tls, self._authority = tls, authority
        self._held = contextlib.ExitStack()  # the port, also while the server is stopped
        self._port = self._held.enter_context(held_port())
        self._server = Server(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def kubeconfig(self) -> Path:
        """The file, written anew: a test may change the token or the namespace in it."""
        file = self.folder / "kubeconfig"
        file.write_text(yaml.safe_dump(self.config()), encoding="utf-8")
        return file

    def config(self, namespace: str | None = None) -> dict[str, Any]:
        """A kubeconfig with the context ``emulator``."""
        cluster: dict[str, Any] = {"server": self.url}
        if self._authority is not None:
            cluster["certificate-authority"] = str(self._authority)
        context = {"cluster": "emulator", "user": self.user} | ({"namespace": namespace} if namespace else {})
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "emulator",
            "clusters": [{"name": "emulator", "cluster": cluster}],
            "contexts": [{"name": "emulator", "context": context}],
            "users": [{"name": self.user, "user": {"token": self.token}}],
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._held.close()

    def start(self) -> None:
        """Serves; after ``stop`` at the same address, with the same objects."""
        begun = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(begun,), daemon=True)
        self._thread.start()
        assert begun.wait(120), "the emulator did not start"

    def stop(self) -> None:
        """Cuts every connection and is gone."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(120)
            self._loop = None

    def deny(self, verb: str, resource: str) -> None:
        """Refuses a verb (``*``: every one) on a resource, spelt as in a Role, to requests and in access reviews."""
        self._denied.add((verb, resource))

    def is_denied(self, verb: str, resource: str) -> bool:
        return bool({(verb, resource), ("*", resource), (verb, "*")} & self._denied)

    def fail(
        self,
        status: int | None,
        path: str = "",
        *,
        method: str = "*",
        times: int | None = 1,
        message: str = "the server is currently unable to handle the request",
        reason: str = "ServiceUnavailable",
        headers: dict[str, str] | None = None,
    ) -> None:
        """The next ``times`` requests whose path (with its query) fits ``path`` are answered with ``status``; None: cut off."""
        self.faults.add(Fault(method, re.compile(path), status, times, message, reason, headers or {}, None, False))

    def lose(self, path: str = "", *, method: str = "*", times: int | None = 1, status: int | None = None) -> None:
        """The next requests are carried out, and their answers are lost; ``status``: answered in their place, as by a server that
        has given up waiting for its store, or by a balancer in front of it."""
        said = "Timeout: request did not complete within the allotted duration"
        self.faults.add(Fault(method, re.compile(path), status, times, said, "Timeout", {}, None, True))

    def hold(self, path: str, *, method: str = "*") -> threading.Event:
        """Requests wait until the event is set, before they are carried out."""
        gate = threading.Event()
        self.faults.add(Fault(method, re.compile(path), None, None, "", "", {}, None, False, gate))
        return gate

    def cut_after(self, size: int, path: str, *, times: int | None = 1) -> None:
        """The next streams break off after ``size`` bytes."""
        self.faults.add(Fault("GET", re.compile(path), None, times, "", "", {}, size, False))

    def cut(self, path: str = "") -> int:
        """Cuts the streams that are open now; returns how many there were."""
        assert self._loop is not None

        async def act() -> int:
            return self._server.cut(path)

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(120)

    def streams(self, path: str = "") -> int:
        """How many streams are open now."""
        return sum(1 for one, _ in list(self._server.open) if re.search(path, one))

    def settle(self) -> None:
        """Returns when every request that came is carried out, also those whose sender is gone."""
        while self._server.busy:
            time.sleep(0.01)

    def bookmark(self) -> None:
        """Every watch that allows it is told the version of now."""
        self.bookmarks += 1
        for bell in list(self.bells):
            bell(None)

    def log(self, pod: str, container: str = "trainer", namespace: str = "default") -> Log:
        """The log of a container, made on first use."""
        return self.logs.setdefault((namespace, pod, container), Log())

    def refuse(self, name: str, judge: Callable[[str, dict[str, Any]], str | None], code: int = 403) -> None:
        """A webhook called ``name``: ``judge`` (plural, object) gives the words of its refusal, or None."""
        self.objects.admissions.append(Admission(name, judge, code))

    def asked(self, method: str | None = None, path: str = "") -> list[Request]:
        """The requests so far whose method is ``method`` and whose path fits."""
        return [one for one in list(self.requests) if method in (None, one.method) and re.search(path, one.path)]

    def _serve(self, begun: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
        loop.run_until_complete(site.start())
        loop.call_soon(begun.set)
        loop.run_forever()
        for _, transport in list(self._server.open):
            transport.abort()
        loop.run_until_complete(runner.cleanup())
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.close()
