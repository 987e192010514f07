"""What serves a run's weights: vLLM on this machine, in a container, on a cluster; or Ollama's Modelfile."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from launcher.after.serve import How, serve
from launcher.errors import ExperimentError, LauncherError, UsageError
from launcher.experiment.variables import VARIABLES
from launcher.job.adapter_config import CONVERT
from launcher.job.serving import IMAGE, needs_merge, not_served, rank_of
from launcher.job.target import Target
from launcher.runs.run_dir import RunDir
from tests.cluster_api.certificates import served as served_certificate
from tests.pod_security import violations
from tests.run_folders import Made
from tests.s3.server import MotoServer

GOLDEN = Path(__file__).parents[2] / "golden" / "kubernetes"
CHECKOUT = Path(__file__).parents[3]
PLAIN = {"peft_type": "LORA", "r": 20, "target_modules": ["q_proj", "v_proj"], "bias": "none"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    passed_on = (one.name for one in VARIABLES)  # tests of the trainer set some for their process
    for name in ("HF_HOME", "HF_HUB_CACHE", "DPO_CACHE_ROOT", "XDG_CACHE_HOME", *passed_on):
        monkeypatch.delenv(name, raising=False)
    model(tmp_path / "data/demo/qwen3-tiny", "LlamaForCausalLM")
    return tmp_path


def model(folder: Path, architecture: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return folder


def model_is(architecture: str, home: Path, **more: Any) -> None:
    (home / "data/demo/qwen3-tiny/config.json").write_text(json.dumps({"architectures": [architecture], **more}))


def target(home: Path, config: dict[str, Any] | None = None, record: dict[str, Any] | None = None, **changes: Any) -> Target:
    run = Made("one", record=record or {}).write(home)
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text(json.dumps({**PLAIN, **(config or {})}))
    if changes:
        _change(run, changes)
    return Target.of(run.path)


def _change(run: RunDir, changes: dict[str, Any]) -> None:
    experiment = json.loads(run.experiment.read_text())
    run.experiment.write_text(json.dumps(experiment | changes))


def argv(text: str) -> list[str]:
    return shlex.split(text.replace("\\\n", " "))


def test_an_adapter_is_served_beside_its_base_with_a_rank_that_vllm_has(here: Path) -> None:
    found = target(here)
    base, adapter = here / "data/demo/qwen3-tiny", found.weights
    expected = ["vllm", "serve", str(base), "--enable-lora", "--lora-modules", f"one={adapter}", "--max-lora-rank", "32"]
    serving = serve(found, How())
    assert argv(serving.text) == list(serving.argv or ()) == expected
    assert serving.notices == ()


def test_the_template_of_the_run_is_served_where_the_base_has_another(here: Path) -> None:
    found = target(here)
    (found.weights / "chat_template.jinja").write_text("mine")
    assert argv(serve(found, How()).text)[-2:] == ["--chat-template", str(found.weights / "chat_template.jinja")]
    (here / "data/demo/qwen3-tiny/chat_template.jinja").write_text("mine")
    assert "--chat-template" not in serve(found, How()).text


def test_a_base_of_the_hub_is_served_at_the_commit_of_the_run(here: Path) -> None:
    found = target(here, record={"model": {"revision": "c0ffee"}}, model_name="Qwen/Qwen3-0.6B")
    line = argv(serve(found, How(length=4096)).text)
    assert line[2] == "Qwen/Qwen3-0.6B"
    assert line[-4:] == ["--revision", "c0ffee", "--max-model-len", "4096"]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules that are trained whole (modules_to_save)"),
        ({"target_parameters": ["experts.down_proj"]}, "experts that are parameters (target_parameters)"),
        ({"bias": "all"}, "biases (bias: all)"),
        ({"target_modules": ["q_proj", "wte"]}, "an adapter on wte"),
    ],
)
def test_an_adapter_that_vllm_cannot_serve_must_be_merged_first(here: Path, config: dict[str, Any], what: str) -> None:
    model_is("Qwen2ForCausalLM", here)
    assert needs_merge({**PLAIN, **config}) == [what]
    with pytest.raises(UsageError) as raised:
        serve(target(here, config), How())
    first, hint = str(raised.value).splitlines()
    assert first == f"vLLM serves one only merged: it has {what}"
    assert hint == "    hint:     launcher merge one -o one-merged, then launcher serve one --merged one-merged"


@pytest.mark.parametrize("targets", [["embed_tokens", "q_proj"], ["model.embed_tokens"], r".*\.embed_tokens"])
def test_an_adapter_on_the_embedding_is_served_beside_a_base_of_the_families_that_take_it(here: Path, targets: Any) -> None:
    config = {"target_modules": targets}
    assert "--enable-lora" in serve(target(here, config), How()).text, "Llama"
    model_is("Qwen2ForCausalLM", here)
    with pytest.raises(UsageError, match=r"only merged: it has an adapter on embed_tokens"):
        serve(Target.of(RunDir.of(here, "data/dpo/model", "demo", "qwen3-tiny", "one").path), How())
    assert needs_merge({**PLAIN, **config}) == ["an adapter on embed_tokens"], "a base that is not on this machine"


def test_a_base_for_which_vllm_takes_no_adapter_is_served_merged(here: Path) -> None:
    model_is("GPT2LMHeadModel", here)
    with pytest.raises(UsageError, match=r"only merged: it has a base for which vLLM takes no adapters \(GPT2LMHeadModel\)"):
        serve(target(here), How())


@pytest.mark.parametrize(
    ("config", "what", "hint"),
    [
        (
            {"init_lora_weights": "pissa_niter_4"},
            "init_lora_weights: pissa_niter_4, which subtracts a part from the base's weights",
            CONVERT,
        ),
        (
            {"init_lora_weights": "lora_ga"},
            "init_lora_weights: lora_ga, which subtracts a part from the base's weights",
            CONVERT,
        ),
        ({"alora_invocation_tokens": [7, 8]}, "invocation tokens (aLoRA)", "talk to it with: launcher chat one"),
        ({"layer_replication": [[0, 2]]}, "repeated layers (layer_replication)", "talk to it with: launcher chat one"),
        (
            {"trainable_token_indices": [1]},
            "rows of the embedding (trainable_token_indices)",
            "talk to it with: launcher chat one",
        ),
    ],
)
@pytest.mark.parametrize("engine", ["vllm", "ollama"])
def test_an_adapter_that_no_merge_can_hold_is_refused_without_naming_a_merge(
    here: Path, config: dict[str, Any], what: str, hint: str, engine: str
) -> None:
    with pytest.raises(UsageError) as raised:
        serve(target(here, config), How(engine=engine))
    assert str(raised.value).splitlines() == [f"one can be neither served nor merged: it has {what}", f"    hint:     {hint}"]


@pytest.mark.parametrize("start", [True, False, "gaussian", "Eva", "orthogonal", "mica"])
def test_a_start_that_left_the_base_alone_is_served(start: bool | str) -> None:
    assert not_served({**PLAIN, "init_lora_weights": start}) == []


def test_a_rank_is_rounded_up_and_one_above_all_is_refused() -> None:
    assert [rank_of({"r": rank}) for rank in (1, 8, 9, 200, 512)] == [8, 8, 16, 256, 512]
    assert rank_of({"r": 8, "rank_pattern": {"q_proj": 4, "v_proj": 33}}) == 64, "the largest rank of a module"
    with pytest.raises(UsageError, match="the adapter has rank 513; vLLM serves adapters up to 512"):
        rank_of({"r": 8, "rank_pattern": {"q_proj": 513}})


@pytest.mark.parametrize("config", [{"rank_pattern": {"q_proj": 4}}, {"alpha_pattern": {"q_proj": 4}}])
def test_ranks_and_scales_by_module_are_served_and_another_vllm_than_the_pinned_one_must_be_new_enough(
    here: Path, config: dict[str, Any]
) -> None:
    found = target(here, config)
    warning = "ranks and scales by module need vLLM 0.32 or newer: older versions give other answers"
    assert serve(found, How()).notices == (warning,)
    assert warning in serve(found, How(backend="docker", image="mirror/vllm:old")).notices
    assert warning not in serve(found, How(backend="docker")).notices


def test_weights_in_fp32_are_served_with_a_warning_and_the_option_that_keeps_them(here: Path) -> None:
    warning = "the weights are in fp32 and vLLM computes in 16 bits: answers may differ; --dtype float32 prevents this"
    model_is("LlamaForCausalLM", here, torch_dtype="float32")
    found = target(here)
    assert serve(found, How()).notices == (warning,)
    serving = serve(found, How(dtype="float32"))
    assert argv(serving.text)[-2:] == ["--dtype", "float32"]
    assert serving.notices == ()
    merged = model(here / "merged", "LlamaForCausalLM")
    assert serve(found, How(merged=str(merged))).notices == ()
    (merged / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "dtype": "float32"}))
    assert serve(found, How(merged=str(merged))).notices == (warning,)


def test_the_chat_template_gets_what_the_run_gave_it(here: Path) -> None:
    found = target(here, hyperparameters={"enable_thinking": False})
    line = argv(serve(found, How()).text)
    assert json.loads(line[line.index("--default-chat-template-kwargs") + 1]) == {"enable_thinking": False}


def test_a_system_message_and_a_user_template_of_the_run_must_come_from_the_clients(here: Path) -> None:
    found = target(here)
    assert found.run is not None
    kept = {"system": None, "user": ["", "question", ""], "place": None}
    found.run.prompt.write_text(json.dumps(kept))
    assert serve(found, How()).notices == ()
    found.run.prompt.write_text(json.dumps({**kept, "system": "Be brief."}))
    said = f"clients must send the run's system message, as launcher chat does: see {found.run.prompt}"
    assert serve(found, How()).notices == (said,)
    found.run.prompt.write_text(json.dumps({"system": "Be brief.", "user": ["Question: ", "question", ""], "place": None}))
    said = f"clients must send the run's system message and user template, as launcher chat does: see {found.run.prompt}"
    assert serve(found, How()).notices == (said,)


def test_a_model_without_a_chat_template_is_served_with_a_warning_that_names_the_endpoint(here: Path) -> None:
    found = target(here)
    tokenizer = found.weights / "tokenizer_config.json"
    tokenizer.write_text("{}")
    warning = (
        "the model has no chat template: ask /v1/completions, with each message followed by an empty line; "
        "vLLM refuses /v1/chat/completions"
    )
    assert serve(found, How()).notices == (warning,)
    tokenizer.write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert serve(found, How()).notices == ()
    tokenizer.write_text("{}")
    (found.weights / "chat_template.jinja").write_text("{{ messages }}")
    assert serve(found, How()).notices == ()


def test_an_adapter_s_folder_with_a_comma_is_named_as_json(here: Path) -> None:
    """vLLM reads name=path without a comma, and JSON."""
    found = target(here / "sft, then dpo", model_name=str(here / "data/demo/qwen3-tiny"))
    line = argv(serve(found, How()).text)
    assert json.loads(line[line.index("--lora-modules") + 1]) == {"name": "one", "path": str(found.weights)}


def test_a_merged_model_is_served_under_the_name_of_the_run(here: Path) -> None:
    merged = model(here / "merged", "LlamaForCausalLM")
    line = argv(serve(target(here, {"use_dora": True}), How(merged="merged")).text)
    assert line == ["vllm", "serve", str(merged), "--served-model-name", "one"]
    with pytest.raises(UsageError, match=r"--merged nowhere: folder not found"):
        serve(target(here / "other"), How(merged="nowhere"))


def test_a_container_mounts_what_it_reads_and_has_the_token_s_name_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = target(here)
    line = argv(serve(found, How(backend="docker")).text)
    assert line[:9] == ["docker", "run", "--rm", "--gpus", "all", "--shm-size", "16g", "--user", f"{os.getuid()}:{os.getgid()}"]
    base = here / "data/demo/qwen3-tiny"
    mounts = [line[n + 1] for n, one in enumerate(line) if one == "--mount"]
    assert mounts == [
        f"type=bind,source={base},target=/model,readonly",
        f"type=bind,source={found.weights},target=/adapter,readonly",
    ]
    after = ["serve", "/model", "--enable-lora", "--lora-modules", "one=/adapter", "--max-lora-rank", "32"]
    assert line[line.index("--entrypoint") :] == ["--entrypoint", "vllm", IMAGE, *after]
    _change(RunDir(found.folder), {"model_name": "Qwen/Qwen3-0.6B"})
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    line = argv(serve(Target.of(found.folder), How(backend="docker", image="mirror/vllm@sha256:00")).text)
    assert "hf_hush" not in " ".join(line)
    assert line[line.index("HF_TOKEN") - 1] == "--env"
    hub = here / ".cache/dpo-launcher/huggingface"
    assert f"type=bind,source={hub},target=/hub" in line
    assert "HF_HOME=/hub" in line
    assert hub.is_dir(), "an engine makes a missing folder as root, or fails"


def test_a_container_sees_the_gpus_that_the_caller_lets_programs_see(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = target(here)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    serving = serve(found, How(backend="docker"))
    assert argv(serving.text)[3:5] == list(serving.argv or ())[3:5] == ["--gpus", '"device=2,3"']
    assert """--gpus '"device=2,3"'""" in serving.text


def test_a_container_of_a_rootless_engine_runs_as_its_root_who_is_the_caller(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = here / "docker.sock"
    engine.touch()
    if os.getuid() == 0:
        os.chown(engine, 1000, 1000)
        monkeypatch.setattr("os.getuid", lambda: 1000)
    found = target(here)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine}")
    assert "--user" not in serve(found, How(backend="docker")).text
    monkeypatch.setenv("DOCKER_HOST", f"unix://{here}/another.sock")
    assert f"--user {os.getuid()}:" in serve(found, How(backend="docker")).text


def test_no_server_in_a_container_or_a_pod_sends_statistics(here: Path) -> None:
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-0.6B")
    assert "--env VLLM_NO_USAGE_STATS=1" in serve(found, How(backend="docker")).text
    assert "VLLM_NO_USAGE_STATS" in serve(found, How(backend="kubernetes")).text


def test_an_image_by_its_tag_is_noticed_and_one_by_its_digest_is_not(here: Path) -> None:
    found = target(here)
    assert serve(found, How(backend="docker")).notices == (
        f"{IMAGE} is pinned by its tag, not by a digest; pin it with --image NAME@sha256:…",
    )
    assert serve(found, How(backend="docker", image="mirror/vllm@sha256:00")).notices == ()


KUBERNETES = {
    "serve-from-the-claim": {"backend": "kubernetes"},
    "serve-from-a-hub": {"pushed": {"repository": "team/mine", "commit": "c0ffee"}},
    "serve-from-a-bucket": {"uploaded": {"uri": "s3://models/team/exp_demo/one", "endpoint_url": "https://minio.example.com"}},
}


@pytest.mark.parametrize("name", KUBERNETES)
def test_the_objects_on_a_cluster(here: Path, name: str) -> None:
    launch = {"gpus": 1, "kubernetes": {"namespace": "dpo", "tolerations": [{"key": "gpu-pool", "operator": "Exists"}]}}
    found = target(here, record=KUBERNETES[name], model_name="Qwen/Qwen3-0.6B", launch=launch)
    printed = serve(found, How(backend="kubernetes")).text
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("REWRITE_GOLDEN"):
        file.write_text(printed)
    assert printed == file.read_text()
    deployment, service = yaml.safe_load_all(printed)
    for one in (deployment, service):
        kubernetes_validate.validate(one, "1.31", strict=True)
    assert violations(deployment["spec"]["template"]["spec"]) == []
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= labels.items()


def _environment(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in container["env"]}


def _files(pod: dict[str, Any], container: dict[str, Any]) -> dict[str, str]:
    """File below /dpo/secrets -> key of the Secret."""
    mounted = [one["name"] for one in container["volumeMounts"] if one["mountPath"] == "/dpo/secrets"]
    volumes = [one["secret"] for one in pod["volumes"] if one["name"] in mounted]
    assert all(one["optional"] for one in volumes), "an open hub and a pod's own role need no key"
    return {item["path"]: item["key"] for one in volumes for item in one["items"]}


def test_pods_use_the_hub_the_proxy_and_the_region_of_the_caller(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / ".env").write_text("AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=hush\nAWS_SESSION_TOKEN=hush\nAWS_REGION=eu-west-1\n")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.com")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    found = target(here, record=KUBERNETES["serve-from-a-bucket"], model_name="Qwen/Qwen3-0.6B")
    printed = serve(found, How(backend="kubernetes")).text
    assert "hush" not in printed
    pod = next(yaml.safe_load_all(printed))["spec"]["template"]["spec"]
    server, client = _environment(pod["containers"][0]), _environment(pod["initContainers"][0])
    proxy = {"HTTPS_PROXY": "http://proxy.example.com:3128", "NO_PROXY": "localhost,127.0.0.1,.svc,.cluster.local"}
    token = {"HF_TOKEN_PATH": "/dpo/secrets/HF_TOKEN"}
    assert server.items() >= {"HF_ENDPOINT": "https://hub.example.com", **token, **proxy}.items()
    assert client.items() >= {"AWS_REGION": "eu-west-1", **proxy}.items()
    assert _files(pod, pod["containers"][0]) == {"HF_TOKEN": "HF_TOKEN"}, "the server sees no key of the bucket"
    keys = {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    assert _files(pod, pod["initContainers"][0]) == keys, "as `secrets push` names them"
    assert "HF_ENDPOINT" not in client


@pytest.mark.parametrize("name", KUBERNETES)
def test_secrets_are_files_and_no_variable_of_a_server_holds_one(here: Path, name: str) -> None:
    found = target(here, record=KUBERNETES[name], model_name="Qwen/Qwen3-0.6B")
    pod = next(yaml.safe_load_all(serve(found, How(backend="kubernetes")).text))["spec"]["template"]["spec"]
    containers = [*pod["containers"], *pod.get("initContainers", ())]
    assert not [one for each in containers for one in each["env"] if "valueFrom" in one]
    ours = {"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_KEY"}
    of_fetching = {"serve-from-a-hub": [{"HF_TOKEN": "HF_TOKEN"}], "serve-from-a-bucket": [ours]}.get(name, [])
    assert [_files(pod, one) for one in containers] == [{"HF_TOKEN": "HF_TOKEN"}, *of_fetching]


def sizes(home: Path, **more: int) -> None:
    """The base is a model of known sizes on this disk."""
    text = (CHECKOUT / "configs/models/Qwen/Qwen3-8B/config.json").read_text()
    (home / "data/demo/qwen3-tiny/config.json").write_text(json.dumps({**json.loads(text), **more}))


def test_a_model_is_spread_over_as_many_gpus_as_were_asked_for(here: Path) -> None:
    sizes(here)
    found = target(here)
    for backend in ("host", "docker"):
        line = argv(serve(found, How(backend=backend, gpus=4)).text)
        assert line[-2:] == ["--tensor-parallel-size", "4"]
    assert "--tensor-parallel-size" not in serve(found, How()).text


def test_a_model_that_vllm_cannot_divide_among_the_gpus_is_refused_with_the_numbers_that_it_can(here: Path) -> None:
    sizes(here)
    with pytest.raises(UsageError) as raised:
        serve(target(here), How(gpus=3))
    assert str(raised.value).splitlines() == [
        "--tensor-parallel-size 3: vLLM cannot divide data/demo/qwen3-tiny, which has 32 attention heads, among 3 GPUs",
        "    hint:     choose one of 2, 4, 8",
    ]
    with pytest.raises(UsageError, match="--tensor-parallel-size is vLLM's"):
        serve(target(here / "other"), How(engine="ollama", gpus=2))


def nvidia_smi(here: Path, monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    """A program of that name, which answers for ``gpus`` RTX 4070."""
    line = "printf 'GPU 0: NVIDIA GeForce RTX 4070\\n'"
    table = "printf 'NVIDIA GeForce RTX 4070, 12282\\n'"
    script = "#!/bin/sh\ncase $1 in -L) " + "; ".join([line] * gpus) + ";; *) " + "; ".join([table] * gpus) + ";; esac\n"
    (here / "nvidia-smi").write_text(script)
    (here / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_model_that_one_gpu_of_this_machine_does_not_hold_is_told_with_the_option_that_helps(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes(here)
    nvidia_smi(here, monkeypatch, 2)
    found = target(here)
    (said,) = serve(found, How()).notices
    assert said.startswith("the model does not fit: ")
    assert said.endswith(" of 10.79 GiB on RTX 4070; spread it over 2 GPUs: --tensor-parallel-size 2")
    assert serve(found, How(gpus=2)).notices == ()
    with pytest.raises(UsageError, match="--tensor-parallel-size 4: this machine has 2 GPUs"):
        serve(found, How(gpus=4))
    there = "/dpo/runs/merged"
    assert not any("does not fit" in one for one in serve(found, How(backend="kubernetes", merged=there)).notices)
    assert "--tensor-parallel-size\n" in serve(found, How(backend="kubernetes", merged=there, gpus=4)).text.replace("'", "")


def test_a_server_on_several_gpus_waits_in_the_queue_of_the_experiment(here: Path) -> None:
    """Kueue reads the Deployment's label, and admits nothing that asks for the nodes' disks."""
    launch = {"kubernetes": {"namespace": "dpo", "queue": "serving"}}
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-8B", launch=launch)
    printed = serve(found, How(backend="kubernetes", gpus=4)).text
    file = GOLDEN / "serve-on-four-gpus.yaml"
    if os.environ.get("REWRITE_GOLDEN"):
        file.write_text(printed)
    assert printed == file.read_text()
    deployment, service = yaml.safe_load_all(printed)
    kubernetes_validate.validate(deployment, "1.34", strict=True)
    label = {"kueue.x-k8s.io/queue-name": "serving"}
    assert label.items() <= deployment["metadata"]["labels"].items()
    assert not label.keys() & (service["metadata"]["labels"].keys() | deployment["spec"]["selector"]["matchLabels"].keys())
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "4"
    assert "ephemeral-storage" not in {**resources["limits"], **resources["requests"]}


def test_slices_of_a_gpu_hold_no_part_of_a_model(here: Path) -> None:
    launch = {"kubernetes": {"gpu_resource": "nvidia.com/mig-3g.40gb"}}
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-8B", launch=launch)
    with pytest.raises(UsageError, match=r"vLLM cannot spread a model over slices of a GPU \(nvidia.com/mig-3g.40gb\)"):
        serve(found, How(backend="kubernetes", gpus=2))
    assert "nvidia.com/mig-3g.40gb: '1'" in serve(found, How(backend="kubernetes")).text


def test_gpus_of_amd_are_served_by_vllm_s_image_for_them(here: Path) -> None:
    launch = {"kubernetes": {"gpu_resource": "amd.com/gpu"}}
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-8B", launch=launch)
    serving = serve(found, How(backend="kubernetes"))
    (container,) = next(yaml.safe_load_all(serving.text))["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm/vllm-openai-rocm:v0.32.0"
    assert serving.notices[-1].startswith("vllm/vllm-openai-rocm:v0.32.0 is pinned by its tag")
    own = serve(found, How(backend="kubernetes", image="mirror/vllm@sha256:00"))
    assert "image: mirror/vllm@sha256:00" in own.text


def test_pods_trust_the_certificates_of_the_experiment(here: Path) -> None:
    """What fetches the adapter from a bucket, and the server, which downloads the base from a hub."""
    _, authority = served_certificate(here)
    launch = {"ca_bundle": authority.name}
    found = target(here, record=KUBERNETES["serve-from-a-bucket"], model_name="Qwen/Qwen3-0.6B", launch=launch)
    printed = serve(found, How(backend="kubernetes")).text
    assert printed.startswith("# one with vLLM; apply it with: kubectl apply --server-side -f -\n"), "a bundle may be large"
    certificates, deployment, _ = yaml.safe_load_all(printed)
    kubernetes_validate.validate(certificates, "1.34", strict=True)
    assert (certificates["metadata"]["name"], certificates["data"]) == ("serve-one-ca", {"ca.pem": authority.read_text()})
    assert "immutable" not in certificates, "it is applied again when the certificates change"
    template = deployment["spec"]["template"]
    pod = template["spec"]
    assert {"name": "ca", "configMap": {"name": "serve-one-ca"}} in pod["volumes"]
    for container in (*pod["containers"], *pod["initContainers"]):
        assert {"name": "ca", "mountPath": "/dpo/ca", "readOnly": True} in container["volumeMounts"]
        names = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
        assert {_environment(container)[name] for name in names} == {"/dpo/ca/ca.pem"}
    other = here / "other"
    other.mkdir()
    authority.write_text(served_certificate(other)[1].read_text())
    again = list(yaml.safe_load_all(serve(found, How(backend="kubernetes")).text))[1]["spec"]["template"]
    assert template["metadata"]["annotations"] != again["metadata"]["annotations"], "pods with the old ones are replaced"


def test_a_server_that_downloads_nothing_needs_no_certificates(here: Path) -> None:
    _, authority = served_certificate(here)
    found = target(here, launch={"ca_bundle": str(authority)})
    assert "ca.pem" not in serve(found, How(backend="kubernetes", merged="/dpo/runs/merged")).text
    assert str(authority) not in serve(found, How(backend="docker")).text + serve(found, How()).text


def test_certificates_that_do_not_reach_a_pod_are_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/company.pem")
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-0.6B")
    said = "SSL_CERT_FILE is not passed on: a pod has no /etc/company.pem; set launch.ca_bundle: /etc/company.pem"
    assert said in serve(found, How(backend="kubernetes")).notices
    assert said not in serve(found, How(backend="kubernetes", merged="/dpo/runs/merged")).notices
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/company.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "/etc/company")
    said = said.replace("SSL_CERT_FILE is", "REQUESTS_CA_BUNDLE and SSL_CERT_FILE are")
    assert [one for one in serve(found, How(backend="kubernetes")).notices if "passed on" in one] == [said], "once for each file"
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name)
    said = (
        "SSL_CERT_DIR is not passed on: a pod has no /etc/company; "
        "write its certificates into one file, and name that in launch.ca_bundle"
    )
    assert said in serve(found, How(backend="kubernetes")).notices, "launch.ca_bundle is a file"


def test_a_container_trusts_the_certificates_of_the_experiment_and_uses_the_proxy(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, authority = served_certificate(here)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://me:hush@proxy.example.com:3128")
    found = target(here, model_name="Qwen/Qwen3-0.6B", launch={"ca_bundle": authority.name})
    serving = serve(found, How(backend="docker"))
    line = argv(serving.text)
    assert f"type=bind,source={authority},target=/dpo/ca/ca.pem,readonly" in line
    assert {"SSL_CERT_FILE=/dpo/ca/ca.pem", "REQUESTS_CA_BUNDLE=/dpo/ca/ca.pem"} <= set(line)
    assert line[line.index("HTTPS_PROXY=http://proxy.example.com:3128") - 1] == "--env"
    assert line[line.index("HTTP_PROXY") - 1] == "--env", "a password is passed by the variable's name alone"
    assert "hush" not in serving.text + repr(serving)
    authority.unlink()
    with pytest.raises(ExperimentError, match=r"launch.ca_bundle: .*not found"):
        serve(found, How(backend="docker"))


def test_a_container_has_the_caller_s_own_files_of_certificates(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, authority = served_certificate(here)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    found = target(here, model_name="Qwen/Qwen3-0.6B")
    line = argv(serve(found, How(backend="docker")).text)
    assert f"type=bind,source={authority},target=/dpo/ca/SSL_CERT_FILE,readonly" in line
    assert "SSL_CERT_FILE=/dpo/ca/SSL_CERT_FILE" in line


def test_a_server_on_this_machine_trusts_the_certificates_of_the_experiment(here: Path) -> None:
    _, authority = served_certificate(here)
    (here / ".env").write_text("HTTPS_PROXY=http://proxy.example.com:3128\n")
    found = target(here, model_name="Qwen/Qwen3-0.6B", launch={"ca_bundle": authority.name})
    serving = serve(found, How())
    assert serving.environment["SSL_CERT_FILE"] == str(authority)
    assert serving.text.startswith("HTTPS_PROXY=http://proxy.example.com:3128 AWS_CA_BUNDLE="), "it is in .env alone"


def test_a_server_that_still_loads_its_model_does_not_count_as_failed(here: Path) -> None:
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-0.6B")
    spec = next(yaml.safe_load_all(serve(found, How(backend="kubernetes")).text))["spec"]
    probe = spec["template"]["spec"]["containers"][0]["startupProbe"]
    assert spec["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"] == 1800


def test_the_command_that_asks_the_server_names_its_namespace(here: Path) -> None:
    found = target(here, record={"backend": "kubernetes"}, model_name="Qwen/Qwen3-0.6B")
    line = serve(found, How(backend="kubernetes", namespace="team")).text.splitlines()[1]
    assert line == "# ask it with: kubectl -n team port-forward service/serve-one 8000:80"


@pytest.mark.parametrize("source", ["serve-from-a-hub", "serve-from-a-bucket"])
def test_the_image_of_the_server_also_fetches_the_adapter(here: Path, source: str) -> None:
    """A closed network, or a policy of digests, needs one image."""
    image = f"mirror.example.com/vllm@sha256:{'0' * 64}"
    found = target(here, record=KUBERNETES[source], model_name="Qwen/Qwen3-0.6B")
    pod = next(yaml.safe_load_all(serve(found, How(backend="kubernetes", image=image)).text))["spec"]["template"]["spec"]
    assert [one["image"] for one in (*pod["initContainers"], *pod["containers"])] == [image, image]


def fetched(here: Path, endpoint: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """What the pod does before its server starts, here."""
    uploaded = {"uri": "s3://models/team/exp_demo/one", "endpoint_url": endpoint}
    found = target(here, record={"uploaded": uploaded}, model_name="Qwen/Qwen3-0.6B")
    pod = next(yaml.safe_load_all(serve(found, How(backend="kubernetes")).text))["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    _, *command = (word.replace("$$", "$") for word in (*container["command"], *container["args"]))
    secrets = here / "secrets"
    secrets.mkdir()
    for name in _files(pod, container):
        (secrets / name).write_text("x\n")
    environment = {**{one["name"]: one["value"] for one in container["env"]}, "DPO_SECRETS": str(secrets), **more}
    moved = [word.replace("/dpo/adapter", str(folder)) for word in command]
    return subprocess.run([sys.executable, *moved], env=environment, cwd=here, capture_output=True, text=True, check=False)


def test_the_pod_copies_the_files_below_the_adapter_s_address_in_a_bucket(here: Path) -> None:
    with MotoServer() as server:
        client = server.emptied("models")
        there = {"adapter_config.json": b"{}", "sub/weights.bin": bytes(9 << 20), "sub/": b""}
        for name, content in there.items():
            client.put_object(Bucket="models", Key=f"team/exp_demo/one/{name}", Body=content)
        client.put_object(Bucket="models", Key="team/exp_demo/one-more/adapter_config.json", Body=b"of another run")
        done = fetched(here, server.url, here / "fetched", AWS_REGION="us-east-1")
        assert (done.returncode, done.stderr) == (0, "")
        files = [one for one in (here / "fetched").rglob("*") if one.is_file()]
        found = {str(one.relative_to(here / "fetched")): one.read_bytes() for one in files}
        assert found == {"adapter_config.json": b"{}", "sub/weights.bin": bytes(9 << 20)}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "s3://models/team/exp_demo/one: no files found"),
        ("team/exp_demo/one/../../out", "s3://models/team/exp_demo/one/../../out: leads out of the folder"),
    ],
)
def test_a_bucket_without_the_adapter_or_with_a_key_that_leads_elsewhere_ends_the_pod_with_the_reason(
    here: Path, key: str | None, said: str
) -> None:
    with MotoServer() as server:
        client = server.emptied("models")
        if key is not None:
            client.put_object(Bucket="models", Key=key, Body=b"x")
        done = fetched(here, server.url, here / "a/b/fetched")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)
    assert not (here / "a/b/out").exists()


def test_weights_that_only_this_machine_has_are_not_served_on_a_cluster(here: Path) -> None:
    with pytest.raises(UsageError, match=r"qwen3-tiny is on this machine, where pods cannot read it"):
        serve(target(here), How(backend="kubernetes"))
    found = target(here / "other", model_name="Qwen/Qwen3-0.6B")
    with pytest.raises(UsageError, match=r"the adapter of one is on this machine(.|\n)*launcher upload one"):
        serve(found, How(backend="kubernetes"))


def test_ollama_takes_a_merged_model_that_is_converted_to_gguf(here: Path) -> None:
    found = target(here)
    with pytest.raises(UsageError) as raised:
        serve(found, How(engine="ollama"))
    hint = "launcher merge one -o one-merged, then launcher serve one --merged one-merged --engine ollama"
    assert str(raised.value).splitlines() == ["Ollama takes one only merged", f"    hint:     {hint}"]
    merged = model(here / "merged model", "Qwen3ForCausalLM")
    serving = serve(found, How(engine="ollama", merged=str(merged), length=4096))
    assert serving.text.splitlines() == [
        "# git clone --depth 1 https://github.com/ggml-org/llama.cpp",
        "# pip install -r llama.cpp/requirements/requirements-convert_hf_to_gguf.txt",
        f"# python llama.cpp/convert_hf_to_gguf.py '{merged}' --outtype bf16 --outfile one.gguf",
        "# ollama create one -f Modelfile && ollama run one",
        "FROM ./one.gguf",
        "PARAMETER num_ctx 4096",
    ]
    assert serving.notices == ()


def test_the_modelfile_holds_the_run_s_system_message(here: Path) -> None:
    found = target(here)
    assert found.run is not None
    kept = {"system": 'Say "yes"\nor "no".', "user": ["", "question", "?"], "place": None}
    found.run.prompt.write_text(json.dumps(kept))
    merged = model(here / "merged", "Qwen3ForCausalLM")
    serving = serve(found, How(engine="ollama", merged=str(merged)))
    assert serving.text.endswith('\nSYSTEM """Say "yes"\nor "no"."""\n')
    assert serving.notices == (f"clients must send the run's user template, as launcher chat does: see {found.run.prompt}",)
    found.run.prompt.write_text(json.dumps({**kept, "system": 'Use """.', "user": ["", "question", ""]}))
    serving = serve(found, How(engine="ollama", merged=str(merged)))
    assert "SYSTEM" not in serving.text
    assert serving.notices == ("the run's system message has three quotes, which no Modelfile can hold: clients must send it",)


