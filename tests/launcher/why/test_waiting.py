"""What controllers, webhooks, Kueue and kubelets really say of pods that do not come about."""

from dataclasses import replace

import pytest

from launcher.why import Condition, Event, Evidence, explain
from tests.launcher.why.played import event, on_node, pending, seen, waits

REFUSALS = [
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: exceeded quota: compute-quota, requested: requests.nvidia.com/gpu=8, used: '
        "requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=8",
        "quota",
        "quota compute-quota is exceeded: requests.nvidia.com/gpu=8 requested, requests.nvidia.com/gpu=4 used, "
        "requests.nvidia.com/gpu=8 allowed",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: exceeded quota: mem-cpu-demo, requested: limits.cpu=800m,limits.memory=1Gi, '
        "used: limits.cpu=1800m,limits.memory=1056Mi, limited: limits.cpu=2,limits.memory=2Gi",
        "quota",
        "quota mem-cpu-demo is exceeded: limits.cpu=800m,limits.memory=1Gi requested, limits.cpu=1800m,limits.memory=1056Mi used, "
        "limits.cpu=2,limits.memory=2Gi allowed",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: failed quota: mem-cpu-demo: must specify limits.cpu for: trainer',
        "quota",
        "quota mem-cpu-demo only accepts pods that set limits.cpu for: trainer",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
        '(container "istio-init" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container '
        '"istio-init" must set securityContext.capabilities.drop=["ALL"])',
        "pod-security",
        "the namespace's Pod Security (restricted:latest) refuses the run's pods: allowPrivilegeEscalation != false (container "
        '"istio-init" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "istio-init" '
        'must set securityContext.capabilities.drop=["ALL"])',
    ),
    (
        'Error creating: pods "big-0-" is forbidden: unable to validate against any security context constraint: [provider "anyuid": '
        "Forbidden: not usable by user or serviceaccount, provider restricted-v2: .spec.securityContext.fsGroup: Invalid value: "
        "[]int64{10001}: 10001 is not an allowed group, provider restricted-v2: .containers[0].runAsUser: Invalid value: 10001: must "
        'be in the ranges: [1000680000, 1000689999], provider "privileged": Forbidden: not usable by user or serviceaccount]',
        "pod-security",
        "the security context constraints of OpenShift refuse the run's pods: provider restricted-v2: .spec.securityContext.fsGroup: "
        "Invalid value: []int64{10001}: 10001 is not an allowed group, provider restricted-v2: .containers[0].runAsUser: Invalid "
        "value: 10001: must be in the ranges: [1000680000, 1000689999]",
    ),
    (
        'Error creating: admission webhook "validation.gatekeeper.sh" denied the request: [ns-must-have-team] missing label: team',
        "admission",
        "admission webhook validation.gatekeeper.sh refuses the run's pods: [ns-must-have-team] missing label: team",
    ),
    (
        'Error creating: Internal error occurred: failed calling webhook "validate.kyverno.svc-fail": failed to call webhook: Post '
        '"https://kyverno-svc.kyverno.svc:443/validate/fail?timeout=10s": dial tcp 10.96.3.4:443: connect: connection refused',
        "admission",
        "the cluster cannot create pods: admission webhook validate.kyverno.svc-fail does not answer: failed to call webhook: Post "
        '"https://kyverno-svc.kyverno.svc:443/validate/fail?timeout=10s": dial tcp 10.96.3.4:443: connect: connection refused',
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: ValidatingAdmissionPolicy \'no-root\' with binding \'no-root-binding\' '
        "denied request: failed expression: object.spec.hostNetwork == false",
        "admission",
        "policy no-root refuses the run's pods: failed expression: object.spec.hostNetwork == false",
    ),
    (
        'Error creating: pods "big-0-" is forbidden: error looking up service account dpo/trainer: serviceaccount "trainer" not found',
        "service-account",
        "service account trainer not found in the namespace",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: maximum memory usage per Container is 4Gi, but limit is 64Gi',
        "limit-range",
        "the namespace's LimitRange refuses the run's pods: maximum memory usage per Container is 4Gi, but limit is 64Gi",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: cpu max limit to request ratio per Container is 1, but provided ratio is '
        "2.000000",
        "limit-range",
        "the namespace's LimitRange refuses the run's pods: cpu max limit to request ratio per Container is 1, but provided ratio is "
        "2.000000",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: [maximum cpu usage per Pod is 8, but limit is 32, cpu max limit to request '
        "ratio per Pod is 1, but provided ratio is 2.000000]",
        "limit-range",
        "the namespace's LimitRange refuses the run's pods: maximum cpu usage per Pod is 8, but limit is 32, cpu max limit to request "
        "ratio per Pod is 1, but provided ratio is 2.000000",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: unable to create new content in namespace dpo because it is being terminated',
        "namespace",
        "namespace dpo is being deleted, and takes no new objects",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [high]}]',
        "quota",
        "the cluster has no quota in this namespace for the run's pods: [{PriorityClass In [high]}]",
    ),
    (
        'Error creating: Pod "big-0-x7k2p" is invalid: spec.containers[0].resources.requests: Invalid value: "11Gi": must be less than '
        "or equal to ephemeral-storage limit of 10Gi",
        "limit-range",
        "the run's pods request 11Gi of ephemeral-storage, and their limit is 10Gi",
    ),
    (
        'Error creating: pods "big-0-" is forbidden: pod node label selector conflicts with its namespace node label selector',
        "admission",
        "the namespace chooses other nodes than the run's pods: pod node label selector conflicts with its namespace node label "
        "selector",
    ),
    (
        'Error creating: pods "big-0-" is forbidden: pod tolerations (possibly merged with namespace default tolerations) conflict with '
        "its namespace whitelist",
        "admission",
        "the namespace does not allow all taints that the run's pods tolerate: pod tolerations (possibly merged with namespace default "
        "tolerations) conflict with its namespace whitelist",
    ),
    (
        'Error creating: pods "big-0-x7k2p" is forbidden: no idea',
        "admission",
        "the cluster refuses the run's pods: no idea",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "cause", "sentence"), REFUSALS)
