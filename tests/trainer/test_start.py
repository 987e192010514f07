"""A training that starts from an adapter, in both modes, against float64 and against TRL."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.trainer.trained import events, train_in
from trainer.processes.stop import StopRequest

pytestmark = pytest.mark.slow

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
SHORT: dict[str, Any] = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "target_modules": ["q_proj", "up_proj"]}


@pytest.fixture(scope="module")
def sft(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 4 on other layers than SHORT trains, with weights that change the model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapters") / "sft"
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, make_experiment: Make, few_pairs: Path, sft: Path
) -> dict[str, tuple[RunDir, Experiment]]:
    """A run of three steps in each mode; continue follows the shape of its adapter."""
    root, found = tmp_path_factory.mktemp("start"), {}
    for mode in ("continue", "merge"):
        settings = {name: value for name, value in SHORT.items() if mode == "merge" or name != "target_modules"}
        about = {"datasets_path": str(few_pairs), "adapter": str(sft), "adapter_mode": mode}
        experiment = make_experiment(experiment=about, **settings, eval_steps=3, eval_strategy="steps")
        run = RunDir.of(root, "out", "tiny", experiment.model_folder, mode)
        run.create({run.experiment: experiment.model_dump_json()}, {"run": mode})
        train_in(root, run, experiment)
        found[mode] = run, experiment
    return found


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_the_first_step_has_the_loss_of_zero_margin(runs: dict[str, tuple[RunDir, Experiment]], mode: str) -> None:
    first = events(runs[mode][0], "train")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert events(runs[mode][0], "train")[-1]["rewards/margins"] != 0


def logps_64(folder: Path, adapters: list[Path], pairs: Any) -> Any:
    """[n, 2] sums of log-probabilities in float64, by transformers' logits, with W + s·B·A written out for each adapter."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    weights = dict(model.named_parameters())
    for adapter in adapters:
        config, tensors = (
            json.loads((adapter / "adapter_config.json").read_text()),
            load_file(adapter / "adapter_model.safetensors"),
        )
        for name in [key for key in tensors if "lora_A" in key]:
            a, b = tensors[name].double(), tensors[name.replace("lora_A", "lora_B")].double()
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            scale = config["alpha_pattern"].get(module, config["lora_alpha"]) / len(a)
            weights[f"{module}.weight"].data += scale * (b @ a)
    found = torch.zeros(len(pairs), 2, dtype=torch.float64)
    for number in range(len(pairs)):
        pair = pairs[number]
        for column, answer in enumerate((pair.chosen, pair.rejected)):
            ids = torch.tensor([[*pair.prompt, *answer]])
            with torch.no_grad():
                logits = model(ids).logits.log_softmax(-1)[0]
            places = range(len(pair.prompt) - 1, ids.shape[1] - 1)
            found[number, column] = sum(logits[place, ids[0, place + 1]] for place in places)
    return found


def started(root: Path, experiment: Experiment, mode: str) -> Any:
    """(the trainer of a run before its first step, its inputs), by the functions of a run."""
    from trainer.prepare.inputs import find_model, prepare_inputs
    from trainer.prepare.model import prepare_model
    from trainer.prepare.rank import Rank, Roots
    from trainer.prepare.trainer import prepare_trainer
    from trainer.processes.ranks.machine import Device

    run = RunDir.of(root, "out", "tiny", experiment.model_folder, f"{mode}-apart")
    run.create({run.experiment: experiment.model_dump_json()}, {"run": run.name})
    rank = Rank(run, experiment, Roots(root, root, root / "cache"), StopRequest(), 1, Device.here(0.9))
    rank, located = find_model(rank)
    inputs = prepare_inputs(rank, located)
    return prepare_trainer(rank, inputs, prepare_model(rank, inputs)).trainer, inputs


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_policy_and_reference_before_the_first_step_are_base_and_adapter_in_float64(
    tmp_path: Path, runs: dict[str, tuple[RunDir, Experiment]], sft: Path, tiny_model: Path, mode: str
) -> None:
    import torch

    from trainer.step.choosing.choice import as_reference, choose_path, score

    trainer, inputs = started(tmp_path, runs[mode][1], mode)
    pairs = inputs.tokens.pairs[:4]
    expected = logps_64(tiny_model, [sft], pairs)
    assert (expected - logps_64(tiny_model, [], pairs)).abs().min() > 0.05, "the adapter changes the model"
    for wanted in ("plain", "fast"):
        choice = choose_path(trainer, wanted, inputs.tokens, None)
        with as_reference(trainer) as called:
            reference = score(trainer, called, choice, pairs)
        torch.testing.assert_close(reference, expected, atol=2e-4, rtol=0)
    policy = torch.stack(_policy(trainer, pairs), 1).double()
    torch.testing.assert_close(policy, expected, atol=2e-4, rtol=0)


