"""The reader's port on this machine, with a real HTTP server behind the emulator's port-forward."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow.archive import NoReader
from launcher.backends.kubernetes.follow.forward import Forward
from tests.cluster_api import ClusterApi
from tests.cluster_api.played import reader


class Board(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode() * 10_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def board() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Board) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def forward(cluster_api: ClusterApi, board: int, tmp_path) -> Iterator[Forward]:
    reader(cluster_api, tmp_path)
    cluster_api.ports["default", "reader-1", 6006] = board
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    made = Forward(cluster, "default", 0, print)
    threading.Thread(target=made.serve, daemon=True).start()
    yield made
    made.close()


def got(forward: Forward, path: str) -> bytes:
    return urllib.request.urlopen(f"http://127.0.0.1:{forward.port}{path}", timeout=30).read()


def asked(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def test_many_connections_at_once_and_one_that_is_kept(forward):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: got(forward, f"/{number}"), range(24)))
    assert answers == [f"/{number}".encode() * 10_000 for number in range(24)]
    kept = http.client.HTTPConnection("127.0.0.1", forward.port, timeout=30)
    for path in ("/a", "/b", "/c"):
        assert asked(kept, path) == path.encode() * 10_000
    kept.close()


def test_a_forward_that_drops_costs_its_own_connection_alone(cluster_api, forward):
    kept = http.client.HTTPConnection("127.0.0.1", forward.port, timeout=30)
    asked(kept, "/a")
    assert cluster_api.cut("portforward") == 1
    with pytest.raises((OSError, http.client.HTTPException)):
        asked(kept, "/b")
    assert got(forward, "/c") == b"/c" * 10_000


def test_a_reader_that_is_replaced_is_found_by_the_next_connection(cluster_api, forward, board, tmp_path):
    assert got(forward, "/a") == b"/a" * 10_000
    cluster_api.objects.delete("pods", "reader-1")
    reader(cluster_api, tmp_path, "reader-2")
    cluster_api.ports["default", "reader-2", 6006] = board
    assert got(forward, "/b") == b"/b" * 10_000


def test_without_a_reader_there_is_nothing_to_show(cluster_api):
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    with pytest.raises(NoReader):
        Forward(cluster, "default", 0, print)