def test_pods_that_the_cluster_does_not_make_say_who_refuses_them(message, cause, sentence):
    found = explain(seen(events=(event("FailedCreate", message, "big", "Job"),)))
    assert (found.cause, found.sentence) == (cause, sentence)


def queued(*conditions: Condition, active: Condition | None = None) -> Evidence:
    return seen(queue="gpus", workload=conditions, local_queue=(active,) if active else (), is_suspended=True)


def no_quota(message: str, reason: str = "Pending") -> Condition:
    return Condition("QuotaReserved", False, reason, message)


KUEUE = [
    (
        queued(no_quota("couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor gpu-a100, 2 "
                        "more needed")),
        "kueue-waiting",
        "big waits in queue gpus: insufficient unused quota for nvidia.com/gpu in flavor gpu-a100, 2 more needed",
    ),
    (
        queued(no_quota("couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor a100, previously "
                        "considered podsets requests (0) + current podset request (16) > maximum capacity (8)")),
        "kueue-never",
        "big waits in queue gpus: insufficient quota for nvidia.com/gpu in flavor a100, previously considered podsets requests (0) + "
        "current podset request (16) > maximum capacity (8)",
    ),
    (
        queued(no_quota("couldn't assign flavors to pod set node: resource memory unavailable in ClusterQueue")),
        "kueue-never",
        "big waits in queue gpus: resource memory unavailable in ClusterQueue",
    ),
    (
        queued(no_quota("LocalQueue gpus doesn't exist", "Inadmissible")),
        "kueue-no-queue",
        "queue gpus not found in the namespace",
    ),
    (
        queued(no_quota("ClusterQueue cluster-queue is inactive", "Inadmissible")),
        "kueue-inactive",
        "queue gpus is inactive: ClusterQueue cluster-queue is inactive",
    ),
    (
        queued(no_quota("LocalQueue gpus is stopped", "Inadmissible")),
        "kueue-inactive",
        "queue gpus is inactive: LocalQueue gpus is stopped",
    ),
    (
        queued(active=Condition("Active", False, "ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue")),
        "kueue-inactive",
        "queue gpus is inactive: ClusterQueueIsInactive: Can't submit new workloads to clusterQueue",
    ),
    (
        queued(Condition("Evicted", True, "Preempted", "Preempted to accommodate a workload (UID: d34468c2, JobUID: UNKNOWN) due to "
                         "prioritization in the ClusterQueue"), no_quota("Preempted")),
        "kueue-evicted",
        "Kueue has evicted big (Preempted): Preempted to accommodate a workload (UID: d34468c2, JobUID: UNKNOWN) due to "
        "prioritization in the ClusterQueue",
    ),
    (
        queued(Condition("Evicted", True, "PodsReadyTimeout", "Exceeded the PodsReady timeout dpo/job-big-4f1a2")),
        "kueue-evicted",
        "Kueue has evicted big (PodsReadyTimeout): Exceeded the PodsReady timeout dpo/job-big-4f1a2",
    ),
    (
        queued(Condition("Evicted", True, "DeactivatedDueToRequeuingLimitExceeded", "The workload is deactivated due to exceeding the "
                         "maximum number of re-queuing retries")),
        "kueue-deactivated",
        "Kueue has deactivated big: The workload is deactivated due to exceeding the maximum number of re-queuing retries",
    ),
    (
        queued(Condition("QuotaReserved", True, "QuotaReserved", "Quota reserved in ClusterQueue cluster-queue"),
               Condition("Admitted", False, "NoChecks", "The workload has not all checks ready")),
        "kueue-check",
        "big waits in queue gpus for an admission check: The workload has not all checks ready",
    ),
    (queued(), "kueue-waiting", "big waits in queue gpus"),
]  # fmt: skip