def _policy(trainer: Any, pairs: Any) -> Any:
    import torch

    from trainer.step.choosing.comparison import features

    inputs = trainer._prepare_inputs(trainer.data_collator([features(pair) for pair in pairs]))
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    with torch.no_grad():
        output = trainer.model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels, fused_lm_head=True
        )
    return output.log_probs.sum(1).view(2, -1).unbind(0)


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_the_adapter_of_each_mode_sits_on_the_plain_base(
    runs: dict[str, tuple[RunDir, Experiment]], sft: Path, tiny_model: Path, mode: str
) -> None:
    """Its log-probabilities there are those that the run ended with."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run, _ = runs[mode]
    found = run.read_record()["adapter"]
    assert (found["name"], found["mode"], found["revision"], found["base"]) == (str(sft), mode, None, str(tiny_model))
    assert set(found["sha256"]) == {"adapter_config.json", "adapter_model.safetensors"}
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(run.adapter))
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    if mode == "continue":
        assert (config["r"], config["lora_alpha"], sorted(config["target_modules"])) == (4, 6, ["down_proj", "q_proj"])
        return
    assert sorted(config["target_modules"]) == ["down_proj", "q_proj", "up_proj"]
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    ranks = {name.rpartition(".")[2]: module.r["default"] for name, module in layers.items()}
    assert ranks == {"q_proj": 20, "down_proj": 4, "up_proj": 16}
    assert {module.scaling["default"] for module in layers.values()} == {1.0}
    assert run.read_record()["result"]["verified"]["joined_logp_difference"] < 1e-5


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_the_rewards_of_a_finished_run_are_against_the_model_that_it_started_from(
    runs: dict[str, tuple[RunDir, Experiment]],
    few_pairs: Path,
    mode: str,
    tmp_path: Path,
) -> None:
    from trainer.after.score import scored

    run = RunDir(shutil.copytree(runs[mode][0].path, tmp_path / mode))
    experiment = json.loads(run.experiment.read_text())
    run.experiment.write_text(json.dumps({**experiment, "adapter": str(tmp_path / "gone")}))
    found = scored(run, few_pairs / "validation_data.csv", tmp_path)
    known = [json.loads(line) for line in (run.evaluation / "pairs.jsonl").read_text().splitlines()]
    assert len(found["pairs"]) == len(known) == 4
    for pair, then in zip(found["pairs"], known, strict=True):
        assert (pair["chosen"], pair["rejected"]) == pytest.approx((then["chosen"], then["rejected"]), abs=2e-5)
    assert max(abs(then["chosen"]) for then in known) > 2e-4, "three steps moved the model"


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_trl_takes_the_same_steps_with_a_peft_model(
    tmp_path: Path, runs: dict[str, tuple[RunDir, Experiment]], sft: Path, tiny_model: Path, mode: str
) -> None:
    """TRL's own trainer, which makes its reference by itself: losses, margins and gradients of the run's three steps."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from trl import DPOTrainer as Theirs

    run, experiment = runs[mode]
    trainer, inputs = started(tmp_path, experiment, f"{mode}-trl")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(sft), is_trainable=True)
    config = None
    if mode == "merge":
        model, config = model.merge_and_unload(), trainer.model.peft_config["default"]

    class Plain(Theirs):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    inputs.args.eval_on_start, inputs.args.eval_strategy, inputs.args.save_strategy = False, "no", "no"
    inputs.args.precompute_ref_log_probs = False
    theirs = Plain(
        model=model,
        args=inputs.args,
        train_dataset=inputs.tokens.dataset(),
        processing_class=inputs.tokenizer,
        peft_config=config,
    )
    if mode == "merge":  # the same first weights: TRL draws them from another seed
        theirs.model.load_state_dict({n: p for n, p in trainer.model.state_dict().items() if "lora_" in n}, strict=False)
    theirs.train()
    logged = [line for line in theirs.state.log_history if "loss" in line]
    lines = events(run, "train")
    assert len(lines) == len(logged) == 3
    for ours, line in zip(lines, logged, strict=True):
        for name in ("loss", "rewards/margins", "rewards/chosen", "grad_norm"):
            assert ours[name] == pytest.approx(line[name], abs=2e-4, rel=2e-3), name
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_a_resumed_run_ends_in_the_same_bits_also_without_the_reference_cache(
    tmp_path: Path, runs: dict[str, tuple[RunDir, Experiment]], new_run: NewRun, mode: str
) -> None:
    from safetensors.torch import load_file

    whole, experiment = runs[mode]
    (tmp_path / "cache").mkdir()  # empty: the reference is computed again, and the checkpoint's adapter is a trained one
    h = experiment.hyperparameters.model_copy(update={"resume_from_checkpoint": str(whole.path / "checkpoint-2")})
    again = experiment.model_copy(update={"hyperparameters": h})
    rest = new_run(tmp_path, again, f"rest-{mode}")
    train_in(tmp_path, rest, again)
    assert [event["step"] for event in events(rest, "train")] == [3]
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, rest))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert events(rest, "train")[-1]["loss"] == events(whole, "train")[-1]["loss"]


