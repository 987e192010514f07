"""How a field states its effect on each backend and path; see ``effects``. Pure."""

from __future__ import annotations

from typing import Any, Final

BACKENDS: Final = ("host", "docker", "kubernetes")
PATHS: Final = ("fast", "plain")  # paths of the DPO step
NO_EFFECT: Final = "no effect"
EFFECTS: Final = "effects"  # key in ``json_schema_extra``, left out of the JSON schema


def on(**effects: str) -> dict[str, Any]:
    """Value for ``json_schema_extra``: backend or path -> what the key does there, if that differs from its meaning."""
    assert effects.keys() <= {*BACKENDS, *PATHS}, effects
    return {EFFECTS: effects}