@pytest.mark.parametrize(("evidence", "cause", "sentence"), KUEUE)
def test_a_run_in_a_queue_says_what_kueue_waits_for(evidence, cause, sentence):
    found = explain(evidence)
    assert (found.cause, found.sentence) == (cause, sentence)


@pytest.mark.parametrize("where", ["ClusterQueue", "any flavor"])
def test_a_resource_that_the_queue_does_not_cover_is_not_requested_less_of(where):
    said = f"couldn't assign flavors to pod set main: resource nvidia.com/gpu unavailable in {where}"
    found = explain(queued(no_quota(said)))
    assert found.cause == "kueue-never"
    assert found.suggestion == (
        "choose another --queue, or ask Kueue's administrator to cover nvidia.com/gpu in the queue's ClusterQueue"
    )


def test_a_run_that_kueue_has_admitted_is_explained_by_its_pods():
    admitted = (Condition("QuotaReserved", True), Condition("Admitted", True, "Admitted", "The workload is admitted"))
    found = explain(seen(queue="gpus", workload=admitted, pods=(pending("0/1 nodes are available: 1 Insufficient cpu."),)))
    assert found.cause == "unschedulable"


MOUNT = 'MountVolume.SetUp failed for volume "secrets" : '
NOT_CREATED = [
    (waits("CreateContainerConfigError", 'secret "dpo-secrets" not found'), (), "secret",
     "secret dpo-secrets not found in the namespace"),
    (waits("CreateContainerConfigError", "couldn't find key HF_TOKEN in Secret dpo/dpo-secrets"), (), "secret",
     "secret dpo-secrets has no key HF_TOKEN"),
    (waits("CreateContainerConfigError", 'configmap "big" not found'), (), "configmap", "the run's ConfigMap big was deleted"),
    (waits("CreateContainerConfigError", "container has runAsNonRoot and image has non-numeric user (dpo), cannot verify user is "
           "non-root"), (), "not-our-image", "big-0-x7k2p cannot start: the image names its user without a number, so the kubelet "
     "cannot tell that it is not root"),
    (waits("CreateContainerError", "failed to create containerd task: error running prestart hook #0: exit status 1, stderr: "
           "Auto-detected mode as 'legacy' nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update "
           "your driver to a newer version, or use an earlier cuda container: unknown"), (), "gpu-driver",
     "big-0-x7k2p cannot start: the node's NVIDIA driver is too old for the image's CUDA"),
    (waits("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"), (), "not-our-image",
     "big-0-x7k2p cannot start: the image runs as root, which the pod does not allow"),
    (on_node(), (MOUNT + 'secret "dpo-secrets" not found',), "secret", "secret dpo-secrets not found in the namespace"),
    (on_node(), (MOUNT + "references non-existent secret key: HF_TOKEN",), "secret", "the run's secret has no key HF_TOKEN"),
    (on_node(), ('MountVolume.SetUp failed for volume "config" : configmap "big" not found',), "configmap",
     "the run's ConfigMap big was deleted"),
    (on_node(), ('MountVolume.SetUp failed for volume "config" : configmap references non-existent config key: record.json',),
     "configmap", "the run's ConfigMap has no key record.json"),
    (on_node(), ('Multi-Attach error for volume "pvc-8f21" Volume is already exclusively attached to one node and can\'t be attached '
                 "to another",), "volume", "big-0-x7k2p waits for a volume that only one node may mount, and another node has it"),
    (on_node(), ('MountVolume.SetUp failed for volume "dpo-runs" : hostPath type check failed: /var/lib/dpo/runs is not a directory',
                 "Unable to attach or mount volumes: unmounted volumes=[runs], unattached volumes=[], failed to process volumes=[]: "
                 "timed out waiting for the condition"), "volume",
     'big-0-x7k2p waits for a volume: its folder is missing on the node: MountVolume.SetUp failed for volume "dpo-runs" : hostPath type '
     "check failed: /var/lib/dpo/runs is not a directory"),
    (on_node(), ('MountVolume.SetUp failed for volume "runs" : mount failed: exit status 32 mount.nfs: access denied by server',),
     "volume", 'big-0-x7k2p waits for a volume: MountVolume.SetUp failed for volume "runs" : mount failed: exit '
     "status 32 mount.nfs: access denied by server"),
    (waits("RunContainerError", 'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create '
           'failed: unable to start container process: exec: "/usr/bin/tini": exec format error: unknown'), (), "architecture",
     "big-0-x7k2p cannot start: the image is built for another CPU architecture than the node's"),
    (waits("CreateContainerError", "failed to create containerd task: OCI runtime create failed: runc create failed: unable to start "
           "container process: error during container init: error running hook #0: exit status 1, stderr: nvidia-container-cli: "
           "initialization error: nvml error: driver not loaded"), (), "gpu-driver",
     "big-0-x7k2p cannot start: the node's NVIDIA driver or container toolkit does not work"),
    (waits("RunContainerError", 'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create '
           'failed: unable to start container process: exec: "python": executable file not found in $PATH: unknown'), (),
     "not-our-image", "big-0-x7k2p cannot start: the image lacks python or the trainer"),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "mounts", "cause", "sentence"), NOT_CREATED)
