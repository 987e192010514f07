from __future__ import annotations

import warnings

import pytest

from trainer.processes.quiet import without_deprecations


def test_deprecations_inside_the_libraries_are_not_shown_and_those_of_the_caller_are(recwarn: pytest.WarningsRecorder) -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit(f"in {module}", FutureWarning, f"{module}.py", 1, module=module)

    with without_deprecations():
        warn("transformers.training_args")
        warn("notebook")
    warn("transformers.training_args")
    assert [str(one.message) for one in recwarn] == ["in notebook", "in transformers.training_args"]
