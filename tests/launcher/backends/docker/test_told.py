"""What is told of an image while an engine builds it; the engine's stream is played."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.backends.docker import build
from launcher.errors import LauncherError, UnreachableError


def test_a_build_that_prints_nothing_for_a_while_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(**_: Any) -> Iterator[dict[str, str]]:
        yield {"stream": "Step 1/2 : RUN pip install torch\n"}
        yield {"stream": "Collecting torch\n"}
        deadline = time.monotonic() + 20
        while len(said) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)

    said: list[str] = []
    monkeypatch.setattr(build, "INTERVAL", 0.5)
    build._build(SimpleNamespace(api=SimpleNamespace(build=stream)), {"Dockerfile": b"FROM x"}, said.append, tag="dpo:1")
    assert said[1] == "Step 1/2 : RUN pip install torch"
    assert said[2].startswith("building dpo:1: ")
    assert said[2].endswith(" s, Collecting torch")


@pytest.mark.parametrize(
    ("error", "line", "kind", "says"),
    [
        ("The command '/bin/sh -c pip install' returned a non-zero code: 1",
         "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'", UnreachableError,
         "dpo:1 was not built: the package index cannot be reached\n    The command "),
        ("Get \"https://registry/v2/\": dial tcp: connection refused", "Step 1/2 : FROM x", UnreachableError,
         "dpo:1 was not built: the engine cannot connect to the registry or the package index\n"),
        ("Get \"https://registry/v2/\": x509: certificate signed by unknown authority", "Step 1/2 : FROM x", LauncherError,
         "dpo:1 was not built: the engine does not trust the certificate of the registry"),
        ("The command '/bin/sh -c false' returned a non-zero code: 1", "Step 2/2 : RUN false", LauncherError,
         "dpo:1 was not built: The command "),
    ],
)  # fmt: skip
def test_a_build_whose_index_is_away_is_48_and_any_other_failure_1(
    error: str, line: str, kind: type[LauncherError], says: str
) -> None:
    events = [{"stream": f"{line}\n"}, {"error": error}]
    client = SimpleNamespace(api=SimpleNamespace(build=lambda **_: iter(events)))
    with pytest.raises(LauncherError) as caught:
        build._build(client, {"Dockerfile": b"FROM x"}, lambda _: None, tag="dpo:1")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(says)