def test_a_container_that_is_not_made_says_what_it_lacks(pod, mounts, cause, sentence):
    told = tuple(event("FailedAttachVolume" if "Multi-Attach" in text else "FailedMount", text) for text in mounts)
    found = explain(seen(pods=(pod,), events=told))
    assert (found.cause, found.sentence) == (cause, sentence)


def test_a_secret_that_is_missing_is_pushed():
    assert explain(seen(pods=(waits("CreateContainerConfigError", 'secret "dpo-secrets" not found'),))).suggestion == (
        "create it from .env with: launcher secrets push"
    )


def test_a_mount_that_timed_out_tells_less_than_why_it_did():
    why = Event("Pod", "big-0-x7k2p", "FailedMount", MOUNT + 'secret "dpo-secrets" not found', "2026-11-24T12:00:00Z")
    late = "Unable to attach or mount volumes: unmounted volumes=[secrets]: timed out waiting for the condition"
    after = Event("Pod", "big-0-x7k2p", "FailedMount", late, "2026-11-24T12:02:00Z")
    assert explain(seen(pods=(on_node(),), events=(why, after))).cause == "secret"
    assert explain(seen(pods=(on_node(),), events=(after,))).cause == "volume"


@pytest.mark.parametrize(
    ("kind", "suggestion"),
    [
        ("JobSet", "submit it again with --kind job, which needs no add-on, after: launcher stop big"),
        ("Job", "tell the cluster's administrator: its controller manager does not work"),
    ],
)
def test_an_object_that_nobody_works_on_is_said_after_a_minute(kind: str, suggestion: str) -> None:
    early = explain(seen(kind=kind, is_untouched=True, age=20.0, pods=()))
    assert early.sentence == "big is starting: it has no pods yet"
    late = explain(seen(kind=kind, is_untouched=True, age=130.0, pods=()))
    assert late.cause == "no-controller"
    assert late.sentence.startswith(f"big waits for a controller: nothing in the cluster has acted on its {kind} for 2 min")
    assert late.suggestion == suggestion
    assert explain(seen(kind=kind, age=130.0, pods=())).cause == "starting"


