"""What every test needs: a process as a machine that nobody has set up would start it, whoever starts it here."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from launcher.experiment.variables import FOR_LIBRARIES

REPOSITORY = Path(__file__).parents[1]

# What the machine itself may need. Everything else would reach what a test starts: a proxy, a profile, a width, a run's DPO_….
_OF_THE_MACHINE = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|LANGUAGE|LC_\w+|LOCPATH|LD_\w+|PYTHON(HOME|UTF8|COERCECLOCALE|DONTWRITEBYTECODE)"
    r"|VIRTUAL_ENV|CUDA_VISIBLE_DEVICES|TRITON_INTERPRET|OMP_NUM_THREADS|CI|PYTEST_\w+|REWRITE_GOLDEN"
)
_CALLER = dict(os.environ)
_STARTED_BY_XDIST = "PYTEST_XDIST_WORKER" in os.environ

# Folders and files whose tests go to one worker: what looks at all images or containers of the one engine of this machine, which
# begins with its image; what builds the same files beside it; and what forks its ranks from one process that has imported torch.
_GROUPS = {
    "engine": ("tests/launcher/backends/docker/", "tests/launcher/backends/kubernetes/render/test_pod.py"),
    "image": ("tests/docker/",),
    "ranks": (
        "tests/trainer/test_parallel.py",
        "tests/trainer/test_start_parallel.py",
        "tests/trainer/test_mirrored.py",
        "tests/trainer/checkpoints/test_checkpoints.py",
    ),
}
# What pytest-xdist hands out first: the last one to end decides when all is done, so these are the longest. The demo, a run of
# which is in the engine's image, comes when that is there.
_LONGEST = (
    "engine",
    "image",
    "tests/trainer/step/compiling/test_compiled.py",
    "ranks",
    "tests/trainer/test_train.py",
    "tests/test_demo.py",
    "tests/launcher/launch/test_drill.py",
    "tests/test_secrets.py",
    "tests/launcher/storage/transfer/test_upload.py",
    "tests/trainer/step/test_architectures.py",
    "tests/trainer/step/test_every_field.py",
    "tests/trainer/inputs/test_bucket.py",
    "tests/trainer/inputs/test_hub.py",
    "tests/trainer/inputs/test_data.py",
    "tests/trainer/test_trackers.py",
    "tests/trainer/test_notebook.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Cleans the environment. The controller of pytest-xdist keeps its own, which its workers inherit and clean."""
    if getattr(config.option, "dist", "no") != "no" and not _STARTED_BY_XDIST:
        return
    gc.disable()  # until all tests are collected
    for name in [name for name in os.environ if not _OF_THE_MACHINE.fullmatch(name)]:
        del os.environ[name]
    if _STARTED_BY_XDIST:  # every core has a test of its own: threads that wait must not spin beside it
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Four where there are three GiB for each; else one per core, at least three, at most four.

    More than cores, as many tests wait; no more than four, as one that trains takes a GiB or more.
    """
    return 4 if _available() >= 4 * 3 << 30 else min(4, max(3, len(os.sched_getaffinity(0))))


def _available() -> int:
    """Bytes of memory that new processes can have without swapping."""
    told = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(told[1]) << 10 if told else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file go to one worker, as they share what was trained; those of a group do too."""
    moved = [name for name in (*_LONGEST, *chain(*_GROUPS.values())) if name not in _GROUPS and not (REPOSITORY / name).exists()]
    if moved:
        raise pytest.UsageError(f"tests/conftest.py names what is not there: {', '.join(moved)}")
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _STARTED_BY_XDIST:
        items.sort(key=lambda item: (*_LONGEST, _group(item.nodeid)).index(_group(item.nodeid)))


def _group(nodeid: str) -> str:
    return next((name for name, of in _GROUPS.items() if nodeid.startswith(of)), nodeid.partition("::")[0])


