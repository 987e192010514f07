"""The examples of k8s/examples/pods: each is rendered, and its objects are valid in every version that is supported."""

from __future__ import annotations

from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from launcher.backends.kubernetes.render.spec import KubernetesSpec
from launcher.launch.rendered import Choice, rendered_for_cluster
from tests.k8s.built import REPOSITORY
from tests.pod_security import violations

EXAMPLES = REPOSITORY / "k8s" / "examples" / "pods"
NAMES = sorted(file.stem for file in EXAMPLES.glob("*.yml"))
VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")


@cache
def spec(name: str) -> KubernetesSpec:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        found = rendered_for_cluster(Choice(name, run_name=name, file=EXAMPLES / f"{name}.yml")).spec
    assert isinstance(found, KubernetesSpec)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_valid_in_every_version_that_is_supported(name: str) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(spec(name).owner, version, strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_how_it_is_submitted(name: str) -> None:
    assert f"launcher submit {name} -f k8s/examples/pods/{name}.yml" in (EXAMPLES / f"{name}.yml").read_text()


WANTED: dict[str, Any] = {
    "affinity": lambda pod, trainer: pod["priorityClassName"] == "batch-low" and len(pod["affinity"]) == 2,
    "scheduler": lambda pod, trainer: pod["schedulerName"] == "volcano",
    "rdma": lambda pod, trainer: trainer["resources"]["limits"]["rdma/hca_shared_devices_a"] == 1,
    "host-network": lambda pod, trainer: (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet"),
    "topology": lambda pod, trainer: trainer["resources"]["limits"]["nvidia.com/gpu"] == "8",
    "dra": lambda pod, trainer: trainer["resources"]["claims"] == [{"name": pod["resourceClaims"][0]["name"]}],
    "mig": lambda pod, trainer: trainer["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == "1",
}
REFUSED = {
    "rdma": ["unrestricted capabilities (container 'trainer')"],
    "host-network": ["host namespaces: hostNetwork=true"],
    "mig": ["restricted volume types: volume 'corpus' uses nfs"],
}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_shows_what_it_is_for_and_the_run_tells_what_the_restricted_standard_refuses(name: str) -> None:
    pod = spec(name).pod["spec"]
    assert WANTED[name](pod, spec(name).container)
    assert violations(pod) == REFUSED.get(name, [])
    assert any("restricted Pod Security Standard" in one for one in spec(name).notices) == (name in REFUSED)


def test_the_topology_is_asked_of_kueue_by_the_pods() -> None:
    found = spec("topology")
    assert found.pod["metadata"]["annotations"]["kueue.x-k8s.io/podset-required-topology"] == "cloud.provider.com/topology-rack"
    assert found.owner["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert any(one.startswith("network: the 2 nodes exchange gradients over plain TCP") for one in found.notices)


@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
def test_the_template_of_claims_is_valid_where_it_is_served(version: str) -> None:
    template = yaml.safe_load((EXAMPLES / "dra-template.yaml").read_text())
    kubernetes_validate.validate(template, version, strict=True)
    assert spec("dra").pod["spec"]["resourceClaims"][0]["resourceClaimTemplateName"] == template["metadata"]["name"]
