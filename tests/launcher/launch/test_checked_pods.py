"""What ``launcher check`` says of the pods of an experiment, which no cluster is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.data.checked import check
from launcher.launch.token_check import check_pods

HEAD = "exp_1:\n  experiment_id: 1\n  model_name: a/b\n  datasets_path: d\n  launch:\n    kubernetes:\n"


@pytest.mark.parametrize(
    ("kubernetes", "said"),
    [
        (
            "      pod:\n        spec:\n          hostnetwork: true\n",
            "e.yml:9:24: launch.kubernetes.pod.spec.hostnetwork: ",
        ),
        ("      volumes:\n        x:\n          nsf: {a: b}\n", "e.yml:9:20: launch.kubernetes.volumes.x.nsf: is not a kind"),
        ("      pod:\n        spec:\n          hostNetwork: true\n", None),
        ("      pod:\n        spec:\n          hostPID: true\n", "e.yml:9:20: launch.kubernetes.pod.spec.hostPID: is refused: "),
        (
            "      kind: trainjob\n      priority_class: low\n",
            "e.yml:8:23: launch.kubernetes.priority_class: cannot be set by a TrainJob: ",
        ),
    ],
)
def test_a_field_of_pods_that_is_unknown_or_refused_is_found_before_a_cluster_is_asked(
    kubernetes: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy is it so?,Because of that.,No idea.\n")
    (tmp_path / "e.yml").write_text(HEAD + kubernetes)
    monkeypatch.chdir(tmp_path)
    errors = [str(one) for one in check_pods(check("exp_1", file=Path("e.yml"))).errors]
    assert [one for one in errors if "launch.kubernetes" in one] == [one for one in errors if said and one.startswith(said)]
    assert bool(said) == any("launch.kubernetes" in one for one in errors)
