"""A server of a model on a cluster: a Deployment and its Service, under the same restrictions as a run's pods. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ....experiment.variables import VARIABLES, settings
from ....job.image import Image
from ....job.job import Job
from ....job.serving import PORT, Served
from ...spec.container import HOME, unproxied
from ...spec.environment import chosen as chosen_variables
from ...spec.sizes import GIB, quantity
from ...spec.trust import trusting
from .manifest import document
from .names import deployment_of, label_value
from .objects import QUEUE, Named, ca_map
from .pod import CA, CA_FILE, SECRETS, chosen, literal, pull_policy
from .resources import HOME_SIZE, TMP_SIZE, Disk, Needs, Sizes, sized
from .user import CONTAINER_SECURITY, USER_NAME, pod_security
from .volumes import CACHE, RUNS, volumes_of

ADAPTER_FOLDER: Final = "/dpo/adapter"
_FETCH: Final = Path(__file__).with_name("fetch.py")  # what fetches an adapter from a bucket, in the server's own image
_SHM: Final = "16Gi"  # vLLM's processes pass tensors through it
_ADAPTER: Final = 20 * GIB  # bytes of a fetched adapter, at most
_STARTED: Final = 180  # probes, one in ten seconds: half an hour to download and load a model
_DEADLINE: Final = 2400  # seconds until a Deployment counts as failed: after the last of these probes
# Names of the Secret's keys -> of the files for ``fetch``: our names, or the SDK's, as the caller has them.
_KEYS: Final = {"AWS_ACCESS_KEY": "AWS_ACCESS_KEY_ID", "AWS_SECRET_KEY": "AWS_SECRET_ACCESS_KEY"}
_SECRETS: Final = {name: {"name": name, "mountPath": SECRETS, "readOnly": True} for name in ("token", "keys")}  # mounts
_TOKEN_FILE: Final = {"HF_TOKEN_PATH": f"{SECRETS}/HF_TOKEN"}  # the hub's client has no token where there is no file
_SDK_KEYS: Final = {name: name for name in (*_KEYS.values(), "AWS_SESSION_TOKEN")}


@dataclass(frozen=True)
class Source:
    """Where the adapter is fetched from: s3://…, or a repository of the hub at a commit; neither where a claim has it.

    ``endpoint``: of the bucket, None for AWS.
    """

    uri: str | None
    endpoint: str | None = None
    region: str | None = None
    repository: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Server:
    """``job``: with the run's settings for the cluster, on the GPUs of the server. ``ca``: the certificates of launch.ca_bundle.

    ``caller``: the environment, whose hub and proxies pods use as well.
    """

    job: Job
    served: Served
    image: str
    source: Source
    caller: Mapping[str, str] = field(repr=False)
    ca: str | None = None

    @property
    def is_fetched(self) -> bool:
        return self.source.uri is not None or self.source.repository is not None

    @property
    def downloads(self) -> bool:
        """Whether the pod asks a hub or a bucket for something."""
        return self.is_fetched or self.served.is_on_hub

    @property
    def trusted(self) -> str | None:
        """The certificates that the pod needs."""
        return self.ca if self.downloads else None

    @property
    def certificates(self) -> dict[str, str]:
        return {} if self.trusted is None else dict(trusting(f"{CA}/{CA_FILE}"))


def text(server: Server, namespace: str | None) -> str:
    """Input for ``kubectl apply -f -``. Raises ExperimentError for an address with a password."""
    served, settings = server.served, server.job.experiment.launch.kubernetes
    labels = {
        "app.kubernetes.io/name": "dpo-launcher-serve",
        "app.kubernetes.io/managed-by": "dpo-launcher",
        "app.kubernetes.io/component": "serve",
        "dpo-launcher/serve": label_value(served.name),
    }
    space = namespace or settings.namespace
    named = Named(deployment_of(served.name), space, {**labels, **settings.labels}, {}, settings.queue)
    # Client-side apply keeps the objects in an annotation, which is smaller than a bundle with the public certificates.
    apply = "kubectl apply -f -" if server.trusted is None else "kubectl apply --server-side -f -"
    comments = [
        f"{served.name} with vLLM; apply it with: {apply}",
        f"ask it with: kubectl {'' if space is None else f'-n {space} '}port-forward service/{named.name} {PORT}:80",
        *(["launch.kubernetes.pod is left out: it is a patch of the pods that train"] if settings.pod else []),
        *([] if settings.queue is None else [f"waits in the queue {settings.queue}, where Kueue has the integration deployment"]),
    ]
    trusted = [] if server.trusted is None else [ca_map(named, server.trusted, immutable=False)]  # it may be applied again
    objects = (*trusted, _deployment(named, server), _service(named))
    return "".join(f"# {comment}\n" for comment in comments) + "".join(f"---\n{document(one)}" for one in objects)


def _service(named: Named) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": _selector(named), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": named.metadata(), "spec": spec}


def _selector(named: Named) -> dict[str, str]:
    return {"dpo-launcher/serve": named.labels["dpo-launcher/serve"]}


def _deployment(named: Named, server: Server) -> dict[str, Any]:
    on_cluster = server.job.experiment.launch.kubernetes
    volumes = _volumes(server, named.name)
    # Kueue admits nothing that asks for a resource which its queue does not cover, and few queues cover the nodes' disks.
    resources = Needs.of(server.job).resources(Disk.of(volumes) if on_cluster.queue is None else None)
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(on_cluster, None),
        **chosen(on_cluster, has_gpus=True),
        **({"initContainers": [_fetching(server)]} if server.is_fetched else {}),
        "containers": [_server(server, resources)],
        "volumes": volumes,
    }
    annotations = {**on_cluster.annotations, **_changes(server)}
    spec = {
        "replicas": 1,
        "progressDeadlineSeconds": _DEADLINE,
        "strategy": {"type": "Recreate"},  # a second server would wait for as many GPUs, or for quota
        "selector": {"matchLabels": _selector(named)},
        "template": {
            "metadata": {"labels": dict(named.labels), **({"annotations": annotations} if annotations else {})},
            "spec": pod,
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(named), "spec": spec}


def _metadata(named: Named) -> dict[str, Any]:
    """With the queue, which Kueue copies into the pod's labels itself."""
    head = named.metadata()
    return head if named.queue is None else {**head, "labels": {**head["labels"], QUEUE: named.queue}}


