"""What a pod asks of its node: CPUs, memory, disk, GPUs or slices of them, and the taints of such nodes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ....errors import Mistake
from ....experiment.schema import Experiment
from ....job.job import Job
from ...spec.container import SHM
from ...spec.sizes import GIB, quantity, size_in_bytes
from .quantities import number
from .volumes import Volume

# Defaults. CPUs: (request, limit) per GPU, or per rank on a CPU; memory: the request and the limit, as a node whose memory is
# promised twice kills the run that uses its share.
_CPUS: Final = {"gpu": (2.0, 4.0), "rank": (0.5, 1.0)}
_MEMORY: Final = {"gpu": 24 * GIB, "rank": 4 * GIB}
# A rank on a CPU whose model is known: Python with its packages and rows, 32-bit weights that are read beside the file's own, and
# for each trained weight its gradient, two Adam moments and a checkpoint's copy.
_RANK: Final = 2 * GIB
_BYTES: Final = 8
_TRAINED: Final = 16
_SHM_OF_RANK: Final = GIB // 4  # on a CPU: DeepSpeed's all-reduce takes 66 MiB of each rank
HOME_SIZE: Final = 2 * GIB  # reports of other tools, which write below the working directory
TMP_SIZE: Final = 4 * GIB
_LOGS: Final = GIB  # the kubelet keeps five files of 10 MiB of a container by default
_OF_UNKNOWN: Final = {"runs": 20 * GIB, "cache": 100 * GIB}  # an empty volume, if the model's sizes are unknown
_OF_OTHERS: Final = 10 * GIB
_DISK: Final = "ephemeral-storage"
CHECKPOINT: Final = 12  # bytes of a checkpoint per trained weight: the weight and two Adam moments, 32 bits each


@dataclass(frozen=True)
class Sizes:
    """Numbers of weights, None if the model's sizes are unknown: of the model, and of those that are trained."""

    parameters: int | None = None
    trained: int | None = None


@dataclass(frozen=True)
class Needs:
    """A pod's requests and limits (``at_most``), equal if the experiment sets them; sizes in bytes.

    ``/dev/shm`` counts as memory. ``is_memory_said`` and ``are_cpus_said``: whether the experiment sets them. ``resource``: what
    the cluster calls a GPU.
    """

    cpus: float
    cpus_at_most: float
    memory: int
    shm: int
    gpus: int
    resource: str
    is_memory_said: bool
    are_cpus_said: bool

    @classmethod
    def of(cls, job: Job, sizes: Sizes | None = None) -> Needs:
        wanted, (unit, count) = job.resources, ("gpu", job.gpus) if job.gpus else ("rank", job.topology.nproc)
        shm = size_in_bytes(wanted.shm_size or SHM) if wanted.shm_size or job.gpus else _SHM_OF_RANK * count
        one = _MEMORY[unit] if job.gpus or sizes is None or sizes.parameters is None else _of_rank(sizes)
        memory = one * count + shm if wanted.memory is None else size_in_bytes(wanted.memory)
        cpus, cpus_at_most = (wanted.cpus, wanted.cpus) if wanted.cpus else (_CPUS[unit][0] * count, _CPUS[unit][1] * count)
        resource = job.experiment.launch.kubernetes.gpu_resource
        said = wanted.memory is not None, wanted.cpus is not None
        return cls(cpus, cpus_at_most, memory, shm, job.gpus, resource, *said)

    @property
    def cores(self) -> int:
        return max(1, int(self.cpus_at_most))

    def resources(self, disk: Disk | None) -> dict[str, Any]:
        """Requests and limits; GPUs are only in the limits, which Kubernetes also uses as their request. ``disk``: None to ask
        for none.
        """
        gpus = {self.resource: str(self.gpus)} if self.gpus else {}
        memory = quantity(self.memory)
        asked = {} if disk is None else {_DISK: quantity(disk.request)}
        most = {} if disk is None else {_DISK: quantity(disk.at_most)}
        return {
            "requests": {"cpu": cpu(self.cpus), "memory": memory, **asked},
            "limits": {"cpu": cpu(self.cpus_at_most), "memory": memory, **most, **gpus},
        }


def _of_rank(sizes: Sizes) -> int:
    """Bytes of memory of a rank on a CPU, in quarters of a GiB."""
    weights = _BYTES * (sizes.parameters or 0) + _TRAINED * (sizes.trained or 0)
    return _RANK + math.ceil(weights * 4 / GIB) * GIB // 4


@dataclass(frozen=True)
class Disk:
    """The node's own disk, in bytes: what is reserved, and beyond what the kubelet evicts the pod. It holds the container's
    logs, /tmp, the home and every empty volume.
    """

    request: int
    at_most: int

    @classmethod
    def of(cls, volumes: Iterable[Mapping[str, Any]]) -> Disk:
        """``volumes``: of a pod, each emptyDir with its size."""
        sizes = {one["name"]: int(number(one["emptyDir"]["sizeLimit"])) for one in volumes if _is_on_disk(one)}
        kept = sum(size for name, size in sizes.items() if name not in ("home", "tmp"))
        return cls(_LOGS + kept, _LOGS + sum(sizes.values()))


