"""A local port that is forwarded to a pod; each connection has its own forward, and a lost one does not affect others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ....errors import LauncherError
from ..api.cluster import Cluster
from .archive import Archive

PORT: Final = 6006  # of TensorBoard in the reader
_TRIES: Final = 5  # of a forward, as the pod may just be replaced
_PAUSE: Final = 1.0  # seconds between them
_CHUNK: Final = 1 << 16


class Forward:
    """Listens on 127.0.0.1:``port`` (0: a free one) for the reader of ``namespace``. ``say`` is told each failure once.

    Raises OSError if the port is taken, NoReader if no reader pod runs.
    """

    def __init__(self, cluster: Cluster, namespace: str, port: int, say: Callable[[str], None]):
        self._cluster, self._namespace, self._say = cluster, namespace, say
        self._said = ""
        Archive(cluster, namespace).reader()
        self._listener = socket.create_server(("127.0.0.1", port))

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Accepts connections until ``close``, or until a signal raises."""
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(browser,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes ``accept``
        self._listener.close()

    def _connect(self, browser: socket.socket) -> None:
        with browser:
            pod = self._forwarded()
            if pod is None:
                return
            back = threading.Thread(target=_pump, args=(pod, browser), daemon=True)
            back.start()
            _pump(browser, pod)
            pod.close()

    def _forwarded(self) -> Any:
        """A connection to the reader that runs now, or None."""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
            try:
                reader = Archive(self._cluster, self._namespace).reader()
                found = self._cluster.forward(reader, PORT, self._namespace)
            except LauncherError as error:
                if self._said != str(error):
                    self._said = str(error)
                    self._say(str(error).splitlines()[0])
            else:
                self._said = ""
                return found
        return None


def _pump(source: Any, target: Any) -> None:
    """Copies until either side ends, then ends the other."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
