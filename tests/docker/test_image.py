"""`make image`: two builds of one commit, in two stores, have one digest."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="buildah's stores are root's")
def test_two_builds_in_two_stores_have_one_digest(engine, build_settings, tmp_path):
    if shutil.which("buildah") is None:
        assert not os.environ.get("CI"), "CI needs buildah"
        pytest.skip("no buildah")
    base = tmp_path / "base.tar"
    container = engine.containers.create(build_settings["DPO_BASE_IMAGE"], ["true"])
    try:
        with base.open("wb") as file:
            for chunk in container.export():
                file.write(chunk)
    finally:
        container.remove()
    builds = []
    for store in ("one", "two"):  # side by side: each waits long for the network and the disk
        env = {
            **os.environ,
            **build_settings,
            "DPO_BASE_IMAGE": str(base),
            "STORE": str(tmp_path / store),
            "PYTHON": sys.executable,
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": (tmp_path / f"{store}.log").open("w"), "text": True}
        builds.append(subprocess.Popen(["docker/image.sh", "cpu"], cwd=REPOSITORY, env=env, **pipes))
    digests = [build.communicate()[0].strip() for build in builds]
    assert [build.returncode for build in builds] == [0, 0], [(tmp_path / f"{s}.log").read_text()[-3000:] for s in ("one", "two")]
    for store in ("one", "two"):
        subprocess.run(["rm", "-rf", tmp_path / store], check=True)
    assert re.fullmatch("sha256:[0-9a-f]{64}", digests[0])
    assert digests[0] == digests[1]
    assert (REPOSITORY / "build" / "sbom-cpu.json").is_file()