def _is_on_disk(volume: Mapping[str, Any]) -> bool:
    empty = volume.get("emptyDir")
    return empty is not None and empty.get("medium", "") != "Memory" and "sizeLimit" in empty


def settled(template: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A patched template whose empty volumes all have a size, and are counted; ``before``: the template without the patch."""
    pod = template["spec"]
    volumes = [_with_size(one) for one in pod["volumes"]]
    container, own = pod["containers"][0], before["spec"]["containers"][0]["resources"]
    disk, resources = Disk.of(volumes), container["resources"]
    wanted = {"requests": disk.request, "limits": disk.at_most}
    resources = {
        part: {name: quantity(wanted[part]) if _is_own_disk(name, part, value, own) else value for name, value in of.items()}
        if part in wanted
        else of
        for part, of in resources.items()
    }
    return {**template, "spec": {**pod, "containers": [{**container, "resources": resources}], "volumes": volumes}}


def _is_own_disk(name: str, part: str, value: Any, own: Mapping[str, Any]) -> bool:
    return name == _DISK and value == own[part].get(name)


def _with_size(volume: dict[str, Any]) -> dict[str, Any]:
    empty = volume.get("emptyDir")
    if empty is None or "sizeLimit" in empty or empty.get("medium") == "Memory":
        return volume
    return {**volume, "emptyDir": {**empty, "sizeLimit": quantity(_OF_OTHERS)}}


def sized(volume: Volume, experiment: Experiment, sizes: Sizes) -> dict[str, Any]:
    """The volume of a pod; one that is empty at first has a size, by what a run puts there."""
    made = volume.volume()
    empty = made.get("emptyDir")
    if empty is None or "sizeLimit" in (empty or {}) or (empty or {}).get("medium") == "Memory":
        return made
    return {**made, "emptyDir": {**empty, "sizeLimit": quantity(_size(volume.name, experiment, sizes))}}


def _size(name: str, experiment: Experiment, sizes: Sizes) -> int:
    """Bytes, in whole GiB. The cache gets the model's files with up to 32 bits a weight, and tokens; the runs get as many
    checkpoints as are kept and the two that change places, the result, and logs."""
    if name not in _OF_UNKNOWN or sizes.parameters is None or sizes.trained is None:
        return _OF_UNKNOWN.get(name, _OF_OTHERS)
    if name == "cache":
        return _whole(4 * sizes.parameters) + 10 * GIB
    kept = (experiment.hyperparameters.save_total_limit or 2) + 2
    return _whole(kept * CHECKPOINT * sizes.trained + 4 * sizes.trained) + 2 * GIB


def _whole(size: int) -> int:
    return math.ceil(size / GIB) * GIB


def wrong_gpus(job: Job) -> Iterator[Mistake]:
    """What cannot be trained on."""
    settings = job.experiment.launch
    where, resource = "launch.kubernetes.gpu_resource", settings.kubernetes.gpu_resource
    if "/mig-" in resource and job.gpus > 1:
        what = f"{resource}: a process sees one slice only, and the run has {job.gpus} GPUs per node"
        yield Mistake(where, what, "launch.gpus: 1, or whole GPUs (nvidia.com/gpu)")
    if resource.endswith(".shared") and job.gpus > 1:
        what = f"{resource}: several shares may be of one card, and the run has {job.gpus} GPUs per node"
        yield Mistake(where, what, "launch.gpus: 1, or whole GPUs (nvidia.com/gpu)")
    if resource.startswith("amd.com/") and job.gpus and settings.image is None:
        what = f"{resource}: the image of this checkout has CUDA"
        yield Mistake(where, what, "launch.image: an image with a ROCm build of torch")


def tolerations(resource: str) -> list[dict[str, str]]:
    """For the taints that keep other pods from nodes with GPUs: ``nvidia.com/gpu`` also where slices have another name."""
    keys = dict.fromkeys((f"{resource.partition('/')[0]}/gpu", resource))
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]


def is_over_tcp(pod: Mapping[str, Any], annotations: Mapping[str, str], gpu: str) -> bool:
    """Whether a pod asks for nothing that a fast network is made of: no device of another kind, no network of its own."""
    limits = pod["containers"][0]["resources"]["limits"]
    devices = [name for name in limits if "/" in name and name != gpu and not name.startswith(("nvidia.com/gpu", "amd.com/gpu"))]
    has_network = any("networks" in key or "rdma" in key for key in annotations)
    return not (devices or has_network or pod.get("hostNetwork") or pod.get("resourceClaims"))


def cpu(cpus: float) -> str:
    return str(int(cpus)) if cpus == int(cpus) else f"{math.ceil(cpus * 1000)}m"