def test_a_server_that_is_not_installed_is_an_error_with_the_way_to_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(LauncherError, match=r"vllm not found\n.*pip install vllm, or serve in a container: --backend docker"):
        serve(target(here), How()).run()


def test_the_server_replaces_the_launcher_s_process(here: Path) -> None:
    """A program of that name answers what it was started with."""
    (here / "vllm").write_text('#!/bin/sh\necho "$1 $4"\n')
    (here / "vllm").chmod(0o755)
    found = target(here)
    env = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "launcher", "serve", str(found.folder), "--run"]
    assert subprocess.run(argv, env=env, cwd=here, capture_output=True, text=True, check=True).stdout == "serve --lora-modules\n"


def test_the_server_has_the_hub_s_token_of_the_env_file(here: Path) -> None:
    (here / "docker").write_text("#!/bin/sh\necho $HF_TOKEN\n")
    (here / "docker").chmod(0o755)
    (here / ".env").write_text("HF_TOKEN=hf_of_the_file\n")
    found = target(here, model_name="Qwen/Qwen3-0.6B")
    serving = serve(found, How(backend="docker"))
    assert "hf_of_the_file" not in serving.text + repr(serving)
    assert serving.notices[-1] == "HF_TOKEN is only in .env: --run passes it on; export it for the printed command"
    env = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "launcher", "serve", str(found.folder), "--backend", "docker", "--run"]
    assert subprocess.run(argv, env=env, cwd=here, capture_output=True, text=True, check=True).stdout == "hf_of_the_file\n"


