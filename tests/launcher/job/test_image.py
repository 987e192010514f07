"""What goes into an image's tag, on a copy of the real Dockerfile and locks."""

import shutil
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.experiment.schema import Experiment
from launcher.job import image
from launcher.job.image import Image, described, image_for, image_of, source_files, split_stages

REPOSITORY = Path(__file__).parents[3]
PINNED = "registry.example.com/python@sha256:" + "a" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docker").mkdir()
    for name in ("Dockerfile", "requirements-cpu.txt", "requirements-cuda.txt"):
        shutil.copy(REPOSITORY / "docker" / name, tmp_path / "docker")
    for name in ("launcher", "trainer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yml").write_text("demo: 1\n")
    return tmp_path


def made(root: Path, variant: str = "cpu", **caller: str) -> Image:
    return image_of(variant, caller, None, root)


def test_the_same_files_have_the_same_tag_wherever_they_lie(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, elsewhere)
    assert made(root).reference == made(elsewhere).reference
    assert made(root).reference.startswith("dpo-launcher:cpu-")


@pytest.mark.parametrize(
    ("path", "of_packages"),
    [
        ("docker/Dockerfile", True),
        ("docker/requirements-cpu.txt", True),
        ("trainer/__init__.py", False),
        ("trainer/new.py", False),
        ("launcher/init.yml", False),
    ],
)
def test_a_change_of_what_goes_in_is_another_image(root, path, of_packages):
    before = made(root)
    text = (root / path).read_text() if (root / path).exists() else ""
    (root / path).write_text("# changed\n" + text)
    after = made(root)
    assert after.reference != before.reference
    assert (after.build.runtime != before.build.runtime) == of_packages


def test_a_changed_last_stage_keeps_the_packages(root):
    before = made(root)
    dockerfile = root / "docker" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + "ENV NEW=1\n")
    assert made(root).reference != before.reference
    assert made(root).build.runtime == before.build.runtime


def test_a_change_of_an_experiment_or_of_bytecode_is_the_same_image(root):
    before = made(root).reference
    (root / "configs" / "demo.yml").write_text("demo: 2\n")
    (root / "docker" / "requirements-cuda.txt").write_text("")
    (root / "trainer" / "__pycache__").mkdir()
    (root / "trainer" / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert made(root).reference == before


def test_variants_and_bases_have_images_of_their_own_and_settings_without_a_trace_have_none(root):
    assert len({made(root).reference, made(root, "cuda").reference, made(root, DPO_BASE_IMAGE=PINNED).reference}) == 3
    assert made(root, DPO_BUILD_INDEX="https://u:p@index.example.com/simple").reference == made(root).reference


def test_a_base_that_may_change_is_refused(root):
    with pytest.raises(UsageError) as caught:
        made(root, DPO_BASE_IMAGE="python:3.11")
    assert str(caught.value) == (
        "DPO_BASE_IMAGE: python:3.11 is not pinned by a digest\n"
        "    expected: name@sha256:… or the id of a local image, sha256:…\n"
        "    hint:     docker image inspect --format '{{.Id}}' python:3.11"
    )
    assert made(root, DPO_BASE_IMAGE=PINNED).build.base == PINNED
    assert made(root).build.base.startswith("python:3.11-slim-bookworm@sha256:")


@pytest.fixture
def installed(root, monkeypatch):
    monkeypatch.setattr(image, "__file__", str(root / "site-packages" / "launcher" / "job" / "image.py"))


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_without_a_checkout_it_is_the_published_image_of_this_version(installed, variant):
    found = image_of(variant, {})
    assert found == Image(f"ghcr.io/dpo-launcher/dpo-launcher:0.1.0-{variant}", variant)
    assert found.sentence == f"image {found.reference}: published with dpo-launcher 0.1.0"
    assert described(variant, None) == f"{found.reference} (published with dpo-launcher 0.1.0)"
    assert found.remedy.splitlines()[1].split(" && ")[0].endswith("https://github.com/dpo-launcher/dpo-launcher")


def test_an_image_that_the_experiment_names_is_taken_everywhere(installed):
    found = image_of("cpu", {}, "registry.example.com/mine:1")
    assert found == Image("registry.example.com/mine:1", "cpu")
    assert described("cpu", found.reference) == "registry.example.com/mine:1 (launch.image)"


def test_a_checkout_is_named_without_a_look_at_its_files(monkeypatch):
    monkeypatch.setattr(image, "source_files", lambda root: pytest.fail("looked"))
    assert described("cuda", None) == "cuda, built from this checkout"


def test_the_last_stage_stands_alone_on_the_runtime(root):
    build = made(root).build
    text = build.last_stage()
    assert text.startswith(f"FROM {build.runtime}\nCOPY launcher/ ")
    assert text.count("FROM ") == 1
    assert split_stages((REPOSITORY / "docker" / "Dockerfile").read_text())[0].count("\nFROM ") == 2


def test_the_real_sources_are_all_there_and_nothing_else():
    names = {path.as_posix() for path in source_files(REPOSITORY)}
    assert {
        "launcher/experiment/schema.py",
        "launcher/experiment/other_tools/trl_fields.json",
        "trainer/processes/entrypoint.py",
    } <= names
    assert not [name for name in names if name.endswith(".pyc")]


TRACKED = {"report_to": ["tensorboard", "wandb", "mlflow", "trackio"]}
OTHERS = "registry.example.com/mine:1"


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_a_run_with_trackers_gets_the_image_of_every_run(installed, variant):
    written = {"experiment_id": "1", "model_name": "m", "datasets_path": "data"}
    tracked = Experiment.parse({**written, "hyperparameters": TRACKED}, needs_data=False)
    gpus = int(variant == "cuda")
    assert image_for(tracked, gpus, {}) == Image(f"ghcr.io/dpo-launcher/dpo-launcher:0.1.0-{variant}", variant)
    own = Experiment.parse({**written, "hyperparameters": TRACKED, "launch": {"image": OTHERS}}, needs_data=False)
    assert image_for(own, gpus, {}) == Image(OTHERS, variant)
