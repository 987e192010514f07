"""An automatic deadline, and the nodes that have the GPU a person names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.launch.on_nodes import with_gpu
from launcher.launch.rendered import Choice, rendered_for_cluster
from tests.cluster_api import ClusterApi, controllers

REPOSITORY = Path(__file__).parents[3]
LABEL = "nvidia.com/gpu.product"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the demo's data and the sizes of a model."""
    shutil.copytree(REPOSITORY / "configs" / "demo", tmp_path / "configs" / "demo")
    shutil.copytree(REPOSITORY / "configs" / "models", tmp_path / "configs" / "models")
    (tmp_path / "configs" / "e.yml").write_text(
        "exp_1:\n  experiment_id: 1\n  model_name: Qwen/Qwen3-0.6B\n  datasets_path: configs/demo/everyday\n"
        "  dpo_column_mapping_config: {input_columns: {question: question}, chosen: concrete, rejected: vague}\n"
        "  hyperparameters: {max_steps: 400}\n"
        "  launch: {image: a/b, gpus: 1, kubernetes: {active_deadline: auto, node_selector: {pool: a}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def deadline(*overrides: str) -> Any:
    found = rendered_for_cluster(Choice("exp_1", overrides)).spec
    return found.owner["spec"].get("activeDeadlineSeconds"), found.notices  # type: ignore[union-attr]


def test_an_automatic_deadline_follows_from_the_plan_and_the_starts(home: Path) -> None:
    slow, fast = (f"launch.kubernetes.node_selector={{{LABEL}: {gpu}}}" for gpu in ("Tesla-T4", "NVIDIA-H200"))
    first, notices = deadline(slow)
    assert [one.split(" min ")[0] for one in notices] == [f"deadline: the run is ended 4 h {(first - 4 * 3600) // 60}"]
    starts = 4 * 3600  # and three restarts
    assert first > starts
    assert deadline(slow, "launch.max_restarts=0")[0] == first - 3 * 3600
    assert starts < deadline(fast)[0] < first
    longer = deadline(slow, "hyperparameters.max_steps=800")[0]
    assert longer - starts == pytest.approx(2 * (first - starts), rel=0.1)


def test_without_the_gpu_there_is_no_deadline_and_it_is_told(home: Path) -> None:
    seconds, notices = deadline()
    assert seconds is None
    assert "no deadline: launch.kubernetes.active_deadline is auto, and the time of the run is unknown" in notices


@pytest.fixture
def api(cluster_api: ClusterApi, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    for number in range(3):
        controllers.node(cluster_api, f"a{number}", gpus=8, labels={LABEL: "NVIDIA-A100-SXM4-80GB"})
    controllers.node(cluster_api, "l", gpus=1, labels={LABEL: "NVIDIA-L4"})
    return cluster_api


def selector(choice: Choice) -> Any:
    return rendered_for_cluster(choice).spec.pod["spec"]["nodeSelector"]  # type: ignore[union-attr]


def test_a_gpu_is_chosen_among_those_of_the_nodes_beside_the_experiment_s_own_selector(home: Path, api: ClusterApi) -> None:
    assert selector(with_gpu(Choice("exp_1"), "A100")) == {"pool": "a", LABEL: "NVIDIA-A100-SXM4-80GB"}
    with pytest.raises(UsageError, match=r"no node of the cluster has it; the nodes have: NVIDIA-A100-SXM4-80GB \(3 nodes\)"):
        with_gpu(Choice("exp_1"), "H100")


def test_where_nodes_may_not_be_listed_the_name_must_mean_one_product(home: Path, api: ClusterApi) -> None:
    api.deny("list", "nodes")
    assert selector(with_gpu(Choice("exp_1"), "L4")) == {"pool": "a", LABEL: "NVIDIA-L4"}
    with pytest.raises(UsageError, match="means several GPUs"):
        with_gpu(Choice("exp_1"), "A100")
