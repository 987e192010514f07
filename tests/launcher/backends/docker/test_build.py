"""Images on a real engine: the CPU image, and small ones built from a base that is here."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from launcher.backends.docker.build import ensure, find, layers, of_another_version, prune, push, size
from launcher.errors import LauncherError
from launcher.job.image import Image, image_of
from launcher.published import IMAGES, VERSION

pytestmark = pytest.mark.engine
REPOSITORY = Path(__file__).parents[4]

SMALL = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS packages
LABEL dpo-launcher.stage=packages
COPY docker/extras/ /extras/
COPY docker/requirements-cpu.txt /locked
RUN if [ -f /extras/pip.conf ]; then cat /extras/pip.conf; fi; cp /locked /installed

FROM ${BASE_IMAGE} AS runtime
COPY --from=packages /installed /installed

FROM runtime
COPY launcher/ /opt/launcher/
COPY trainer/ /opt/trainer/
ARG CONTENT
LABEL dpo-launcher.content=${CONTENT}
"""


@pytest.fixture
def small(tmp_path, build_settings, engine):
    """A checkout of its own, whose image is built in seconds, and is gone after the test."""
    for name in ("docker", "launcher", "trainer"):
        (tmp_path / name).mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text(SMALL)
    (tmp_path / "docker" / "requirements-cpu.txt").write_text(f"# {tmp_path}\n")
    (tmp_path / "launcher" / "a.py").write_text("1\n")
    (tmp_path / "trainer" / "a.py").write_text("1\n")
    made = []

    def image(**caller: str) -> Image:
        made.append(image_of("cpu", {"DPO_BASE_IMAGE": build_settings["DPO_BASE_IMAGE"], **caller}, None, tmp_path))
        return made[-1]

    yield image
    for one in made:
        for tag in (one.reference, one.build.runtime):
            if find(engine, tag):
                engine.images.remove(tag, force=True)


def without_waiting(said):
    """Without the lines that say after five seconds what is still done."""
    return [line for line in said if not re.search(r": \d+ s(,|$)", line)]


def first_stages(engine):
    """Images of the stage that sees the settings, which no tag holds."""
    return {image.id for image in engine.images.list(filters={"dangling": True, "label": "dpo-launcher.stage=packages"})}


def test_an_image_is_built_once_and_a_change_of_the_source_builds_its_last_stage(engine, small, tmp_path):
    said = []
    first = ensure(engine, small(), {}, said.append)
    said[:] = without_waiting(said)
    assert [line for line in said if line.startswith(("building", "context"))] == [
        f"building {small().build.runtime} (takes minutes, once per set of packages)",
        said[1],
        f"building {small().reference}",
        next(line for line in said[2:] if line.startswith("context")),
    ]
    said.clear()
    assert ensure(engine, small(), {}, said.append) == first
    assert said == []
    (tmp_path / "trainer" / "a.py").write_text("2\n")
    assert ensure(engine, small(), {}, said.append) != first
    assert said[0] == f"building {small().reference}"
    assert not [line for line in said if "minutes" in line]
    content = engine.images.get(small().reference).labels["dpo-launcher.content"]
    assert content == small().build.content


def test_settings_of_the_build_leave_no_trace_in_the_image(engine, small):
    caller = {"DPO_BUILD_INDEX": "https://user:hush-hush@index.example.com/simple", "HTTPS_PROXY": ""}
    before = first_stages(engine)
    ensure(engine, small(), caller, print)
    image = engine.images.get(small().reference)
    stored = io.BytesIO(b"".join(image.save()))
    with tarfile.open(fileobj=stored) as outer:
        names = outer.getnames()
        assert not [
            name for name in names if b"hush-hush" in (outer.extractfile(name).read() if outer.getmember(name).isfile() else b"")
        ]
    assert "hush-hush" not in str(image.attrs) + str(image.history())
    assert first_stages(engine) <= before


def test_a_build_that_fails_says_its_last_lines(engine, small, tmp_path):
    dockerfile = tmp_path / "docker" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("cp /locked", "echo the index is down; exit 3; cp /locked"))
    with pytest.raises(LauncherError) as caught:
        ensure(engine, small(), {}, print)
    assert f"{small().build.runtime} was not built: The command" in str(caught.value)
    assert "the index is down" in str(caught.value)
    assert find(engine, small().reference) is None


def test_a_base_that_cannot_be_had_is_an_error_with_what_to_do(engine, small):
    base = "localhost:1/no/base@sha256:" + "0" * 64
    with pytest.raises(LauncherError, match=r"was not built: the engine cannot connect to the registry .*\n    .*refused"):
        ensure(engine, small(DPO_BASE_IMAGE=base), {}, print)


