"""The words in which a field states where it has which effect; see ``effects``. Pure."""

from __future__ import annotations

from typing import Any, Final

BACKENDS: Final = ("host", "docker", "kubernetes")
PATHS: Final = ("fast", "plain")  # of the DPO step
NO_EFFECT: Final = "no effect"
EFFECTS: Final = "effects"  # the key of a field's ``json_schema_extra``; the JSON schema leaves it out


def on(**effects: str) -> dict[str, Any]:
    """For ``json_schema_extra``: what a key does on a backend or a path, by its name; a name that is left out adds nothing."""
    assert effects.keys() <= {*BACKENDS, *PATHS}, effects
    return {EFFECTS: effects}