def test_a_run_starts_again_from_its_own_copy_of_an_adapter_that_is_changed_or_gone(
    tmp_path: Path, make_experiment: Make, sft: Path, new_run: NewRun, capsys: pytest.CaptureFixture[str]
) -> None:
    original = shutil.copytree(sft, tmp_path / "sft")
    (original / "chat_template.jinja").write_text("{{ messages }}")
    (original / "optimizer.pt").write_text("large, and not read")
    experiment = make_experiment(experiment={"adapter": str(original)})
    run = new_run(tmp_path, experiment, "kept")
    first = start_of(run, experiment, tmp_path)
    assert first.folder == original
    names = {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"}
    assert {file.name for file in run.start.iterdir()} == names
    assert run.read_record()["adapter"]["sha256"] == dict(first.sha256)

    (original / "adapter_model.safetensors").write_bytes(b"other")
    changed = start_of(run, experiment, tmp_path)
    shutil.rmtree(original)
    gone = start_of(run, experiment, tmp_path)
    for again in (changed, gone):
        assert (again.folder, again.identity, again.name) == (run.start, first.identity, str(original))

    (run.start / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(ExperimentError, match=r"no snapshot|not found|cannot|must be"):
        start_of(run, experiment, tmp_path)
    shutil.copytree(sft, original)
    assert start_of(run, experiment, tmp_path).folder == original
    assert f"warning: {run.start} was changed since the run started: the adapter is read again" in capsys.readouterr().out
    assert start_of(run, experiment, tmp_path).folder == run.start, "it was copied again"


def test_an_adapter_for_whose_copy_the_disk_has_no_room_is_said(
    tmp_path: Path,
    make_experiment: Make,
    sft: Path,
    new_run: NewRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1 << 30))
    experiment = make_experiment(experiment={"adapter": str(sft)})
    run = new_run(tmp_path, experiment, "large")
    assert start_of(run, experiment, tmp_path).folder == sft
    assert not run.start.exists()
    told = capsys.readouterr().out
    assert f"and 1.0 GiB are free in {run.path}: it is not copied; keep it to resume or repeat this run" in told


def start_of(run: RunDir, experiment: Experiment, root: Path) -> Any:
    """What an attempt of the run starts from."""
    from trainer.prepare.inputs import find_model
    from trainer.prepare.rank import Rank, Roots
    from trainer.processes.ranks.machine import Device

    rank = Rank(run, experiment, Roots(root, root, root / "cache"), StopRequest(), 1, Device.here(0.9))
    return find_model(rank)[1].start


def test_a_checkpoint_of_another_adapter_is_not_resumed(
    tmp_path: Path, runs: dict[str, tuple[RunDir, Experiment]], new_run: NewRun, sft: Path
) -> None:
    from safetensors.torch import load_file, save_file

    whole, experiment = runs["continue"]
    other = shutil.copytree(sft, tmp_path / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, other / "adapter_model.safetensors", {"format": "pt"})
    h = experiment.hyperparameters.model_copy(update={"resume_from_checkpoint": str(whole.path / "checkpoint-2")})
    again = experiment.model_copy(update={"hyperparameters": h, "adapter": str(other)})
    with pytest.raises(ExperimentError, match=r"checkpoint-2 was trained from another adapter") as caught:
        train_in(tmp_path, new_run(tmp_path, again, "other"), again)
    assert f"expected: {sft}, continue, files" in str(caught.value)


def test_all_weights_are_trained_from_the_merged_model(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, sft: Path, new_run: NewRun, tiny_model: Path
) -> None:
    from trainer.after.loaded import find

    about = {"datasets_path": str(few_pairs), "adapter": str(sft), "adapter_mode": "merge"}
    experiment = make_experiment(experiment=about, max_steps=2, full_finetuning=True, learning_rate=1e-4)
    run = new_run(tmp_path, experiment, "full")
    train_in(tmp_path, run, experiment)
    lines = events(run, "train")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[1]["rewards/margins"] != 0
    assert (run.adapter / "config.json").is_file()
    found = find(run.path, tmp_path / "cache", masters=True, with_start=True)
    reference, trained = found.load().reference(), found.load().model
    apart = max(float((a - b).abs().max()) for a, b in zip(reference.parameters(), trained.parameters(), strict=True))
    assert 0 < apart < 1e-3, "two steps away from the merged model, and not from the base"


def test_an_adapter_of_the_hub_is_pinned_by_its_revision_and_may_be_named_as_the_model(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, sft: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from launcher.job.adapter_config import AdapterConfig
    from trainer.inputs.models.starting import locate

    hub = tmp_path / "hub" / "models--me--sft"
    for commit, rank in (("a" * 40, 4), ("b" * 40, 8)):
        folder = shutil.copytree(sft, hub / "snapshots" / commit)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, "r": rank}))
    (hub / "refs").mkdir()
    for ref, commit in (("main", "b" * 40), ("v1", "a" * 40)):
        (hub / "refs" / ref).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, commit, rank in (("me/sft@v1", "a", 4), (f"me/sft@{'a' * 40}", "a", 4), ("me/sft", "b", 8)):
        experiment = make_experiment(experiment={"adapter": name}, model_cache_dir=str(tmp_path / "hub"))
        start = locate(experiment, tmp_path, tmp_path / "cache", first=True).start
        assert start is not None
        assert (start.revision, start.json()["revision"]) == (commit * 40,) * 2
        assert start.folder == hub / "snapshots" / (commit * 40)
        assert locate(experiment, tmp_path, tmp_path / "cache", first=True).experiment.hyperparameters.r == rank
    again = locate(experiment, tmp_path, tmp_path / "cache", first=True, commit="a" * 40).start
    assert again is not None
    assert again.revision == "a" * 40, "main has moved since the run was started"
    as_model = make_experiment(experiment={"model_name": "me/sft"}, model_cache_dir=str(tmp_path / "hub"))
    located = locate(as_model, tmp_path, tmp_path / "cache", first=True)
    assert (located.experiment.model_name, located.experiment.adapter, located.path) == (
        AdapterConfig.read("sft", sft / "adapter_config.json").base,
        "me/sft",
        str(tiny_model),
    )
    missing = make_experiment(experiment={"adapter": "me/sft@v9"}, model_cache_dir=str(tmp_path / "hub"))
    with pytest.raises(ExperimentError, match=r"adapter: cannot load me/sft@v9"):
        locate(missing, tmp_path, tmp_path / "cache", first=True)


