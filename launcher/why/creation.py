"""Why a container cannot be created or started on its node: its image, a Secret, a volume, another container. Pure."""

from __future__ import annotations

import re
from typing import Final

from .evidence import Container, Evidence, Explanation, Pod
from .known import Known


def not_created(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why a container cannot be created or started on its node."""
    if (missing := _missing(seen, words)) is not None:
        return missing
    for known in CREATION:
        if re.search(known.pattern, words):
            return Explanation(known.cause, f"{pod} cannot start: {known.meaning}", known.suggestion)
    return Explanation("container", f"{pod} cannot start: {' '.join(words.split())}", seen.look(pod))


CREATION: Final = (
    Known(
        r"exec format error|no match for platform",
        "architecture",
        "the image is built for another CPU architecture than the node's",
        "set kubernetes.io/arch in launch.kubernetes.node_selector, or build it on that architecture with: launcher build",
        'unable to start container process: exec: "/usr/bin/tini": exec format error: unknown',
    ),
    Known(
        r"unsatisfied condition: (?:cuda|driver|brand)",
        "gpu-driver",
        "the node's NVIDIA driver is too old for the image's CUDA",
        "choose nodes with a newer driver in launch.kubernetes.node_selector, or set launch.image to one with an older CUDA",
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver",
    ),
    Known(
        r"nvidia-container-cli|nvidia-container-runtime|libcuda|NVML|nvidia-smi|unresolvable CDI devices|no NVIDIA",
        "gpu-driver",
        "the node's NVIDIA driver or container toolkit does not work",
        "choose another node, or tell its administrator; on the node, run: nvidia-smi",
        "nvidia-container-cli: initialization error: nvml error: driver not loaded",
    ),
    Known(
        r"image has non-numeric user",
        "not-our-image",
        "the image names its user without a number, so the kubelet cannot tell that it is not root",
        "set launch.kubernetes.run_as to the user's number, or launch.image to an image made with: launcher build",
        "container has runAsNonRoot and image has non-numeric user (dpo), cannot verify user is non-root",
    ),
    Known(
        r"runAsNonRoot",
        "not-our-image",
        "the image runs as root, which the pod does not allow",
        "set launch.image to an image made with: launcher build",
        "container has runAsNonRoot and image will run as root",
    ),
    Known(
        r"executable file not found|exec: \"[^\"]+\"",
        "not-our-image",
        "the image lacks python or the trainer",
        "set launch.image to an image made with: launcher build",
        'unable to start container process: exec: "python": executable file not found in $PATH: unknown',
    ),
    Known(
        r"RuntimeClass|runtime handler|no runtime for",
        "runtime-class",
        "the node does not have the runtime class",
        "correct launch.kubernetes.runtime_class; list them with: kubectl get runtimeclass",
        'failed to get sandbox runtime: no runtime for "nvidia" is configured',
    ),
    Known(
        r"failed to setup network|networkPlugin|CNI|cni plugin",
        "network",
        "the node cannot set up its network",
        "wait: it is retried automatically; if it still fails, tell the cluster's administrator",
        'failed to setup network for sandbox: plugin type="calico" failed (add): error getting ClusterInformation',
    ),
    Known(
        r"context deadline exceeded|DeadlineExceeded",
        "node-slow",
        "timeout on the node",
        "wait: it is retried automatically",
        "context deadline exceeded",
    ),
)


def not_begun(pod: str, container: Container, *, is_over: bool = True) -> str:
    """How an init container ended before the run's own container started; ``is_over``: it is not restarted."""
    last = next((line.strip() for line in reversed(container.message.splitlines()) if line.strip()), "")
    did = f"its init container {container.init} ended with exit code {container.exit_code}"
    return f"{pod} {'did not' if is_over else 'cannot'} start: {did}" + (f": {last}" if last else "")


def of_init(seen: Evidence, pod: Pod, container: Container, *, is_over: bool) -> Explanation:
    """Why the run's own container did not start: the init ``container`` has failed."""
    look = f"see its log with: {seen.kubectl} logs {pod.name} -c {container.init}{'' if is_over else ' --previous'}"
    return Explanation("init", not_begun(pod.name, container, is_over=is_over), look)


def _missing(seen: Evidence, words: str) -> Explanation | None:
    """A missing Secret, ConfigMap or key."""
    if found := re.search(r'secret "([^"]+)" not found', words):
        return Explanation(
            "secret", f"secret {found[1]} not found in the namespace", "create it from .env with: launcher secrets push"
        )
    if found := re.search(r"references non-existent secret key: (\S+)", words):
        return Explanation(
            "secret", f"the run's secret has no key {found[1]}", f"add {found[1]} to .env, then run: launcher secrets push"
        )
    if found := re.search(r"couldn't find key (\S+) in Secret \S+?/(\S+)", words):
        return Explanation(
            "secret", f"secret {found[2]} has no key {found[1]}", f"add {found[1]} to .env, then run: launcher secrets push"
        )
    if found := re.search(r'configmap "([^"]+)" not found', words):
        return Explanation(
            "configmap", f"the run's ConfigMap {found[1]} was deleted", f"submit it again after: launcher stop {seen.run}"
        )
    if found := re.search(r"configmap references non-existent config key: (\S+)|couldn't find key (\S+) in ConfigMap", words):
        what = f"the run's ConfigMap has no key {found[1] or found[2]}"
        return Explanation("configmap", what, f"submit it again after: launcher stop {seen.run}")
    return None


def not_mounted(seen: Evidence, pod: str, words: str) -> Explanation:
    if (missing := _missing(seen, words)) is not None:
        return missing
    words = " ".join(words.split())
    if "Multi-Attach" in words:
        what = f"{pod} waits for a volume that only one node may mount, and another node has it"
        return Explanation("volume", what, "wait until the other pod ends, or use a claim with ReadWriteMany")
    if found := re.search(r'persistentvolumeclaim "([^"]+)" not found', words):
        return Explanation(
            "volume",
            f"{pod} waits for a claim: {found[1]} not found",
            "print how to create it with: launcher doctor --cluster",
        )
    if re.search(r"hostPath type check failed|does not exist", words):
        what = f"{pod} waits for a volume: its folder is missing on the node: {words}"
        return Explanation("volume", what, "create the folder on the node, writable for gid 10001 (see k8s/README.md)")
    return Explanation(
        "volume",
        f"{pod} waits for a volume: {words}",
        f"wait: it is retried automatically; see the claims with: {seen.kubectl} get pvc",
    )
