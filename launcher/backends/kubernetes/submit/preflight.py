"""The preflight checks: everything that would keep a run from starting on a cluster, with its fix. Pure; ``facts`` asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ....errors import LauncherError, Mistake, UnreachableError, Warned
from ....job.image import NAME
from ....published import with_manifests
from ....redact import REDACTOR
from ....why.namespace import MADE, OLDEST, TESTED, minor_of
from ..follow.run import ClusterRun
from ..render.kinds import TRAINJOB
from ..render.names import LONGEST, host_name, longest_suffix
from ..render.spec import KubernetesSpec
from .capacity import requests, tolerable, unfit
from .claims import APPLY, roles_of, users_of, wrong_claims
from .facts import Facts, is_of_one_node
from .probes import Tried, explained
from .quotas import wrong_quotas
from .trainer import wrong_trainer

_READER: Final = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
# Containers that webhooks are known to add -> what keeps them out.
_INJECTED: Final = {
    "istio-proxy": 'launch.kubernetes.labels: {sidecar.istio.io/inject: "false"}',
    "linkerd-proxy": "launch.kubernetes.annotations: {linkerd.io/inject: disabled}",
    "vault-agent": 'launch.kubernetes.annotations: {vault.hashicorp.com/agent-inject: "false"}',
}


class NotReady(LauncherError):
    """The cluster, or what is sent there, is not ready for a run; ``findings`` are all reasons, which ``may_pass`` by waiting."""

    def __init__(self, findings: Sequence[Mistake], *, may_pass: bool = False):
        self.findings = tuple(findings)
        if may_pass:
            self.exit_code = UnreachableError.exit_code
        super().__init__("\n".join(map(str, findings)))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(REDACTOR.text(str(one)) for one in self.findings)


@dataclass(frozen=True)
class Preflight:
    """``findings`` keep the run from starting; ``notices`` are worth a look, and warn of what could not be checked."""

    findings: tuple[Mistake, ...]
    notices: tuple[str, ...]

    def check(self) -> None:
        """Raises NotReady if there are findings."""
        if self.findings:
            raise NotReady(self.findings)


def preflight(
    spec: KubernetesSpec, facts: Facts, *, namespace: str, can_push: bool, is_named: bool, is_verified: bool = False
) -> Preflight:
    """``can_push``: a registry for images of this machine is given; ``is_named``: the user chose the run's name; ``is_verified``:
    the image will be named by the digest whose signature is verified next."""
    findings = [
        *_earlier(spec, facts, is_named),
        *_version(facts),
        *_namespace(facts, namespace),
        *_permissions(facts, namespace),
        *_kinds(spec, facts, namespace),
        *_pod(spec, facts, namespace, is_named_later=is_verified or is_pushed(spec.image.reference, facts, can_push)),
        *wrong_claims(spec, facts, namespace),
        *_secret(spec, facts, namespace),
        *wrong_quotas(spec, facts),
        *_nodes(spec, facts),
        *_image(spec, facts, can_push),
        *_names(spec),
    ]
    return Preflight(tuple(findings), tuple(_notices(spec, facts)))


def _earlier(spec: KubernetesSpec, facts: Facts, is_named: bool) -> Iterator[Mistake]:
    for obj in facts.earlier:
        run = ClusterRun.of(obj)
        if run.name == spec.run or run.job == spec.job:
            again = f"resume it with: launcher resume {run.name}; or choose another --name"
            hint = again if is_named else "submit again: the run gets a new name"
            yield Mistake(f"--name {spec.run}", f"a run with this name already exists ({run.kind} {run.job})", hint=hint)
            return


def _version(facts: Facts) -> Iterator[Mistake]:
    minor = minor_of(facts.version.found or {})
    if 0 < minor < OLDEST:
        what = f"1.{minor} ignores podReplacementPolicy: a restarted pod would run beside the one that is still ending"
        yield Mistake("Kubernetes", what, f"1.{OLDEST} or newer (tested: 1.{TESTED[0]} to 1.{TESTED[1]})")


def _namespace(facts: Facts, namespace: str) -> Iterator[Mistake]:
    if facts.namespace.found is None and facts.namespace.unseen is None:
        yield Mistake(
            f"namespace {namespace}",
            "not found",
            hint=f"create the namespace {MADE} with: {with_manifests(APPLY)}; or choose another --namespace",
        )


def _permissions(facts: Facts, namespace: str) -> Iterator[Mistake]:
    for permission, verbs in facts.denied.items():
        named = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
        what = f"permission denied: {', '.join(verbs)} {named} (needed by {permission.needed_by})"
        hint = "ask the cluster's administrator for the Role in k8s/base/access.yaml, or choose another --namespace"
        yield Mistake(f"namespace {namespace}", what, hint=hint)


def _kinds(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    if spec.kind == "JobSet" and not facts.has_jobset:
        yield Mistake("--kind jobset", "JobSet is not installed in the cluster", hint="use --kind job, which needs no add-on")
    elif spec.kind == "JobSet" and facts.jobset_works is False:
        what = "JobSet's CRD is installed, but its controller is probably down: its webhook did not answer a dry run"
        yield Mistake("--kind jobset", what, hint="use --kind job, which needs no add-on")
    if spec.kind == TRAINJOB.name:
        yield from wrong_trainer(facts.trainer, namespace)
    if spec.queue is None:
        return
    if not facts.has_kueue:
        yield Mistake("launch.kubernetes.queue", "Kueue is not installed in the cluster", "no queue", spec.queue)
    elif facts.queue.found is None and facts.queue.unseen is None:
        hint = f"list the queues with: kubectl -n {namespace} get localqueues"
        yield Mistake("launch.kubernetes.queue", f"LocalQueue {spec.queue} not found in namespace {namespace}", hint=hint)
    elif facts.queue.found is not None:
        conditions = (facts.queue.found.get("status") or {}).get("conditions") or []
        inactive = next((one for one in conditions if one["type"] == "Active" and one["status"] == "False"), None)
        if inactive is not None:
            what = f"LocalQueue {spec.queue} is inactive: {inactive.get('message') or inactive.get('reason')}"
            yield Mistake("launch.kubernetes.queue", what, hint="ask the cluster's administrator, or choose another --queue")
    if facts.has_kueue and facts.kueue_works is False:
        what = (
            "Kueue's CRDs are installed, but its controller is probably down: it did not suspend a Job of the queue in a dry run"
        )
        hint = "submit without --queue, or ask the cluster's administrator (Kueue may also leave this namespace alone)"
        yield Mistake("launch.kubernetes.queue", what, hint=hint)


def _pod(spec: KubernetesSpec, facts: Facts, namespace: str, *, is_named_later: bool) -> Iterator[Mistake]:
    """Why the server would refuse the pods. It accepts their Job before it checks them. ``is_named_later``: the image gets its
    digest after the checks, see ``of_named``."""
    why = explained(facts.pod, spec.run, namespace)
    is_full = "exceeded quota: " in (facts.pod.refused or "")
    if why is None or (is_full and facts.quotas.unseen is None):  # which is judged for all pods together
        return
    if why.cause == "admission" and is_named_later:
        return
    yield Mistake("pod", why.sentence, hint=why.suggestion)


def of_named(spec: KubernetesSpec, tried: Tried, namespace: str) -> Preflight:
    """The same where the image was pushed or verified since: policies judge registries and digests, which it has only now."""
    why = explained(tried, spec.run, namespace)
    refused = [] if why is None or why.cause != "admission" else [Mistake("pod", why.sentence, hint=why.suggestion)]
    return Preflight(tuple(refused), ())


def _secret(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    if not spec.secret_keys or facts.secret.unseen is not None:
        return
    hint = f"launcher secrets push --namespace {namespace}" + ("" if spec.secret == "dpo-secrets" else f" --name {spec.secret}")
    if facts.secret.found is None:
        yield Mistake(f"secret {spec.secret}", f"not found; the run reads {', '.join(spec.secret_keys)} from it", hint=hint)
        return
    missing = [key for key in spec.secret_keys if key not in (facts.secret.found.get("data") or {})]
    if missing:
        yield Mistake(f"secret {spec.secret}", f"has no key {', '.join(missing)}", hint=hint)


def _nodes(spec: KubernetesSpec, facts: Facts) -> Iterator[Mistake]:
    if facts.nodes.found is None:
        return
    why = unfit(facts.nodes.found, spec.pod["spec"])
    if why is not None:
        hint = "request less (--gpus, launch.memory, launch.cpus)"
        if taints := tolerable(facts.nodes.found, spec.pod["spec"]):
            those = ", ".join(f"{{key: {key}, operator: Exists}}" for key in taints)
            hint = f"if you may use the tainted nodes, set launch.kubernetes.tolerations: [{those}]; or {hint}"
        if "ephemeral-storage (" in why:
            hint += "; lower the request of ephemeral-storage in launch.kubernetes.pod, or remove it with its limit (null)"
        hint += "; if an autoscaler adds nodes, submit with --anyway"
        yield Mistake("nodes", f"no node fits a pod of the run: {why}", hint=hint)


def _image(spec: KubernetesSpec, facts: Facts, can_push: bool) -> Iterator[Mistake]:
    reference = spec.image.reference
    if facts.nodes.found is None or not is_local(reference) or can_push or on_a_node(reference, facts):
        return
    variant = spec.image.variant
    if spec.image.build is None:
        hint = "set launch.image to an image in a registry, e.g. registry.example.com/team/dpo-launcher@sha256:…"
    else:
        build = f"launcher build --variant {variant} --push --registry registry.example.com/team"
        hint = f"submit with --registry registry.example.com/team, or first run: {build}"
    yield Mistake("image", f"{reference} exists only on this machine; the cluster cannot pull it", hint=hint)


def is_local(reference: str) -> bool:
    """Whether only this machine can have the image: its reference is an image id, or our own name without a registry."""
    return reference.startswith("sha256:") or bool(re.fullmatch(rf"{re.escape(NAME)}(:[\w.-]+)?", reference))


def is_pushed(reference: str, facts: Facts, can_push: bool) -> bool:
    """Whether the image is pushed before the run is created; ``can_push``: a registry is given."""
    return can_push and is_local(reference) and not on_a_node(reference, facts)


def on_a_node(reference: str, facts: Facts) -> bool:
    """Whether a node has the image, loaded by hand, e.g. on a workstation."""
    names = {
        name for node in facts.nodes.found or [] for one in node["status"].get("images") or [] for name in one.get("names") or []
    }
    return bool(names & {reference, f"docker.io/library/{reference}", f"docker.io/{reference}", f"localhost/{reference}"})


def _names(spec: KubernetesSpec) -> Iterator[Mistake]:
    longest = spec.job + longest_suffix(spec.kind, spec.nodes)
    if len(longest) > LONGEST or len(host_name(spec.job, spec.kind, spec.nodes - 1)) > LONGEST:
        yield Mistake(
            "--name",
            f"gives an object name of {len(longest)} characters: {longest}",
            f"at most {LONGEST}",
            hint="choose a shorter name",
        )


def _notices(spec: KubernetesSpec, facts: Facts) -> Iterator[str]:
    unseen = {f"claim {name}": answer for name, answer in facts.claims.items()}
    if spec.secret_keys:
        unseen[f"secret {spec.secret} with {', '.join(spec.secret_keys)}"] = facts.secret
    unseen |= {"quotas": facts.quotas, "nodes": facts.nodes}
    if spec.queue is not None:
        unseen[f"queue {spec.queue}"] = facts.queue
    for what, answer in unseen.items():
        if answer.unseen is not None:
            yield Warned(f"{what} not checked: {answer.unseen}")
    if OLDEST <= (minor := minor_of(facts.version.found or {})) < TESTED[0]:
        yield Warned(f"Kubernetes 1.{minor} is older than the tested 1.{TESTED[0]} to 1.{TESTED[1]}")
    if facts.nodes.found is None and is_local(spec.image.reference):
        brought = "it starts only if the nodes already have this image (else submit with --registry)"
        yield Warned(f"image {spec.image.reference} is in no registry: {brought}")
    if facts.pod.unseen is not None and {"serviceAccountName", "runtimeClassName"} & spec.pod["spec"].keys():
        yield Warned(f"service account and RuntimeClass not checked: {facts.pod.unseen}")
    if facts.jobset_works is False and spec.kind == "Job" and spec.nodes > 1:
        yield "using a plain Job: JobSet's controller is probably down (its webhook did not answer)"
    if facts.pod.changed:
        yield Warned(f"the cluster changes the pods (a webhook or a LimitRange): {'; '.join(facts.pod.changed)}")
    yield from _beside(facts)
    yield from _uncovered(spec, facts)
    if facts.nodes.found == []:
        yield "the cluster has no nodes yet; the run waits for one"
    for name, roles in roles_of(spec).items():
        if "runs" not in roles or not is_of_one_node(facts.claims[name].found):
            continue
        for pod in users_of(name, facts):
            node = pod["spec"].get("nodeName")
            if node and _READER.items() <= (pod["metadata"].get("labels") or {}).items():
                reader = pod["metadata"]["name"]
                yield f"claim {name} can only be mounted on one node; the run must be on {node}, where {reader} uses it"


def _uncovered(spec: KubernetesSpec, facts: Facts) -> Iterator[str]:
    """Resources that the flavors of the queue do not have. Kueue lists all that they have, also what nothing uses."""
    flavors = ((facts.queue.found or {}).get("status") or {}).get("flavorsReservation") or []
    covered = {one["name"] for flavor in flavors for one in flavor.get("resources") or []}
    missing = [name for name, wanted in requests(spec.pod["spec"]).items() if wanted and name not in covered]
    if covered and missing:
        yield Warned(
            f"queue {spec.queue} covers {', '.join(sorted(covered))}, and the pods also request {', '.join(sorted(missing))}: "
            "Kueue admits them only if its configuration excludes or transforms that"
        )


def _beside(facts: Facts) -> Iterator[str]:
    """Containers of a service mesh or an agent, which end with nobody."""
    for name in facts.pod.added:
        known = _INJECTED.get(name)
        out = f"keep it out with {known}" if known is not None else "ask the cluster's administrator how to keep it out"
        yield Warned(
            f"the cluster adds the container {name} to the pods: the run does not end before it does, and a proxy may refuse the "
            f"nodes' connections; {out}"
        )
