"""The certificates that a run trusts: the file of launch.ca_bundle, which takes the place of the public ones."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ...errors import ExperimentError, Mistake
from ...experiment.schema import Experiment
from ...runs.run_dir import expanded

SETTING: Final = "launch.ca_bundle"
# OpenSSL and Rust's clients, requests, botocore, curl; the hub's client reads the first one.
VARIABLES: Final = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def bundle_of(experiment: Experiment, cwd: Path) -> Path | None:
    """The file on this machine; None where the experiment names none."""
    given = experiment.launch.ca_bundle
    return None if given is None else cwd / expanded(given)


def trusting(path: str) -> Mapping[str, str]:
    """The variables that make every library of a run trust the certificates in ``path``."""
    return dict.fromkeys(VARIABLES, path)


def read_bundle(experiment: Experiment, cwd: Path) -> str | None:
    """The text of the file; None where the experiment names none.

    Raises ExperimentError for a file that cannot be read, has no certificate, or has a private key.
    """
    path = bundle_of(experiment, cwd)
    if path is None:
        return None
    expected = "a file of certificates in PEM form"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ExperimentError(Mistake(SETTING, f"{path} not found", expected)) from None
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "not text; convert DER with: openssl x509"
        raise ExperimentError(Mistake(SETTING, f"cannot read {path}: {why}", expected)) from None
    if "PRIVATE KEY-----" in text:
        raise ExperimentError(Mistake(SETTING, f"{path} contains a private key", "certificates alone"))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        raise ExperimentError(Mistake(SETTING, f"{path} contains no valid certificate", expected)) from None
    return text
