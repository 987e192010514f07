"""What is told of an image while an engine builds it; the engine's stream is played."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from launcher.backends.docker import build
from launcher.errors import LauncherError, UnreachableError
from launcher.job.image import Image
from launcher.published import checkout_command, published_image


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
    assert str(caught.value).endswith("without an image, use `launcher run EXP --backend host`")


@pytest.mark.parametrize(
    ("status", "words", "kind", "meaning"),
    [
        (404, "manifest for {image} not found: manifest unknown", LauncherError,
         "image not found in the registry: check its name and tag"),
        (403, "error from registry: denied", LauncherError,
         "the registry denied access: run `docker login`, or check the image's name"),
        (500, 'Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io: no such host', UnreachableError,
         "the engine cannot connect to the registry or the package index"),
    ],
)  # fmt: skip
def test_a_published_image_that_is_not_pulled_is_one_error_with_two_ways_on(
    status: int, words: str, kind: type[LauncherError], meaning: str
) -> None:
    image = Image(published_image("cuda"), "cuda")
    words = words.format(image=image.reference)
    with pytest.raises(LauncherError) as caught:
        build.ensure(_Engine(APIError("no", SimpleNamespace(status_code=status), words)), image, {}, lambda _: None)
    assert type(caught.value) is kind
    assert str(caught.value).splitlines() == [
        f"image {image.reference} (published with dpo-launcher 0.1.0) was not pulled: {meaning}",
        f"    {words}",
        "    hint:     use --backend host, or build the image in a checkout:",
        f"              {checkout_command('launcher build')}",
    ]


def test_an_image_that_the_experiment_names_and_is_not_pulled_is_named_with_its_setting() -> None:
    refused = APIError("no", SimpleNamespace(status_code=404), "manifest unknown")
    with pytest.raises(LauncherError) as caught:
        build.ensure(_Engine(refused), Image("team/dpo:1", "cpu"), {}, lambda _: None)
    first, *_, hint = str(caught.value).splitlines()
    assert first.startswith("image team/dpo:1 (launch.image) was not pulled: image not found in the registry")
    assert hint == "    hint:     set launch.image to an image that this machine can pull, or use --backend host"


@pytest.mark.parametrize(
    ("labels", "warning"),
    [
        ({"org.opencontainers.image.title": "dpo-launcher", "org.opencontainers.image.version": "0.0.9"},
         "image team/dpo:1 holds dpo-launcher 0.0.9, and this launcher is 0.1.0: it may not know all settings"),
        ({"org.opencontainers.image.title": "dpo-launcher", "org.opencontainers.image.version": "0.1.0"}, None),
        ({"org.opencontainers.image.title": "another", "org.opencontainers.image.version": "7"}, None),
        (None, None),
    ],
)  # fmt: skip
def test_an_image_of_another_version_is_a_warning(labels: dict[str, str] | None, warning: str | None) -> None:
    engine = _Engine(None, SimpleNamespace(id="sha256:1", attrs={"Config": {"Labels": labels}}))
    assert build.of_another_version(engine, Image("team/dpo:1", "cpu")) == warning


class _Engine:
    """An engine with the image ``there`` or none, whose registry answers a pull with ``refused``."""

    def __init__(self, refused: Exception | None, there: object = None) -> None:
        self.images, self._refused, self._there = self, refused, there

    def get(self, reference: str) -> object:
        if self._there is None:
            raise ImageNotFound(reference)
        return self._there

    def pull(self, name: str, tag: str) -> object:
        assert self._refused is not None
        raise self._refused
