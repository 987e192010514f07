"""The CPU image with a torchrun that is played by ``tests/fakes``: the real entry in a real container, in a second."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parents[3] / "fakes"
DOCKERFILE = """\
FROM {image}
COPY fakes /opt/fakes
ENV PYTHONPATH=/opt/fakes:/opt/dpo-launcher
"""


@pytest.fixture(scope="session")
def fake_image(engine: Any, cpu_image: str) -> str:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        text = DOCKERFILE.format(image=cpu_image).encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
        tar.add(FAKES, "fakes", filter=lambda info: None if "__pycache__" in info.name else info)
    context.seek(0)
    image, _ = engine.images.build(fileobj=context, custom_context=True, tag="dpo-launcher-test:fakes", rm=True)
    return str(image.tags[0])
