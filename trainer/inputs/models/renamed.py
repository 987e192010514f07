"""Writes ``launcher/job/renamed_modules.json``: the families of causal models whose modules have other names than their weight
files, for a launcher that has no transformers.

python -m trainer.inputs.models.renamed            rewrite the file
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[3] / "launcher" / "job" / "renamed_modules.json"
_NO_MODULE = {"weight", "bias"}


def installed_renames() -> dict[str, Any]:
    """``{"transformers": version, "families": {model_type: {"names": …, "together": …}}}``.

    ``names``: parts of names that only a loaded model may have, with those that PEFT takes for the experts that transformers has
    fused. ``together``: groups of names that PEFT takes only together.
    """
    import transformers
    from peft.utils.transformers_weight_conversion import (
        _MODEL_TO_CONVERSION_PATTERN,
        _MOE_FUSED_TARGETS,
        _MOE_TARGET_MODULE_MAPPING,
    )
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    families = {}
    for family, classes in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()):
        names = (family, *((classes,) if isinstance(classes, str) else classes))
        changes = [change for name in names for change in get_checkpoint_conversion_mapping(name) or ()]
        words = {word for change in changes for text in change.target_patterns for word in re.findall(r"[A-Za-z_]\w*", text)}
        pattern = _MODEL_TO_CONVERSION_PATTERN.get(family)
        words |= set(_MOE_TARGET_MODULE_MAPPING.get(pattern, ()))
        if words:
            together = [list(names) for names in _MOE_FUSED_TARGETS.get(pattern, {}).values()]
            families[family] = {"names": sorted(words - _NO_MODULE), "together": together}
    return {"transformers": transformers.__version__, "families": families}


def text() -> str:
    """The file's whole content."""
    return json.dumps(installed_renames(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