def test_an_adapter_of_another_model_is_refused_with_both_names(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, sft: Path, new_run: NewRun
) -> None:
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(sft, tmp_path / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    wrong = {name: tensor[:, :8].contiguous() if "lora_A" in name else tensor for name, tensor in tensors.items()}
    save_file(wrong, other / "adapter_model.safetensors", {"format": "pt"})
    experiment = make_experiment(experiment={"datasets_path": str(few_pairs), "adapter": str(other)}, max_steps=1)
    with pytest.raises(ExperimentError, match=f"adapter: the adapter {other} does not fit the model {experiment.model_name}"):
        train_in(tmp_path, new_run(tmp_path, experiment, "other-model"), experiment)


def test_an_adapter_on_single_tokens_of_an_embedding_that_is_the_head_is_refused(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, tiny_model: Path, new_run: NewRun
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    about: dict[str, Any] = {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6], "task_type": "CAUSAL_LM"}
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(**about)).save_pretrained(tmp_path / "tokens")
    experiment = make_experiment(experiment={"datasets_path": str(few_pairs), "adapter": str(tmp_path / "tokens")}, max_steps=1)
    with pytest.raises(ExperimentError, match=r"tokens trains single tokens of an embedding that is also the head"):
        train_in(tmp_path, new_run(tmp_path, experiment, "tokens"), experiment)


