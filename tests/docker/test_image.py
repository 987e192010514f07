"""`make image`: the image that buildah builds has the files of the one that `launcher build` builds, and fixed times.

Two builds by two builders, each from nothing, show what two builds in two stores would: the digest is a hash of these files and
of times that buildah fixes. The workflow's job `image` compares the digests of two stores for both variants.
"""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from launcher.published import VERSION

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="buildah's stores are root's")
def test_two_builders_make_the_same_files(engine, build_settings, export, request, tmp_path):
    if shutil.which("buildah") is None:
        assert not os.environ.get("CI"), "CI needs buildah"
        pytest.skip("no buildah")
    base = export(engine, build_settings["DPO_BASE_IMAGE"], tmp_path / "base.tar")
    env = {
        **os.environ,
        **build_settings,
        "DPO_BASE_IMAGE": str(base),
        "STORE": str(tmp_path / "store"),
        "PYTHON": sys.executable,
    }
    built = subprocess.run(["docker/image.sh", "cpu"], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    assert re.fullmatch("sha256:[0-9a-f]{64}", built.stdout.strip())
    assert (REPOSITORY / "build" / "sbom-cpu.json").is_file()

    store = ["buildah", "--root", tmp_path / "store/root", "--runroot", tmp_path / "store/run", "--storage-driver", "overlay"]
    tag = f"dpo-launcher:cpu-{output('git', 'rev-parse', '--short=12', 'HEAD')}"
    mounted = Path(output(*store, "mount", output(*store, "from", "--pull-never", tag)))
    theirs = of_a_folder(mounted)
    ours = of_an_archive(request.getfixturevalue("files_of_the_image"))  # which the tests of the engine built meanwhile
    subprocess.run([*store, "umount", "--all"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", tmp_path / "store"], check=True)
    assert len(ours) > 10_000
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == set()


@pytest.mark.parametrize(("tag", "pushed"), [({"TAG": "0.1.0-cpu"}, "0.1.0-cpu"), ({}, "cpu-[0-9a-f]{12}")])
def test_an_image_is_pushed_under_the_tag_that_is_given_and_knows_its_version(tmp_path, tag, pushed):
    root = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--shared", REPOSITORY, root], check=True)
    for name in ("docker/image.sh", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    (tmp_path / "buildah").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    (tmp_path / "buildah").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "true", "PUSH": "ghcr.io/team/dpo", **tag}
    subprocess.run(["docker/image.sh", "cpu"], cwd=root, env=env, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    (push,) = [call for call in calls if call.startswith("push ")]
    assert re.search(f" docker://ghcr\\.io/team/dpo:{pushed}$", push)
    (build,) = [call for call in calls if call.startswith("build ")]
    assert f"--build-arg VERSION={VERSION} " in build


def test_an_image_of_another_digest_than_the_one_that_is_expected_is_not_pushed(tmp_path):
    (tmp_path / "buildah").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" != inspect ] || echo sha256:2\n')
    (tmp_path / "buildah").chmod(0o755)
    root = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--shared", REPOSITORY, root], check=True)
    shutil.copy(REPOSITORY / "docker" / "image.sh", root / "docker" / "image.sh")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "true", "PUSH": "ghcr.io/team/dpo"}
    codes = [
        subprocess.run(["docker/image.sh", "cpu"], cwd=root, env={**env, "EXPECT": expected}, check=False).returncode
        for expected in ("sha256:1", "sha256:2")
    ]
    assert codes == [1, 0]
    assert len([call for call in (tmp_path / "calls").read_text().splitlines() if call.startswith("push ")]) == 1


def output(*command) -> str:
    return subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def of_an_archive(archive: Path) -> dict[str, tuple[object, ...]]:
    """What the build put on the base: mode, owner, and content or target of each file."""
    with tarfile.open(archive) as tar:
        return {
            one.name: (
                stat.S_IMODE(one.mode),  # the engine's has the kind of the file, too
                one.uid,
                one.gid,
                one.linkname or (one.isreg() and hashlib.file_digest(tar.extractfile(one), "sha256").hexdigest()),
            )
            for one in tar
            if one.name.startswith("opt/") or one.name == "usr/bin/tini"
        }


def of_a_folder(root: Path) -> dict[str, tuple[object, ...]]:
    """The same of a file system that is mounted at ``root``."""
    found = {}
    for path in [root / "usr/bin/tini", *(root / "opt").rglob("*")]:
        facts = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.relative_to(root).as_posix()] = (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid, content)
    return found
