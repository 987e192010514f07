"""Environment variables of the caller that reach a run: one table for every backend, ``diff`` and the docs. Pure.

Backends deliver settings and addresses as environment variables, files as read-only mounts, and secrets as files.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ..errors import ExperimentError, Mistake
from ..redact import is_secret
from .schema import Experiment

_OLD_TOKEN: Final = "HUGGING_FACE_HUB_TOKEN"


class Kind(StrEnum):
    SETTING = "setting"
    ADDRESS = "address"  # a server's address; rejected if it contains a password
    PROXY = "proxy"  # a secret if it contains a password
    FILE = "file"
    SECRET = "secret"


class Variable(NamedTuple):
    """``use``: what needs it: hub, s3, sheets, or network (everything)."""

    name: str
    kind: Kind
    use: str


def _table(*rows: tuple[Kind, str, str]) -> Iterator[Variable]:
    for kind, use, names in rows:
        yield from (Variable(name, kind, use) for name in names.split())


VARIABLES: Final = tuple(
    _table(
        (Kind.SECRET, "hub", "HF_TOKEN HUGGING_FACE_HUB_TOKEN"),
        (Kind.ADDRESS, "hub", "HF_ENDPOINT"),
        (
            Kind.SETTING,
            "hub",
            "HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE HF_HUB_DISABLE_TELEMETRY DO_NOT_TRACK HF_HUB_DISABLE_XET "
            "HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT HF_HUB_DISABLE_IMPLICIT_TOKEN",
        ),
        (
            Kind.SECRET,
            "s3",
            "AWS_ACCESS_KEY AWS_SECRET_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN",
        ),
        (Kind.ADDRESS, "s3", "AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL_STS"),
        (
            Kind.SETTING,
            "s3",
            "AWS_REGION AWS_DEFAULT_REGION DPO_S3_ADDRESSING_STYLE AWS_USE_DUALSTACK_ENDPOINT AWS_USE_FIPS_ENDPOINT "
            "AWS_EC2_METADATA_DISABLED",
        ),
        (Kind.SECRET, "sheets", "GOOGLE_SHEETS_CLIENT_EMAIL GOOGLE_SHEETS_PRIVATE_KEY"),
        (Kind.ADDRESS, "sheets", "GOOGLE_SHEETS_API_URL GOOGLE_SHEETS_TOKEN_URL"),
        (Kind.PROXY, "network", "HTTPS_PROXY HTTP_PROXY ALL_PROXY https_proxy http_proxy all_proxy"),
        (Kind.SETTING, "network", "NO_PROXY no_proxy"),
        (Kind.FILE, "network", "AWS_CA_BUNDLE REQUESTS_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE"),
    )
)
# Read by this project itself; libraries read the others, only from the process's environment.
_READ_HERE: Final = frozenset(
    ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "DPO_S3_ADDRESSING_STYLE")
)
FOR_LIBRARIES: Final = tuple(
    one.name for one in VARIABLES if one.kind is not Kind.SECRET and one.use != "sheets" and one.name not in _READ_HERE
)
_OF_AWS: Final = ("AWS_CONTAINER_AUTHORIZATION_TOKEN",)  # belongs to a cloud role of this machine, which a container lacks


def settings(experiment: Experiment, caller: Mapping[str, str]) -> dict[str, str]:
    """Variables to pass on as environment variables. Raises ExperimentError for an address with a password."""
    check_addresses(experiment, caller)
    plain = (Kind.SETTING, Kind.ADDRESS, Kind.PROXY)
    found = {one.name: caller[one.name] for one in VARIABLES if one.kind in plain and caller.get(one.name)}
    return {name: value for name, value in found.items() if name.lower() == "no_proxy" or not has_password(value)}


def files(caller: Mapping[str, str]) -> dict[str, str]:
    """Variables that name a local file, which a container needs mounted."""
    return {one.name: caller[one.name] for one in VARIABLES if one.kind is Kind.FILE and caller.get(one.name)}


def secrets(experiment: Experiment, caller: Mapping[str, str], *, reads_sheets: bool = True) -> list[str]:
    """Names of the caller's secrets that the experiment may need.

    ``reads_sheets``: the run reads the spreadsheet itself, so the ranks need its key.
    """
    used = _uses(experiment) - (set() if reads_sheets else {"sheets"})
    needed = [one.name for one in VARIABLES if one.kind is Kind.SECRET and one.use in used and caller.get(one.name)]
    if "HF_TOKEN" in needed and _OLD_TOKEN in needed:  # the hub's client would ignore it
        needed.remove(_OLD_TOKEN)
    return needed + secret_proxies(caller)


def secret_proxies(caller: Mapping[str, str]) -> list[str]:
    """Names of proxy variables whose address contains a password."""
    return [one.name for one in VARIABLES if one.kind is Kind.PROXY and has_password(caller.get(one.name, ""))]


def not_needed(experiment: Experiment, caller: Mapping[str, str], named: Iterable[str]) -> list[str]:
    """Names of secrets in the caller's environment that the experiment does not need, except those in ``named``."""
    known = {one.name for one in VARIABLES if one.kind is not Kind.SECRET}
    aws = _OF_AWS if "s3" in _uses(experiment) else ()
    kept = {*known, *secrets(experiment, caller), *aws, *named}
    return sorted(name for name in caller if is_secret(name) and name not in kept)