def test_python_takes_the_keys_by_the_schema(sft: Path, tiny_model: Path, few_pairs: Path) -> None:
    from trainer import DPOTrainer

    trainer = DPOTrainer(model_name=str(tiny_model), datasets_path=str(few_pairs), adapter=str(sft), adapter_mode="merge")
    assert (trainer.experiment.adapter, trainer.experiment.adapter_mode) == (str(sft), "merge")


@pytest.mark.gpu
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_on_a_gpu_quantised_weights_start_from_an_adapter(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, sft: Path, new_run: NewRun, bits: str, mode: str
) -> None:
    pytest.importorskip("bitsandbytes")
    about = {"datasets_path": str(few_pairs), "adapter": str(sft), "adapter_mode": mode}
    experiment = make_experiment(experiment=about, max_steps=2, **{bits: True})
    run = new_run(tmp_path, experiment, f"{bits}-{mode}")
    train_in(tmp_path, run, experiment)
    assert events(run, "train")[0]["loss"] == pytest.approx(math.log(2), abs=0.05)
    verified = run.read_record()["result"]["verified"]
    assert verified["largest_logp_difference"] == 0.0
    assert ("joined_logp_difference" in verified) == (mode == "merge")


def test_an_adapter_that_is_trained_on_names_the_base_of_this_run_and_no_path_of_the_one_before(
    tmp_path: Path, make_experiment: Make, sft: Path, tiny_model: Path
) -> None:
    import torch

    from trainer.inputs.models.model import Precision
    from trainer.inputs.models.start_model import load_start
    from trainer.inputs.models.starting import locate

    folder = shutil.copytree(sft, tmp_path / "sft")
    config = json.loads((folder / "adapter_config.json").read_text())
    about = {"base_model_name_or_path": "/home/alice/models/llama", "revision": "theirs"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **about}))
    located = locate(make_experiment(experiment={"adapter": str(folder)}), tmp_path, tmp_path / "cache", first=True)
    precision = Precision(torch.float32, bf16=False, fp16=False)
    load_start(located.experiment, located.path, precision, located.start, cuda=False).save_pretrained(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == (str(tiny_model), None)


def test_an_adapter_in_a_bucket_is_trained_on_like_the_folder_that_was_uploaded(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, sft: Path, new_run: NewRun, moto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    client = moto.emptied()
    client.create_bucket(Bucket="models")
    for file in sft.iterdir():
        client.put_object(Bucket="models", Key=f"team/sft/{file.name}", Body=file.read_bytes())
    storage = {"bucket_name": "models", "endpoint_url": moto.url}
    found = {}
    for place in (str(sft), "s3://models/team/sft"):
        about = {"datasets_path": str(few_pairs), "adapter": place, "storage_config": storage}
        experiment = make_experiment(experiment=about, max_steps=1)
        run = found[place] = new_run(tmp_path, experiment, "bucket" if place.startswith("s3:") else "folder")
        train_in(tmp_path, run, experiment)
    folder, bucket = found.values()
    assert bucket.read_record()["adapter"]["name"] == "s3://models/team/sft"
    assert (bucket.adapter / "adapter_model.safetensors").read_bytes() == (
        folder.adapter / "adapter_model.safetensors"
    ).read_bytes()
    assert events(bucket, "train")[0]["logps/chosen"] == events(folder, "train")[0]["logps/chosen"]
