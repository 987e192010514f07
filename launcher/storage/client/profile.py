"""The active AWS profile as variables, because a container has no ``~/.aws``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...experiment.schema import Experiment
from ...experiment.variables import uses_s3


def with_profile(experiment: Experiment, env: Mapping[str, str]) -> tuple[Mapping[str, str], bool]:
    """``env`` with the profile's settings for S3, and whether its keys are only in the profile, where no container finds them.

    ``env`` itself wins. A profile that does not exist has no settings; what opens a store says so.
    """
    if not uses_s3(experiment):
        return env, False
    keys = any(env.get(name) for name in ("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID"))
    has_keys = bool(env.get("AWS_PROFILE")) or _file(env, "AWS_SHARED_CREDENTIALS_FILE", "credentials").is_file()
    named = dict(_variables(env)) if _file(env, "AWS_CONFIG_FILE", "config").is_file() else {}
    return {**named, **env}, has_keys and not keys


def _variables(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    from botocore.exceptions import BotoCoreError

    from .credentials import chain

    try:
        session = chain(env)
        profile, services = session.get_scoped_config(), session.full_config.get("services", {})
    except BotoCoreError:
        return
    s3: Mapping[str, Any] = profile["s3"] if isinstance(profile.get("s3"), dict) else {}
    own: Any = services.get(profile.get("services"), {}).get("s3", {})
    endpoint = own.get("endpoint_url") or profile.get("endpoint_url")
    found = {
        "AWS_REGION": None if env.get("AWS_DEFAULT_REGION") else profile.get("region"),
        "AWS_ENDPOINT_URL_S3": None if env.get("AWS_ENDPOINT_URL") else endpoint,
        "DPO_S3_ADDRESSING_STYLE": s3.get("addressing_style"),
        "AWS_USE_DUALSTACK_ENDPOINT": s3.get("use_dualstack_endpoint") or profile.get("use_dualstack_endpoint"),
        "AWS_CA_BUNDLE": profile.get("ca_bundle"),
        "AWS_USE_FIPS_ENDPOINT": profile.get("use_fips_endpoint"),
    }
    yield from ((name, str(value)) for name, value in found.items() if value)


def _file(env: Mapping[str, str], name: str, default: str) -> Path:
    return Path(env.get(name) or Path(env.get("HOME") or Path.home(), ".aws", default)).expanduser()
