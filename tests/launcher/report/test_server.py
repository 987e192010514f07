"""The server of reports: a list, a page of each run, pages of several, and no answer to strangers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.report.reported import Reported
from launcher.report.server import Server
from tests.run_folders import Made

ROW: dict[str, Any] = {
    "run": "a",
    "experiment": "demo",
    "state": "done",
    "exit_code": 0,
    "progress": "40/40",
    "accuracy": None,
    "margin": None,
    "figures": None,
    "created": "2026-11-28T08:00:00.000+00:00",
    "took": "3 s",
    "step": 40,
    "trained_seconds": 3.0,
    "found": "ok",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    runs = {name: Reported.of(Made(name).write(home)) for name in ("a", "b")}

    def load(names: Sequence[str]) -> list[Reported]:
        if names == ["broken"]:
            raise ValueError("no such number")
        if missing := [name for name in names if name not in runs]:
            raise UsageError(f"run {missing[0]!r} not found")
        return [runs[name] for name in names]

    with Server(0, lambda: [ROW, {**ROW, "run": "b"}], load) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def get(server: Server, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_list_has_every_run(server: Server):
    code, text = get(server, "/")
    assert code == 200
    assert text.index('href="/runs/a"') < text.index('href="/runs/b"')
    assert get(server, "/compare") == get(server, "/runs") == (code, text)


def test_a_run_and_several_runs_have_a_page(server: Server):
    assert "<h1>a</h1>" in get(server, "/runs/a")[1]
    assert "<h1>2 runs compared</h1>" in get(server, "/compare?run=a&run=b")[1]


@pytest.mark.parametrize(
    ("path", "text"),
    [("/runs/c", "run 'c' not found"), ("/runs/..%2F..%2Fetc", "run '../../etc' not found"), ("/x", "not found; the list")],
)
def test_what_does_not_exist_is_404(server: Server, path: str, text: str):
    code, found = get(server, path)
    assert (code, text in found) == (404, True)


def test_a_page_that_cannot_be_made_says_why(server: Server):
    assert get(server, "/runs/broken") == (500, "cannot make the page: ValueError: no such number")


def test_a_page_elsewhere_cannot_read_runs_by_another_name_of_this_machine(server: Server):
    assert get(server, "/", host="evil.example")[0] == 403
    assert get(server, "/", host=f"localhost:{server.server_port}")[0] == 200


def test_it_listens_on_this_machine_alone_and_names_a_port_that_is_in_use(server: Server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"
    with pytest.raises(UsageError, match=f"--port {server.server_port}: address already in use; leave --port out"):
        Server(server.server_port, list, lambda names: [])


def test_named_runs_are_the_first_page(tmp_path: Path):
    run = Reported.of(Made("a").write(tmp_path))
    with Server(0, lambda: [ROW], lambda names: [run], first=["a"]) as server:
        assert "<h1>a</h1>" in server.page("/")
        assert 'href="/runs/a"' in server.page("/runs")
