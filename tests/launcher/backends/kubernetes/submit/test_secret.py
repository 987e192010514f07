"""The Secret of runs is made of the caller's values, which are seen nowhere else."""

from __future__ import annotations

import base64

import pytest

from launcher.backends.kubernetes.api.cluster import ApiError, Cluster
from launcher.backends.kubernetes.submit.secret import chosen, push
from tests.cluster_api import ClusterApi

TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture
def cluster(cluster_api: ClusterApi) -> Cluster:
    return Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})


def held(api: ClusterApi) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in api.objects.get("secrets", "dpo-secrets")["data"].items()}


def test_the_usual_ones_and_those_that_are_named() -> None:
    proxies = {"HTTPS_PROXY": "http://me:hush@proxy:1", "http_proxy": "http://proxy:1"}
    caller = {"HF_TOKEN": "h", "AWS_ACCESS_KEY": "", "PATH": "/bin", "LOGIN": "l", "OTHER_TOKEN": "o", **proxies}
    expected = {"HF_TOKEN": "h", "LOGIN": "l", "HTTPS_PROXY": "http://me:hush@proxy:1"}
    assert chosen(caller, ["LOGIN", "MISSING"]) == expected, "and a proxy with a password"


def test_a_secret_is_made_and_brought_up_to_date(cluster_api: ClusterApi, cluster: Cluster) -> None:
    first = push(cluster, "default", "dpo-secrets", {"HF_TOKEN": TOKEN, "LOGIN": "x"}, dry_run=False)
    assert (first.new, first.changed, first.same, first.others, first.is_created) == (("HF_TOKEN", "LOGIN"), (), (), (), True)
    second = push(cluster, "default", "dpo-secrets", {"HF_TOKEN": TOKEN, "WANDB": "w"}, dry_run=False)
    assert (second.new, second.changed, second.same, second.others) == (("WANDB",), (), ("HF_TOKEN",), ("LOGIN",))
    third = push(cluster, "default", "dpo-secrets", {"LOGIN": "y"}, dry_run=False)
    assert (third.changed, third.is_created) == (("LOGIN",), False)
    assert held(cluster_api) == {"HF_TOKEN": TOKEN, "LOGIN": "y", "WANDB": "w"}
    labels = cluster_api.objects.get("secrets", "dpo-secrets")["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/managed-by": "dpo-launcher"}


def test_a_secret_that_a_colleague_has_made_meanwhile_gets_the_values_too(cluster_api: ClusterApi, cluster: Cluster) -> None:
    push(cluster, "default", "dpo-secrets", {"LOGIN": "x"}, dry_run=False)
    cluster_api.fail(404, "secrets/dpo-secrets", method="GET", message="not found yet", reason="NotFound")
    push(cluster, "default", "dpo-secrets", {"HF_TOKEN": TOKEN}, dry_run=False)
    assert held(cluster_api) == {"HF_TOKEN": TOKEN, "LOGIN": "x"}


def test_a_trial_changes_nothing(cluster_api: ClusterApi, cluster: Cluster) -> None:
    assert push(cluster, "default", "dpo-secrets", {"HF_TOKEN": TOKEN}, dry_run=True).new == ("HF_TOKEN",)
    assert cluster_api.objects.names("secrets") == []
    push(cluster, "default", "dpo-secrets", {"HF_TOKEN": TOKEN}, dry_run=False)
    assert push(cluster, "default", "dpo-secrets", {"HF_TOKEN": TOKEN[::-1]}, dry_run=True).changed == ("HF_TOKEN",)
    assert held(cluster_api) == {"HF_TOKEN": TOKEN}


def test_lines_of_a_key_arrive_as_they_are(cluster_api: ClusterApi, cluster: Cluster) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nabc\\n=\n-----END PRIVATE KEY-----\n"
    push(cluster, "default", "dpo-secrets", {"GOOGLE_SHEETS_PRIVATE_KEY": key}, dry_run=False)
    assert held(cluster_api) == {"GOOGLE_SHEETS_PRIVATE_KEY": key}


def test_a_server_that_repeats_what_it_was_sent_does_not_show_it(cluster_api: ClusterApi, cluster: Cluster) -> None:
    encoded = base64.b64encode(TOKEN.encode()).decode()
    for words in (TOKEN, encoded):
        cluster_api.fail(422, "secrets", method="POST", message=f"Secret is invalid: {words}", reason="Invalid")
        with pytest.raises(ApiError) as caught:
            push(cluster, "default", "dpo-secrets", {"LOGIN": TOKEN}, dry_run=False)
        assert "Secret is invalid" in str(caught.value)
        assert words not in str(caught.value)


def test_no_value_is_part_of_an_address(cluster_api: ClusterApi, cluster: Cluster) -> None:
    push(cluster, "default", "dpo-secrets", {"LOGIN": TOKEN}, dry_run=False)
    asked = [f"{one.path} {one.query}" for one in cluster_api.requests]
    assert not [one for one in asked if TOKEN in one or base64.b64encode(TOKEN.encode()).decode() in one]