def test_a_folder_with_a_comma_or_a_quote_is_mounted_in_a_container(here: Path) -> None:
    """Docker reads the value of --mount as a line of CSV."""
    merged = model(here / 'sft, then "dpo"', "LlamaForCausalLM")
    line = argv(serve(target(here), How(backend="docker", merged=str(merged))).text)
    (fields,) = csv.reader([line[line.index("--mount") + 1]])
    assert fields == ["type=bind", f"source={merged}", "target=/model", "readonly"]


def test_a_hub_of_one_s_own_reaches_the_server_in_a_container(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = target(here, model_name="Qwen/Qwen3-0.6B")
    assert "HF_ENDPOINT" not in serve(found, How(backend="docker")).text
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.com")
    line = argv(serve(found, How(backend="docker")).text)
    assert line[line.index("HF_ENDPOINT=https://hub.example.com") - 1] == "--env"
    assert "HF_ENDPOINT" not in serve(target(here / "other"), How(backend="docker")).text, "the model is on this machine"
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hush@hub.example.com")
    line = argv(serve(found, How(backend="docker")).text)
    assert line[line.index("HF_ENDPOINT") - 1] == "--env", "a password is passed by the variable's name alone"


def test_the_hint_to_merge_an_adapter_s_folder_names_its_path(here: Path) -> None:
    folder = here / "their adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({**PLAIN, "use_dora": True, "base_model_name_or_path": "Qwen/Qwen3-0.6B"})
    )
    with pytest.raises(UsageError) as caught:
        serve(Target.of(folder), How())
    assert f"launcher merge '{folder}' -o 'their adapter-merged', then launcher serve '{folder}' --merged" in str(caught.value)


