"""The file of launch.ca_bundle: what it may be, and who is pointed to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.backends.host import Host
from launcher.backends.spec.trust import read_bundle
from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from tests.cluster_api.certificates import served


def experiment(bundle: str, **launch: Any) -> Experiment:
    settings = {"ca_bundle": bundle, **launch}
    return Experiment.parse({"experiment_id": 1, "model_name": "m", "datasets_path": "d", "launch": settings})


def test_a_file_of_certificates_is_read_as_it_is(tmp_path: Path) -> None:
    _, authority = served(tmp_path)
    two = tmp_path / "two.pem"
    two.write_text("our own\n" + authority.read_text() * 2)
    assert read_bundle(experiment("two.pem"), tmp_path) == two.read_text()
    none = Experiment.parse({"experiment_id": 1, "model_name": "m", "datasets_path": "d"})
    assert read_bundle(none, tmp_path) is None


def test_what_is_no_file_of_certificates_is_refused(tmp_path: Path) -> None:
    served(tmp_path)
    (tmp_path / "text.pem").write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    (tmp_path / "binary.der").write_bytes(b"\x30\x82\xff")
    words = {
        "missing.pem": "missing.pem not found",
        "text.pem": "text.pem contains no valid certificate",
        "server.pem": "server.pem contains a private key",
        "binary.der": "binary.der: not text; convert DER with: openssl x509",
    }
    for name, why in words.items():
        with pytest.raises(ExperimentError, match=rf"^launch.ca_bundle: .*{why}"):
            read_bundle(experiment(name), tmp_path)


def test_a_run_on_the_host_is_pointed_to_it_unless_it_names_another_file(tmp_path: Path) -> None:
    asked = experiment("team.pem", gpus=0, env={"CURL_CA_BUNDLE": "/mine.pem"})
    host = Host(tmp_path, "python", 1, {"SSL_CERT_FILE": "/theirs.pem"})
    env = host.render(plan(asked, run="x", key="demo", gpus_there=0)).env
    names = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
    assert [env[name] for name in names] == [str(tmp_path / "team.pem")] * 3 + ["/mine.pem"]