# A job that a script starts in the background ignores SIGINT, one under nohup or a supervisor perhaps others, and so would
# every process that a test starts and signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGTERM, signal.SIGCHLD):
    signal.signal(_number, signal.SIG_DFL)

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _variables_of_libraries() -> Iterator[None]:
    """``read_env`` sets them in the process, where they would stay for the tests that follow."""
    before = {name: os.environ.get(name) for name in FOR_LIBRARIES}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def caller() -> Mapping[str, str]:
    """The environment in which the tests were begun, for those that need something of it, as a cluster."""
    return _CALLER


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist see, for what is made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if _STARTED_BY_XDIST else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def alone(shared: Path) -> Callable[[str], AbstractContextManager[None]]:
    """Held by one worker at a time: whoever comes second finds what the first one made."""

    @contextmanager
    def lock(name: str) -> Iterator[None]:
        with (shared / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return lock


@pytest.fixture(scope="session")
def demo_model(shared: Path, alone: Callable[[str], AbstractContextManager[None]]) -> Path:
    """The demo's model, made once and as `make demo` makes it."""
    folder = shared / "demo" / "qwen3-tiny"
    csv = REPOSITORY / "configs" / "demo" / "everyday" / "training_data.csv"
    with alone("demo_model"):  # the command makes nothing where the model is there
        subprocess.run([sys.executable, "-m", "trainer.inputs.demo.model", str(folder), str(csv)], cwd=REPOSITORY, check=True)
    return folder


@pytest.fixture(scope="session")
def build_wheel() -> Callable[[Path], None]:
    """Builds the wheel and the source distribution of this checkout into a folder."""

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return build


@pytest.fixture(scope="session")
def wheel(shared: Path, alone: Callable[[str], AbstractContextManager[None]], build_wheel: Callable[[Path], None]) -> Path:
    """The wheel of this checkout; the source distribution lies beside it."""
    folder = shared / "dist"
    with alone("dist"):
        if not folder.is_dir():
            build_wheel(folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(shared: Path, alone: Callable[[str], AbstractContextManager[None]], wheel: Path) -> Callable[..., Any]:
    """Runs the launcher of the wheel, which is installed away from this checkout, in a folder with arguments and variables."""
    folder = shared / "installed"
    with alone("installed"):
        if not folder.is_dir():
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-index",
                "--target",
                str(folder),
                str(wheel),
            ]
            subprocess.run(pip, check=True)

    def run(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "launcher", *arguments]
        env = {**os.environ, **env, "PYTHONPATH": str(folder)}
        return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=900, check=False)

    return run


@pytest.fixture(scope="session")
def engine() -> Any:
    """The Docker engine of this machine, as a client; CI must have one."""
    import docker

    try:
        client = docker.from_env(environment=_CALLER, timeout=600)
        client.ping()
    except docker.errors.DockerException as error:
        if _CALLER.get("CI"):
            pytest.fail(f"CI needs a Docker engine: {error}")
        pytest.skip(f"no Docker engine: {error}")
    return client


@pytest.fixture(scope="session")
def build_settings(engine: Any, alone: Callable[[str], AbstractContextManager[None]]) -> Mapping[str, str]:
    """What a build of the image needs on this machine: a base that is here, and what pip is configured with."""
    with alone("base_image"):
        base = _CALLER.get("DPO_BASE_IMAGE") or _base_image(engine)
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=_CALLER, capture_output=True, text=True, check=True
    )
    settings = {"DPO_BASE_IMAGE": base}
    names = {
        "cert": "DPO_BUILD_CA",
        "find-links": "DPO_BUILD_WHEELS",
        "index-url": "DPO_BUILD_INDEX",
        "extra-index-url": "DPO_BUILD_EXTRA_INDEX",
    }
    for key, value in re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", configured.stdout, re.MULTILINE):
        # Only a file or folder of this machine can be handed on where one is meant, and only what is none where an address is.
        if key in names and Path(value).exists() == (key in ("cert", "find-links")) and "file:" not in value:
            settings[names[key]] = value
    return settings


def _base_image(engine: Any) -> str:
    """The id of the base that docker/base.sh makes, made if it is not there."""
    import docker

    try:
        return str(engine.images.get("dpo-base:bookworm").id)
    except docker.errors.ImageNotFound:
        if os.getuid() != 0 and not _CALLER.get("CI"):
            pytest.skip("a base image is made by root alone: docker/base.sh, or name one in DPO_BASE_IMAGE")
        made = subprocess.run([REPOSITORY / "docker" / "base.sh"], stdout=subprocess.PIPE, text=True, check=True)
        return made.stdout.strip()


@pytest.fixture(scope="session")
def cpu_image(engine: Any, build_settings: Mapping[str, str], alone: Callable[[str], AbstractContextManager[None]]) -> str:
    """The reference of the CPU image of this checkout, built if it is not there."""
    from launcher.backends.docker.build import ensure
    from launcher.job.image import image_of

    image = image_of("cpu", build_settings, None, REPOSITORY)
    with alone("cpu_image"):
        ensure(engine, image, build_settings, print)
    return image.reference


@pytest.fixture
def port() -> Iterator[int]:
    """A port for ranks that are told of it, which nobody else on this machine is given meanwhile."""
    from trainer.processes.port import held_port

    with held_port() as port:
        yield port


@pytest.fixture(scope="session")
def moto() -> Iterator[Any]:
    """An S3 server over HTTP (tests.s3.server.MotoServer), which a test empties before it uses it."""
    from tests.s3.server import MotoServer

    with MotoServer() as server:
        yield server


@pytest.fixture
def cluster_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Kubernetes API server over HTTP (tests.cluster_api.ClusterApi), which ``cluster_api.kubeconfig`` names."""
    from tests.cluster_api import ClusterApi

    with ClusterApi(tmp_path_factory.mktemp("cluster")) as api:
        yield api


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported stays, and the garbage collector looks at it no more (a full look at it takes half a second).

    Tests that need no GPU see none: they expect what a CPU computes, bit for bit.
    """
    gc.freeze()
    gc.enable()
    if not any(item.get_closest_marker("gpu") for item in session.items):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
