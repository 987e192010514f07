"""As whom pods run: the image's user, one of the experiment, or one that a namespace of OpenShift gives."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.backends.kubernetes.render.spec import KubernetesSpec
from tests.pod_security import violations
from tests.rendered import rendered

OPENSHIFT = {
    "openshift.io/sa.scc.uid-range": "1000650000/10000",
    "openshift.io/sa.scc.supplemental-groups": "1000650000/10000",
    "openshift.io/sa.scc.mcs": "s0:c26,c5",
}


def spec(run_as: Any, annotations: dict[str, str] | None) -> KubernetesSpec:
    return rendered({"gpus": 0, "kubernetes": {"run_as": run_as}}, annotations=annotations)


@pytest.mark.parametrize(
    ("run_as", "annotations", "uid"),
    [
        ("auto", None, 10001),
        ("auto", {}, 10001),
        ("auto", OPENSHIFT, None),
        ("auto", {"openshift.io/sa.scc.supplemental-groups": "1/2"}, None),
        ("image", OPENSHIFT, 10001),
        ("namespace", None, None),
        (5000, OPENSHIFT, 5000),
        (5000, None, 5000),
    ],
)
def test_the_user_is_the_one_that_the_namespace_allows(run_as: Any, annotations: dict[str, str] | None, uid: int | None) -> None:
    found = spec(run_as, annotations).pod["spec"]
    security = found["securityContext"]
    named = {name: security[name] for name in ("runAsUser", "runAsGroup", "fsGroup") if name in security}
    assert named == ({} if uid is None else dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), uid))
    assert violations(found) == []


def test_a_user_that_the_namespace_gives_is_told() -> None:
    (told,) = spec("auto", OPENSHIFT).notices
    assert told == "user: given by the namespace (1000650000/10000); the pods name none (launch.kubernetes.run_as: auto)"
    assert spec("image", OPENSHIFT).notices == ()
