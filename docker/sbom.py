"""A software bill of materials (CycloneDX 1.6 JSON) of an image's file system: ``python docker/sbom.py ROOT > sbom.json``.

Python packages are read from their METADATA, the system's from dpkg's status. One file system has one document: no time, no
serial number, everything sorted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from email.parser import HeaderParser
from importlib.metadata import Distribution
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name


def bill(root: Path) -> str:
    """The document of the file system below ``root``; raises FileNotFoundError where that is no Debian system."""
    components = sorted({*system_packages(root), *python_packages(root)}, key=lambda one: str(one.purl))
    return document(components)


def document(components: list[Component]) -> str:
    made = json.loads(JsonV1Dot6(Bom(components=components)).output_as_string())
    del made["serialNumber"], made["metadata"]["timestamp"]
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


def system_packages(root: Path) -> Iterator[Component]:
    """What dpkg has installed, from its status file (paragraphs of RFC 822 fields)."""
    release = dict(line.split("=", 1) for line in (root / "etc/os-release").read_text().splitlines() if "=" in line)
    distro = f"{release['ID']}-{release.get('VERSION_ID', '').strip(chr(34))}"
    for paragraph in (root / "var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            qualifiers = {"arch": fields["Architecture"], "distro": distro}
            purl = PackageURL("deb", release["ID"], name, version, qualifiers)
            yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=purl, bom_ref=str(purl))


def python_packages(root: Path) -> Iterator[Component]:
    """Every distribution below a site-packages or dist-packages folder."""
    for folder in sorted(root.glob("*/**/*.dist-info")):
        if folder.parent.name not in ("site-packages", "dist-packages"):
            continue
        metadata = Distribution.at(folder).metadata
        name, version = canonicalize_name(metadata["Name"]), metadata["Version"]
        purl = PackageURL("pypi", None, name, version)
        expression = metadata.get("License-Expression")
        licenses = [LicenseExpression(expression)] if expression else []
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=purl, bom_ref=str(purl), licenses=licenses)


if __name__ == "__main__":
    sys.stdout.write(bill(Path(sys.argv[1])))
