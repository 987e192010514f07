"""The Kubernetes objects of a job, rendered with what is known of the cluster and of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExperimentError

if TYPE_CHECKING:
    from ..backends.kubernetes.render.placement import Local
    from ..backends.kubernetes.render.resources import Sizes
    from ..backends.kubernetes.render.spec import KubernetesSpec
    from ..experiment.loaded import Loaded
    from ..experiment.schema import Experiment
    from ..job.image import Image
    from ..job.job import Job


@dataclass(frozen=True)
class Known:
    """What is known beside the job. None everywhere: not asked, or found out while rendering.

    Of the cluster: ``namespace`` (None: the context's), ``annotations`` of that namespace, ``has_jobset`` (it serves JobSets),
    ``own_runtime`` (the namespace has the runtime of TrainJobs), ``user`` (its name for the caller). Of the run: ``deadline`` in
    seconds for ``active_deadline: auto``, ``image`` as it was pushed. Of this machine: ``local`` files, ``caller`` (the
    environment with .env), ``sizes`` of the model.
    """

    namespace: str | None = None
    annotations: Mapping[str, str] | None = None
    has_jobset: bool | None = None
    own_runtime: bool = False
    user: str | None = None
    deadline: int | None = None
    image: Image | None = None
    local: Local | None = None
    caller: Mapping[str, str] | None = field(default=None, repr=False)
    sizes: Sizes | None = None


def cluster_spec(job: Job, loaded: Loaded, known: Known) -> KubernetesSpec:
    """The objects of ``job``. Raises ExperimentError for what a cluster cannot run."""
    from ..backends.kubernetes.render.local import look
    from ..backends.kubernetes.render.spec import Place, render
    from ..backends.spec.record import code_revision, user_name
    from ..job.image import image_for

    caller, has_profile = _environment(job.experiment, known.caller)
    with loaded.placed():
        place = Place(
            user=caller.get("DPO_USER") or known.user or user_name(caller),
            image=known.image or image_for(job.experiment, job.gpus, caller),
            local=known.local or look(job.experiment, Path.cwd()),
            namespace=known.namespace,
            has_jobset=known.has_jobset,
            own_runtime=known.own_runtime,
            annotations=known.annotations,
            sizes=known.sizes or _sizes(job.experiment, caller),
            deadline=known.deadline,
            origins=loaded.origins,
            code=code_revision(),
            caller=caller,
            has_profile=has_profile,
        )
        return render(job, place)


def _environment(experiment: Experiment, caller: Mapping[str, str] | None) -> tuple[Mapping[str, str], bool]:
    """(the environment, whether the S3 keys in it come from a profile of the AWS SDK); a recorded one is taken unchanged."""
    from ..experiment.files import read_env
    from ..storage.client.profile import with_profile

    return with_profile(experiment, read_env(Path.cwd())) if caller is None else (caller, False)


def _sizes(experiment: Experiment, caller: Mapping[str, str]) -> Sizes:
    """How many weights the model has and how many are trained, if its configuration is on this machine."""
    from ..backends.kubernetes.render.resources import Sizes
    from ..planning.sizes.config_file import find_model_config
    from ..planning.sizes.state import trained_weights

    try:
        config, _ = find_model_config(experiment.model_name, Path.cwd(), caller, network=False)
    except ExperimentError:
        return Sizes()
    return Sizes(config.parameters, trained_weights(experiment.hyperparameters, config))
