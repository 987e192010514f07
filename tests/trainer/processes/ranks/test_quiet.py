from __future__ import annotations

import logging
import warnings

import pytest

from trainer.processes.ranks.quiet import without_deprecations


def test_deprecations_inside_the_libraries_are_not_shown_and_those_of_the_caller_are(recwarn: pytest.WarningsRecorder) -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit(f"in {module}", FutureWarning, f"{module}.py", 1, module=module)

    with without_deprecations():
        warn("transformers.training_args")
        warn("notebook")
    warn("transformers.training_args")
    assert [str(one.message) for one in recwarn] == ["in notebook", "in transformers.training_args"]


def test_what_the_cpu_part_of_bitsandbytes_misses_is_not_shown_and_its_errors_are(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: No module named 'kernels'")
    logger.error("no library")
    assert caplog.messages == ["no library"]