def test_kueue_that_says_nothing_is_said_after_a_minute() -> None:
    assert explain(replace(queued(), age=20.0)).sentence == "big waits in queue gpus"
    late = explain(replace(queued(), age=200.0))
    assert late.cause == "no-controller"
    assert late.sentence == (
        "big waits in queue gpus, but Kueue has said nothing about it for 3 min: its controller probably does not run"
    )
    assert "without --queue after: launcher stop big" in late.suggestion
    unseen = replace(queued(), age=200.0, unseen=("Kueue workloads: permission denied",))
    assert explain(unseen).cause == "kueue-waiting", "what may not be read is not silence"


def test_what_the_user_s_own_patch_adds_is_named_where_pod_security_refuses_the_pods():
    words = 'violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
    refused = event("FailedCreate", f'Error creating: pods "big-0-" is forbidden: {words}', "big", "Job")
    assert "launch.kubernetes.pod and volumes" in explain(seen(events=(refused,))).suggestion


FORBIDDEN = 'Error creating: pods "big-0-" is forbidden: '


@pytest.mark.parametrize(
    ("message", "suggestion"),
    [
        (
            "failed quota: q: must specify limits.cpu for: trainer; limits.memory for: trainer",
            "set launch.cpus and launch.memory",
        ),
        (
            "failed quota: q: must specify limits.ephemeral-storage for: trainer; requests.ephemeral-storage for: trainer",
            "set requests and limits of ephemeral-storage in launch.kubernetes.pod",
        ),
        (
            "failed quota: q: must specify limits.cpu for: istio-init,istio-proxy,trainer",
            "set the resources of istio-init, istio-proxy in launch.kubernetes.pod; if a webhook adds the container, ask the cluster's "
            "administrator to set them there",
        ),
        ("minimum cpu usage per Container is 4, but request is 2", "set launch.cpus within the range"),
        (
            "maximum ephemeral-storage usage per Pod is 5Gi, but limit is 11Gi",
            "set requests and limits of ephemeral-storage in launch.kubernetes.pod within the range",
        ),
        ("maximum nvidia.com/gpu usage per Container is 4, but limit is 8", "set --gpus within the range"),
    ],
)
def test_what_is_to_be_set_is_what_the_quota_or_the_range_is_about(message, suggestion):
    assert explain(seen(events=(event("FailedCreate", FORBIDDEN + message, "big", "Job"),))).suggestion == suggestion


def test_a_range_that_refuses_the_staging_pod_is_the_administrators():
    refused = event("FailedCreate", FORBIDDEN + "minimum cpu usage per Container is 4, but request is 500m", "dpo-stage", "Job")
    found = explain(seen(is_helper=True, events=(refused,)))
    assert found.suggestion == "ask the cluster's administrator to allow it: the size of this pod has no setting"


@pytest.mark.parametrize(
    ("said", "cause", "suggestion"),
    [
        (
            "Workload namespace doesn't match ClusterQueue selector",
            "kueue-never",
            "choose another --queue, or ask Kueue's administrator to let the queue's ClusterQueue take this namespace",
        ),
        (
            "resources didn't satisfy LimitRange constraints: spec.podSets[0].template.spec.containers[0]: Invalid value",
            "limit-range",
            "set launch.cpus and launch.memory within the namespace's LimitRange",
        ),
    ],
)
def test_what_no_waiting_mends_in_a_queue_is_not_waited_for(said, cause, suggestion):
    found = explain(queued(no_quota(said, "Inadmissible")))
    assert (found.cause, found.suggestion) == (cause, suggestion)
