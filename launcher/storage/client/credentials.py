"""Credentials: AWS_ACCESS_KEY and AWS_SECRET_KEY, else the SDK's chain of variables, profiles, roles and web identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...errors import CredentialError
from ...experiment.schema import StorageConfig

NAMES: Final = "AWS_ACCESS_KEY and AWS_SECRET_KEY (or the AWS SDK's own names, a profile or a role)"
# Variables of the SDK's chain that .env may set (the SDK reads only the process's environment) -> the session's name for them.
_CHAIN: Final = {"AWS_PROFILE": "profile", "AWS_CONFIG_FILE": "config_file", "AWS_SHARED_CREDENTIALS_FILE": "credentials_file"}


def session_of(storage: StorageConfig | None, env: Mapping[str, str]) -> Any:
    """A session of boto3; raises CredentialError if half of a credential is set, and boto3's error for an unknown profile."""
    import boto3

    region = (storage.region if storage else None) or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None
    access, secret, token = _keys(env)
    return boto3.session.Session(
        aws_access_key_id=access,  # None leaves the choice to the chain
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=region,
        botocore_session=chain(env),
    )


def chain(env: Mapping[str, str]) -> Any:
    """A session of botocore with the profile and the files that ``env`` names."""
    import botocore.session

    inner = botocore.session.Session()
    for name, variable in _CHAIN.items():
        if env.get(name):
            inner.set_config_variable(variable, env[name])
    return inner


def _keys(env: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """(access key, secret key, session token): our names first, then the SDK's, which ``.env`` may set, too."""
    for access, secret, token in (
        ("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ):
        given = [name for name in (access, secret) if env.get(name)]
        if len(given) == 1:
            missing = secret if given == [access] else access
            raise CredentialError(f"{given[0]} is set and {missing} is not; set both or neither")
        if given:
            # Our names have no token: the one in the environment belongs to the SDK's names.
            is_its_own = access == "AWS_ACCESS_KEY_ID" or not env.get("AWS_ACCESS_KEY_ID")
            return env[access].strip(), env[secret].strip(), (env.get(token) or None) if is_its_own else None
    return None, None, None