def test_a_folder_of_wheels_that_is_not_there_is_named(engine, small):
    with pytest.raises(LauncherError, match="DPO_BUILD_WHEELS: /no/such: No such file or directory"):
        ensure(engine, small(), {"DPO_BUILD_WHEELS": "/no/such"}, print)


def test_prune_keeps_what_is_named_or_used_and_removes_the_rest(engine, small, tmp_path):
    ensure(engine, small(), {}, print)
    old = small()
    (tmp_path / "trainer" / "a.py").write_text("2\n")
    ensure(engine, small(), {}, print)
    used = small()
    (tmp_path / "trainer" / "a.py").write_text("3\n")
    ensure(engine, small(), {}, print)
    current = small()
    container = engine.containers.create(used.reference, ["true"])
    published = f"{IMAGES}:0.0.0-cpu"
    engine.images.get(current.reference).tag(published)
    others = {tag for name in ("dpo-launcher", IMAGES) for image in engine.images.list(name=name) for tag in image.tags}
    keep = others - {old.reference, used.reference, published}
    said = []
    try:
        assert prune(engine, keep, said.append) > 0
    finally:
        container.remove()
    assert sorted(said) == [
        f"kept     {used.reference}: a container uses it",
        f"removed  {old.reference}",
        f"removed  {published}",
    ]
    assert find(engine, current.reference) is not None


def test_an_image_that_no_registry_has_is_an_error_with_the_registrys_words(engine):
    with pytest.raises(
        LauncherError,
        match=r"localhost:1/none/such:1 \(launch\.image\) was not pulled: the engine cannot connect .*\n    .*refused",
    ):
        ensure(engine, Image("localhost:1/none/such:1", "cpu"), {}, print)


def test_sizes_are_in_the_units_of_people():
    assert [size(n) for n in (0, 1023, 2048, 3 << 20, 2 << 30)] == ["0 B", "1023 B", "2 KiB", "3 MiB", "2.00 GiB"]


@pytest.mark.slow
def test_the_cpu_image_is_small_has_no_compiler_and_no_secret_and_runs_as_nobody(engine, cpu_image):
    image = engine.images.get(cpu_image)
    assert sum(layer.size for layer in layers(engine, cpu_image)) <= 2 << 30
    assert image.attrs["Config"]["User"] == "10001:10001"
    assert image.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.labels["org.opencontainers.image.version"] == VERSION
    assert of_another_version(engine, Image(cpu_image, "cpu")) is None
    script = (
        "id -u; command -v gcc cc g++ pip; ls /extras /root/.cache 2>&1;"
        " python -c 'import launcher.storage, trainer.inputs.tokens, torch; print(torch.version.cuda)';"
        " find /opt -name '*.pyc' | head -1 | xargs -r od -An -tu4 -j4 -N4; find /opt -perm -4000"
    )
    out = engine.containers.run(
        cpu_image, ["sh", "-c", script], user="4711:4711", read_only=True, remove=True, network_disabled=True, tmpfs={"/tmp": ""}
    ).decode()
    lines = out.splitlines()
    assert lines[0] == "4711"
    assert "No such file" in lines[1]
    assert lines[-2:] == ["None", f"{1:11d}"], out


@pytest.fixture
def registry(tmp_path):
    """A registry of this machine, which an engine trusts without TLS."""
    program = shutil.which("docker-registry")
    if program is None:
        assert not os.environ.get("CI"), "CI needs docker-registry"
        pytest.skip("no docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    server = subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")])
    deadline = time.monotonic() + 30
    while True:
        with suppress(OSError), socket.create_connection(("localhost", int(address.rpartition(":")[2])), 1):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield address
    server.terminate()
    server.wait()


def test_an_image_that_is_pushed_can_be_pulled_by_the_digest_that_was_said(engine, small, registry):
    ensure(engine, small(), {}, print)
    said = []
    reference = push(engine, small().reference, f"{registry}/team/dpo-launcher", said.append)
    assert re.fullmatch(rf"{registry}/team/dpo-launcher@sha256:[0-9a-f]{{64}}", reference)
    assert without_waiting(said) == [f"pushing {registry}/team/dpo-launcher:{small().reference.rpartition(':')[2]}"]
    built = engine.images.get(small().reference).id
    for tag in engine.images.get(built).tags:
        engine.images.remove(tag, force=True)
    assert find(engine, reference) is None
    assert ensure(engine, Image(reference, "cpu"), {}, said.append) == built
    assert without_waiting(said)[-1] == f"pulling {reference}"
    engine.images.remove(built, force=True)


def test_a_push_that_is_refused_says_so(engine, small):
    ensure(engine, small(), {}, print)
    with pytest.raises(LauncherError, match=r"localhost:1/x:cpu-\w+ was not pushed: the engine cannot connect to the registry"):
        push(engine, small().reference, "localhost:1/x", print)
    engine.images.remove(f"localhost:1/x:{small().reference.rpartition(':')[2]}", force=True)