def _changes(server: Server) -> dict[str, str]:
    """An annotation that is another one with other certificates: pods that have read the old ones are replaced."""
    if server.trusted is None:
        return {}
    return {"dpo-launcher/ca": hashlib.sha256(server.trusted.encode()).hexdigest()[:16]}


def _server(server: Server, resources: Mapping[str, Any]) -> dict[str, Any]:
    job, served = server.job, server.served
    passed = {**server.certificates, **_passed(server, "hub", "network")} if served.is_on_hub else {}
    env = _variables({**passed, **(_TOKEN_FILE if served.is_on_hub else {}), **_environment()})
    health = {"httpGet": {"path": "/health", "port": "http"}}
    given = volumes_of(job.experiment)
    runs = [{**given["runs"].mount(), "readOnly": True}] if _reads_runs(served) else []
    fetched = [{"name": "adapter", "mountPath": ADAPTER_FOLDER, "readOnly": True}] if server.is_fetched else []
    of_hub = [_SECRETS["token"], *_trusted(server)] if served.is_on_hub else []
    mounts = [*runs, given["cache"].mount(), *_scratch(), *fetched, *of_hub]
    return {
        "name": "server",
        "image": server.image,
        "imagePullPolicy": pull_policy(Image(server.image, "cuda")),
        "command": ["vllm"],
        "args": [literal(one) for one in served.arguments],
        "env": env,
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": resources,
        "startupProbe": {**health, "periodSeconds": 10, "failureThreshold": _STARTED},
        "readinessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 5},
        "volumeMounts": mounts,
        "securityContext": CONTAINER_SECURITY,
    }


def _trusted(server: Server) -> list[dict[str, Any]]:
    return [] if server.trusted is None else [{"name": "ca", "mountPath": CA, "readOnly": True}]


def _fetching(server: Server) -> dict[str, Any]:
    """What copies the adapter into an empty volume before the server starts; keys come from the Secret."""
    disk = {"ephemeral-storage": "1Gi"} if server.job.experiment.launch.kubernetes.queue is None else {}
    return {
        "name": "adapter",
        **(_from_hub(server) if server.source.uri is None else _from_bucket(server)),
        "resources": {"requests": {"cpu": "100m", "memory": "2Gi", **disk}, "limits": {"cpu": "1", "memory": "2Gi", **disk}},
        "terminationMessagePolicy": "FallbackToLogsOnError",  # `launcher why` tells its last line
        "volumeMounts": [
            {"name": "adapter", "mountPath": ADAPTER_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},
            _SECRETS["token" if server.source.uri is None else "keys"],
            *_trusted(server),
        ],
        "securityContext": CONTAINER_SECURITY,
    }