def test_a_hub_of_one_s_own_is_named_in_the_command_for_this_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / ".env").write_text("HF_ENDPOINT=https://hub.example.com\n")
    found = target(here, model_name="Qwen/Qwen3-0.6B")
    assert serve(found, How()).text.startswith("HF_ENDPOINT=https://hub.example.com vllm serve Qwen/Qwen3-0.6B")
    assert "HF_ENDPOINT" not in serve(target(here / "other"), How()).text, "the model is on this machine"
    monkeypatch.delenv("HF_ENDPOINT")  # reading the file sets it for libraries
    (here / ".env").write_text("HF_ENDPOINT=https://me:hush@hub.example.com\n")
    serving = serve(found, How())
    assert "hush" not in serving.text + repr(serving)
    assert serving.notices == ("HF_ENDPOINT is only in .env: --run passes it on; export it for the printed command",)


def test_a_base_that_a_run_downloaded_is_not_downloaded_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = target(here, record={"model": {"revision": "c0ffee"}}, model_name="Qwen/Qwen3-0.6B")
    hub = here / ".cache/dpo-launcher/huggingface/hub"
    model(hub / "models--Qwen--Qwen3-0.6B/snapshots/another", "Qwen3ForCausalLM")
    assert "HF_HUB_CACHE" not in serve(found, How()).text
    model(hub / "models--Qwen--Qwen3-0.6B/snapshots/c0ffee", "Qwen3ForCausalLM")
    assert serve(found, How()).text.startswith(f"HF_HUB_CACHE={hub} vllm serve Qwen/Qwen3-0.6B")
    monkeypatch.setenv("HF_HOME", str(hub.parent))
    assert serve(found, How()).text.startswith("vllm serve Qwen/Qwen3-0.6B"), "vLLM looks there by itself"