def check_addresses(experiment: Experiment, caller: Mapping[str, str]) -> None:
    """Raises ExperimentError if the address of a server that the experiment needs contains a password."""
    wrong = [one.name for one in _servers(experiment) if has_password(caller.get(one.name, ""))]
    if wrong:
        raise ExperimentError(map(password_in, wrong))


def password_in(name: str) -> Mistake:
    """The mistake of a variable whose address contains a password."""
    use = next((one.use for one in VARIABLES if one.name == name), "s3")
    names = " and ".join(one.name for one in VARIABLES if one.kind is Kind.SECRET and one.use == use)
    hint = {"hub": "put a token into HF_TOKEN", "s3": "put AWS_ACCESS_KEY and AWS_SECRET_KEY into .env"}.get(use, f"use {names}")
    return Mistake(name, "contains a user name or a password", "an address without them", hint=hint)


def has_password(address: str) -> bool:
    """Whether an address has a user name or password before its host, with or without ``http://``."""
    return "@" in address.partition("?")[0]


def is_of_this_machine(address: str) -> bool:
    """Whether the address points to the machine that resolves it, such as localhost."""
    text = address if "://" in address else f"//{address}"
    try:
        host = (urlsplit(text).hostname or "").rstrip(".")
        return host == "localhost" or host.endswith(".localhost") or _is_loopback(host)
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    return found.is_loopback or found.is_unspecified


def local_addresses(experiment: Experiment, caller: Mapping[str, str]) -> dict[str, str]:
    """Variable or setting -> address of a server on this machine, which a container cannot reach under that name.

    Without those of spreadsheets, because the launcher copies their cells.
    """
    from ..network import shown  # imported here: it loads urllib's client

    asked = [one for one in _servers(experiment) if one.use != "sheets"]
    given = {one.name: caller.get(one.name, "") for one in (*asked, *(one for one in VARIABLES if one.kind is Kind.PROXY))}
    storage = experiment.storage_config
    if storage is not None and storage.endpoint_url is not None:
        given["storage_config.endpoint_url"] = storage.endpoint_url
    return {name: shown(address) for name, address in given.items() if is_of_this_machine(address)}


def _servers(experiment: Experiment) -> list[Variable]:
    """The variables with server addresses that the experiment needs and does not set itself."""
    used, storage = _uses(experiment), experiment.storage_config
    if storage is not None and storage.endpoint_url is not None:
        used.discard("s3")
    return [one for one in VARIABLES if one.kind is Kind.ADDRESS and one.use in used]


_PATHS: Final = ("/", "./", "../", "~", "s3://")  # paths that cannot be hub ids


def uses_s3(experiment: Experiment) -> bool:
    """Whether a run may read from or write to a bucket."""
    paths = (experiment.model_name, experiment.adapter, experiment.datasets_path, experiment.checkpoint_to)
    return experiment.storage_config is not None or any((path or "").startswith("s3://") for path in paths)


def _uses(experiment: Experiment) -> set[str]:
    # A relative path without "./" may also be a hub id.
    named = [name for name in (experiment.model_name, experiment.adapter) if name is not None]
    is_of_hub = any(not name.startswith(_PATHS) for name in named) or (experiment.datasets_path or "").startswith("hf://")
    used = {"hub"} if is_of_hub else set()
    if uses_s3(experiment):
        used.add("s3")
    if experiment.spreadsheet_id is not None:
        used.add("sheets")
    return used