def _from_hub(server: Server) -> dict[str, Any]:
    """The hub's client, which vLLM's image has."""
    source = server.source
    env = {**server.certificates, **_passed(server, "hub", "network"), **_TOKEN_FILE, "HF_HOME": "/tmp/hub", "HOME": "/tmp"}
    return {
        "image": server.image,
        "imagePullPolicy": pull_policy(Image(server.image, "cuda")),
        "command": ["hf", "download"],
        "args": [literal(str(source.repository)), "--revision", str(source.commit), "--local-dir", ADAPTER_FOLDER],
        "env": _variables(env),
    }


def _from_bucket(server: Server) -> dict[str, Any]:
    """The SDK for buckets, which vLLM's image has: it reads models from them."""
    source = server.source
    endpoint = [] if source.endpoint is None else [source.endpoint]
    region = {} if source.region is None else {"AWS_REGION": source.region}
    env = {**server.certificates, **_passed(server, "s3", "network"), **region, "DPO_SECRETS": SECRETS, "HOME": "/tmp"}
    script = _FETCH.read_text(encoding="utf-8")
    return {
        "image": server.image,
        "imagePullPolicy": pull_policy(Image(server.image, "cuda")),
        "command": ["python3", "-c", literal(script)],
        "args": [literal(one) for one in (str(source.uri), ADAPTER_FOLDER, *endpoint)],
        "env": _variables(env),
    }


def _passed(server: Server, *uses: str) -> dict[str, str]:
    """Variables of the caller, and of launch.env, by which a library finds a hub, a bucket or a proxy; none has a password."""
    job = server.job
    known = {**server.caller, **chosen_variables(job, server.caller)}
    names = {one.name for one in VARIABLES if one.use in uses}
    passed = {name: value for name, value in settings(job.experiment, known).items() if name in names}
    return passed | unproxied(known, None)


def _variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": literal(value)} for name, value in sorted(values.items())]


def _secret_volumes(server: Server) -> Iterator[dict[str, Any]]:
    """Files of the Secret, for the containers that need them alone; all may be missing."""
    wanted: dict[str, Mapping[str, str]] = {}
    if server.served.is_on_hub or server.source.repository is not None:
        wanted["token"] = {"HF_TOKEN": "HF_TOKEN"}
    if server.source.uri is not None:
        caller = server.caller
        wanted["keys"] = _SDK_KEYS if caller.get("AWS_ACCESS_KEY_ID") and not caller.get("AWS_ACCESS_KEY") else _KEYS
    for name, keys in wanted.items():
        items = [{"key": key, "path": path} for key, path in keys.items()]
        secret = server.job.experiment.launch.kubernetes.secret
        yield {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440, "optional": True, "items": items}}


def _environment() -> dict[str, str]:
    return {
        "HF_HOME": f"{CACHE}/huggingface",
        "HOME": HOME,
        "LOGNAME": USER_NAME,
        "USER": USER_NAME,
        "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _scratch() -> list[dict[str, Any]]:
    return [{"name": name, "mountPath": path} for name, path in (("home", HOME), ("tmp", "/tmp"), ("shm", "/dev/shm"))]


def _reads_runs(served: Served) -> bool:
    """Whether something lies on the claim of the runs; a cluster on which nothing was trained may have none."""
    return any(RUNS in argument for argument in served.arguments)


def _volumes(server: Server, name: str) -> list[dict[str, Any]]:
    """``name``: of the Deployment."""
    job = server.job
    given = volumes_of(job.experiment)
    roles = ("runs", "cache") if _reads_runs(server.served) else ("cache",)
    shm = {"medium": "Memory", "sizeLimit": _SHM}
    return [
        *(sized(given[role], job.experiment, Sizes()) for role in roles),
        {"name": "home", "emptyDir": {"sizeLimit": quantity(HOME_SIZE)}},
        {"name": "tmp", "emptyDir": {"sizeLimit": quantity(TMP_SIZE)}},
        {"name": "shm", "emptyDir": shm},
        *([{"name": "adapter", "emptyDir": {"sizeLimit": quantity(_ADAPTER)}}] if server.is_fetched else []),
        *([] if server.trusted is None else [{"name": "ca", "configMap": {"name": f"{name}-ca"}}]),
        *_secret_volumes(server),
    ]
