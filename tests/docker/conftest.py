"""What the tests of the image share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def export():
    """Writes the file system of an image to a tar."""

    def exported(engine, image: str, archive: Path) -> Path:
        container = engine.containers.create(image, ["true"])
        try:
            with archive.open("wb") as file:
                file.writelines(container.export())
        finally:
            container.remove()
        return archive

    return exported


@pytest.fixture(scope="session")
def files_of_the_image(engine, cpu_image, export, tmp_path_factory) -> Path:
    """A tar of the CPU image's file system, which an engine takes some seconds to write."""
    return export(engine, cpu_image, tmp_path_factory.mktemp("image") / "files.tar")
