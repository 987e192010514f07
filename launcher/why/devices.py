"""Why a pod has no devices of Dynamic Resource Allocation: its claim, the template or the class of it is missing. Pure."""

from __future__ import annotations

import re
from typing import Final

from .evidence import Evidence, Explanation

NO_CLAIM: Final = "FailedResourceClaimCreation"  # event of a pod
_TEMPLATE: Final = re.compile(r'resource claim template "([^"]+)".*not found')
_CLASS: Final = re.compile(r"device class (\S+) does not exist")
_CLAIM: Final = re.compile(
    r'resourceclaim(?:\.resource\.k8s\.io)? "([^"]+)" not found|could not find v1\S* resourceclaim "(?:[^"/]+/)?([^"]+)"'
)
_NOT_YET: Final = "waiting for dynamic resource controller to create the resourceclaim"


def devices_missing(seen: Evidence, pod: str, words: str) -> Explanation | None:
    """What ``pod`` lacks to get devices, from the scheduler's message or an event; None if that is something else."""
    if found := _TEMPLATE.search(words):
        what = f"ResourceClaimTemplate {found[1]} not found in the namespace"
        return _waits(pod, what, _named("create it", seen, "resourceclaimtemplates"))
    if found := _CLASS.search(words):
        what = f"DeviceClass {found[1]} not found in the cluster"
        fix = "install the DRA driver that has it, or correct the claim; list them with: kubectl get deviceclasses"
        return _waits(pod, what, fix)
    if found := _CLAIM.search(words):
        what = f"ResourceClaim {found[1] or found[2]} not found in the namespace"
        return _waits(pod, what, _named("create it", seen, "resourceclaims"))
    if "resourceclaim in use" in words:
        fix = f"wait until other pods release it; see who has it with: {seen.kubectl} describe resourceclaims"
        return _waits(pod, "its ResourceClaim is in use by other pods", fix)
    if _NOT_YET in words:
        fix = f"wait; if it lasts, see: {seen.kubectl} describe resourceclaims"
        return _waits(pod, "its ResourceClaim is not created yet", fix)
    return None


def no_devices(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why the claim of ``pod`` was not created, from an event."""
    found = devices_missing(seen, pod, words)
    return found or _waits(pod, " ".join(words.split()), f"see: {seen.kubectl} get resourceclaims,resourceclaimtemplates")


def _waits(pod: str, what: str, fix: str) -> Explanation:
    return Explanation("devices", f"{pod} waits for devices: {what}", fix)


def _named(fix: str, seen: Evidence, plural: str) -> str:
    return f"{fix}, or correct resourceClaims in launch.kubernetes.pod; list them with: {seen.kubectl} get {plural}"
