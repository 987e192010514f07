"""The workflows: who may do what, which actions, and that the image that is pushed is the one that the launcher takes.

That the files are valid, and free of what `zizmor` knows, is for `make lint`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import published

REPOSITORY = Path(__file__).parents[2]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
READ = {"contents": "read"}
PERMISSIONS = {
    "ci": {"test": READ, "cluster": READ, "image": READ},
    "docs": {"build": READ, "deploy": {"pages": "write", "id-token": "write"}},
    "release": {
        "ci": READ,
        "dist": {**READ, "id-token": "write", "attestations": "write"},
        "pypi": {"id-token": "write"},
        "image": {**READ, "packages": "write", "id-token": "write", "attestations": "write"},
        "notes": {"contents": "write"},
    },
}


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def steps_of(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name, or action, or command -> step."""
    return {step.get("name") or step.get("uses", "").partition("@")[0] or step["run"]: step for step in job["steps"]}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_job_may_only_do_what_it_does(file: Path) -> None:
    found = workflow(file.stem)
    assert found["permissions"] == {}
    assert {name: job["permissions"] for name, job in found["jobs"].items()} == PERMISSIONS[file.stem]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_action_is_a_commit_with_its_version_beside_it(file: Path) -> None:
    used = re.findall(r"uses: (?!\./)(.+)", file.read_text(encoding="utf-8"))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+){2}", one)] == []


def test_nothing_is_published_before_the_tests_and_the_images() -> None:
    jobs = workflow("release")["jobs"]
    needs = {name: job.get("needs", []) for name, job in jobs.items()}
    assert needs == {"ci": [], "dist": [], "image": ["ci", "dist"], "pypi": ["ci", "dist", "image"], "notes": ["pypi", "image"]}
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert jobs["pypi"]["environment"] == "pypi"


def test_a_release_checks_its_tag_before_it_builds() -> None:
    names = list(steps_of(workflow("release")["jobs"]["dist"]))
    assert names.index("the tag is that of the version, and the version has its notes") < names.index(
        "build twice, compare, check"
    )


def test_a_release_signs_its_image_by_digest_and_attaches_sbom_and_provenance() -> None:
    steps = steps_of(workflow("release")["jobs"]["image"])
    sign, provenance = steps["sign the image and attach its SBOM"], steps["actions/attest-build-provenance"]
    assert sign["env"]["IMAGE"] == "${{ steps.build.outputs.name }}@${{ steps.build.outputs.digest }}"
    assert 'cosign sign --yes "$IMAGE"' in sign["run"]
    assert 'cosign attest --yes --type cyclonedx --predicate "build/sbom-$VARIANT.json" "$IMAGE"' in sign["run"]
    assert provenance["with"]["push-to-registry"] is True


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_a_release_pushes_the_image_that_a_launcher_outside_a_checkout_takes(variant: str, tmp_path: Path) -> None:
    """The step's own lines, with a build that is played: it prints a digest and notes where it would push."""
    steps = steps_of(workflow("release")["jobs"]["image"])
    (step,) = [step for step in steps.values() if step.get("id") == "build"]
    for folder in ("bin", "build", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin" / "sudo").write_text(
        '#!/bin/sh\necho "sha256:1"\necho "$*" >> calls\n'
        '[ -z "$PUSH" ] || { echo "$PUSH:$TAG" >> pushed; echo "sha256:2" > "build/digest-$VARIANT"; }\n'
    )
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} "$@"\n')
    for script in ("bin/sudo", ".venv/bin/python"):
        (tmp_path / script).chmod(0o755)
    env = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "VARIANT": variant,
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_REPOSITORY": published.REPOSITORY.removeprefix("https://github.com/").upper(),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "pushed").read_text().splitlines() == [published.published_image(variant)]
    assert (tmp_path / "output").read_text().splitlines() == [f"name={published.IMAGES}", "digest=sha256:2"]
    assert "EXPECT=sha256:1 " in (tmp_path / "calls").read_text().splitlines()[1], "compared before it is pushed"


def test_root_logs_in_to_the_registry_with_the_environment_with_which_it_pushes() -> None:
    """The place of a login depends on XDG_RUNTIME_DIR, which `sudo` alone takes away."""
    text = (REPOSITORY / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert re.findall(r"sudo (?:-E )?(?:buildah login|STORE=)", text) == [
        "sudo -E buildah login",
        "sudo -E STORE=",
        "sudo -E STORE=",
    ]


def test_every_benchmark_that_can_be_started_is_a_make_target() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    inside = {"image_inside"}  # started in a container by another one
    modules = {
        file.stem
        for file in (REPOSITORY / "tests" / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
    }
    assert [name for name in sorted(modules - inside) if f"tests.benchmarks.{name}" not in makefile] == []
