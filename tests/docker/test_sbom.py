"""The SBOM of a file system, and of the image that this checkout builds."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

REPOSITORY = Path(__file__).parents[2]
STATUS = """\
Package: tini
Status: install ok installed
Architecture: amd64
Version: 0.19.0-1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def bill(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "docker/sbom.py", str(root)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    package = tmp_path / "opt/venv/lib/python3.11/site-packages/Some_Thing-1.2.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.4\nName: Some_Thing\nVersion: 1.2\nLicense-Expression: MIT\n")
    return tmp_path


def test_a_bill_names_what_is_installed_and_its_licence(root):
    components = sorted(json.loads(bill(root))["components"], key=lambda one: str(one["purl"]))
    assert [(one["purl"], one.get("licenses")) for one in components] == [
        ("pkg:deb/debian/tini@0.19.0-1?arch=amd64&distro=debian-12", None),
        ("pkg:pypi/some-thing@1.2", [{"expression": "MIT"}]),
    ]


def test_one_file_system_has_one_bill(root):
    assert bill(root) == bill(root)


@pytest.mark.engine
@pytest.mark.slow
def test_the_images_bill_lists_the_lock(files_of_the_image, tmp_path):
    with tarfile.open(files_of_the_image) as tar:
        wanted = [m for m in tar if m.name.endswith(("/METADATA", "var/lib/dpkg/status", "os-release")) and not m.issym()]
        tar.extractall(tmp_path / "root", members=wanted, filter="data")
    (tmp_path / "root/etc").mkdir(exist_ok=True)
    if not (tmp_path / "root/etc/os-release").exists():
        (tmp_path / "root/etc/os-release").write_text((tmp_path / "root/usr/lib/os-release").read_text())
    names = {one["purl"].partition("@")[0] for one in json.loads(bill(tmp_path / "root"))["components"]}
    assert {"pkg:pypi/torch", "pkg:pypi/trl", "pkg:pypi/deepspeed", "pkg:deb/debian/libc6"} <= names
    assert not {"pkg:pypi/docker", "pkg:pypi/kubernetes"} & names
