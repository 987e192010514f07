"""The `restricted` Pod Security Standard: what of a pod's spec it would refuse, in the words of the admission controller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
_SECCOMP = ("RuntimeDefault", "Localhost")


def violations(spec: Mapping[str, Any]) -> list[str]:
    """Each thing in a pod's ``spec`` that the standard, as of Kubernetes 1.31 to 1.36, does not allow."""
    containers = [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
        *(spec.get("ephemeralContainers") or []),
    ]
    found = list(_of_pod(spec))
    for container in containers:
        found += [f"{what} (container {container['name']!r})" for what in _of_container(spec, container)]
    return found


def _of_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"host namespaces: {name}=true"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            yield f"restricted volume types: volume {volume['name']!r} uses {', '.join(sorted(kinds - _VOLUMES))}"
    security = spec.get("securityContext") or {}
    for sysctl in security.get("sysctls") or []:
        if sysctl["name"] not in _SYSCTLS:
            yield f"forbidden sysctls: {sysctl['name']}"
    yield from _of_both(security)


def _of_container(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    pod, security = spec.get("securityContext") or {}, container.get("securityContext") or {}
    if security.get("privileged"):
        yield "privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation != false"
    capabilities = security.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []) or set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield "unrestricted capabilities"
    if security.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot != true"
    seccomp = (security.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type")
    if seccomp not in _SECCOMP:
        yield f"seccompProfile: {seccomp}"
    if security.get("procMount", "Default") != "Default":
        yield f"procMount: {security['procMount']}"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"hostPort: {port['hostPort']}"
    yield from _of_both(security)


def _of_both(security: Mapping[str, Any]) -> Iterator[str]:
    """What a pod and a container may say alike."""
    if security.get("runAsUser") == 0:
        yield "runAsUser=0"
    if security.get("runAsNonRoot") is False:
        yield "runAsNonRoot=false"
    if security.get("seLinuxOptions", {}).get("type") not in (None, "", "container_t", "container_init_t", "container_kvm_t"):
        yield f"seLinuxOptions: type {security['seLinuxOptions']['type']}"
    if security.get("appArmorProfile", {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        yield f"appArmorProfile: {security['appArmorProfile']['type']}"
    if (security.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"
