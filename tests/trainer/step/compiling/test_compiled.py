"""Compiled decoder layers: one graph for all layers and lengths, few kernels, and the numbers of eager layers."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.errors import ExperimentError, Warned
from launcher.experiment.schema import Experiment

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache of kernels."""
    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        torch._dynamo.reset()
        yield folder
        torch._dynamo.reset()


def bf16() -> Any:
    from trainer.inputs.models.model import Precision

    return Precision(torch.bfloat16, bf16=True, fp16=False)


def begun(folder: Path, experiment: Experiment, precision: Any = None) -> Any:
    """A trainer on the way to the fast path, its pairs, and the choice of that path, with eager layers."""
    from tests.trainer.conftest import trainer_of
    from trainer.inputs.models.adapter import skip_input_casts
    from trainer.step.choosing.choice import Choice
    from trainer.step.packed import Packed

    trainer, tokens, precision = trainer_of(folder, experiment, precision, pairs=12)
    if precision.bf16:
        skip_input_casts(trainer.model)
    trainer.origin = {"zero_stage": 0, "ranks": 1}
    return SimpleNamespace(
        trainer=trainer, tokens=tokens, precision=precision, choice=Choice(Packed(trainer.model), 512, "fast path on")
    )


def compiled(run: Any, wanted: str = "layers", remembered: bool | None = None, steps: int = 4) -> tuple[Any, str | None]:
    from trainer.step.choosing.layers import Work, choose_layers

    work = Work(steps, has_evaluations=False)
    run.choice, sentence = choose_layers(run.trainer, run.choice, wanted, run.tokens, work, remembered)
    return run, sentence


def take(run: Any, cache: Path) -> Any:
    from trainer.step.choosing.choice import take_path

    take_path(run.trainer, run.choice, run.precision, "w", [("train.csv", run.tokens)], cache)
    return run.trainer


def rows_of_many_lengths(run: Any, count: int) -> list[Any]:
    """Rows of ``count`` different lengths, on a GPU padded to fewer."""
    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs

    pairs = TokenPairs.of(
        TokenPair(list(range(3, 20 + 3 * n)), list(range(3, 30 + 5 * n)), list(range(5, 40)), n) for n in range(count)
    )
    return [run.choice.packed.row(pairs, tuple(range(max(0, n - n % 3), n + 1))) for n in range(count)]


def one_row(run: Any, row: Any) -> None:
    """Forward and backward of a row, as in a step."""
    from trainer.step.forward.halves import Halves

    with Halves(run.trainer.model, torch.bfloat16).lent() as collect:
        with run.trainer.accelerator.autocast():
            sums, _ = run.choice.packed(run.trainer.model, row)
        (sums[:, 0] - sums[:, 1]).sum().backward()
        collect()


def counted(run: Any, rows: list[Any]) -> dict[str, int]:
    """What the compiler makes for the training on ``rows``."""
    from torch._dynamo.utils import counters
    from torch._inductor import metrics

    counters.clear()
    metrics.reset()
    run.trainer.model.train()
    for row in rows:
        one_row(run, row)
    run.trainer.model.zero_grad()
    return {
        "graphs": counters["stats"]["unique_graphs"],
        "breaks": sum(counters["graph_break"].values()),
        "kernels": metrics.generated_kernel_count + counters["inductor"]["extern_calls"],
    }


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory, make_experiment: Make) -> Any:
    """A Qwen3 in bf16 whose layers are compiled, with what was compiled for the training on rows of 20 lengths."""
    from trainer.step.compiling.compiled import CompiledLayers
    from trainer.step.packed import Packed

    run = begun(tmp_path_factory.mktemp("qwen3"), make_experiment(), bf16())
    eager = run.choice.packed
    eager.remove()
    layers = CompiledLayers(eager.whole_layers)
    run.choice = type(run.choice)(Packed(run.trainer.model, None, layers), 512, "")
    rows = rows_of_many_lengths(run, 20)
    assert len({row.length for row in rows}) == 20
    run.counted = counted(run, rows)
    layers.remove()
    run.choice.packed.remove()
    eager.place()
    run.choice = type(run.choice)(eager, 512, "fast path on")
    run, run.sentence = compiled(run)
    return run


def test_all_lengths_and_all_compiled_layers_share_a_graph_without_breaks(qwen3: Any) -> None:
    """On a CPU the last layer computes less, and stays eager."""
    assert qwen3.counted["graphs"] == 1
    assert qwen3.counted["breaks"] == 0


def test_a_compiled_layer_of_a_row_takes_at_most_112_kernels(qwen3: Any) -> None:
    assert 50 < qwen3.counted["kernels"] <= 112


def test_with_gradient_checkpointing_a_layer_takes_at_most_180_kernels(tmp_path: Path, make_experiment: Make) -> None:
    from trainer.step.compiling.compiled import CompiledLayers
    from trainer.step.packed import Packed

    run = begun(tmp_path, make_experiment(use_gradient_checkpointing=True), bf16())
    run.choice.packed.remove()
    layers = CompiledLayers(run.choice.packed.whole_layers)
    run.choice = type(run.choice)(Packed(run.trainer.model, None, layers), 512, "")
    run.trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    found = counted(run, rows_of_many_lengths(run, 3))
    assert found["graphs"] == 1
    assert found["breaks"] == 0
    assert 120 < found["kernels"] <= 180, "they compute the forward pass twice"


def test_masks_of_a_gpu_are_rebuilt_for_each_row_and_recompile_nothing(
    tmp_path: Path, make_experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FlexAttention has no backward pass on a CPU: its forward pass is traced, whose guards are the same on every device."""
    from trainer.step.compiling.compiled import CompiledLayers, decoder_layers
    from trainer.step.packed import Packed

    graphs = []

    def traced(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    run = begun(tmp_path, make_experiment())
    run.choice.packed.remove()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=traced))
    layers = CompiledLayers(decoder_layers(run.trainer.model))
    run.choice = type(run.choice)(Packed(run.trainer.model, "flex_attention", layers), 10**4, "")
    rows = [row for row in rows_of_many_lengths(run, 24) if row.length > 128]
    assert len({row.length for row in rows}) >= 4
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a compiler behind the trace, attention is dense
        for row in rows:
            run.choice.packed(run.trainer.model.eval(), row)
    assert len(graphs) == 1
    run.trainer.model.get_base_model().set_attn_implementation("sdpa")
    ids = torch.tensor([run.tokens.pairs[0].prompt])
    run.trainer.model.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert len(graphs) == 1, "answers are written with a cache, by eager layers"


def test_compiled_layers_are_compared_with_eager_ones_and_the_sentence_says_how_close_they_are(qwen3: Any) -> None:
    assert qwen3.choice.is_compiled
    assert qwen3.sentence.startswith("compiled layers: same loss and gradient as eager layers on the first pairs (")
    assert not isinstance(qwen3.sentence, Warned)


def test_the_reference_has_a_key_of_its_own(qwen3: Any) -> None:
    from dataclasses import replace

    from trainer.step.choosing.choice import _key

    keys = {_key(qwen3.trainer, replace(qwen3.choice, is_compiled=how), qwen3.precision, "w") for how in (False, True)}
    assert len(keys) == 2


def test_a_compiled_run_resumes_bit_for_bit(
    qwen3: Any, tmp_path: Path, make_experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 1}

    def run(name: str, remembered: bool | None, checkpoint: Path | None) -> Any:
        begin = begun(tmp_path / name, make_experiment(**settings), bf16())
        found, sentence = compiled(begin, "layers" if remembered is None else "auto", remembered)
        assert found.choice.is_compiled, sentence
        trainer = take(found, tmp_path / "cache")
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return trainer, sentence

    whole, _ = run("whole", None, None)
    checkpoint = Path(whole.args.output_dir) / "checkpoint-2"
    assert json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]["compiled_layers"] is True
    resumed, sentence = run("resumed", True, checkpoint)
    assert sentence == "compiled layers: as in the run of the checkpoint"
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (whole, resumed)]
    assert losses[0] == losses[1]
    weights = dict(resumed.model.named_parameters())
    for name, weight in whole.model.named_parameters():
        assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize(
    ("kind", "settings", "is_whole"),
    [("gemma", {}, True), ("phi3", {"use_gradient_checkpointing": True}, True), ("qwen3", {"use_dora": True}, False)],
)
def test_compiled_layers_give_the_numbers_of_eager_ones_and_of_the_whole_mask_in_fp32(
    tmp_path: Path, tiny_model: Path, make_experiment: Make, kind: str, settings: dict[str, Any], is_whole: bool
) -> None:
    """``is_whole``: whether the compiler can trace the layer; it cannot what PEFT computes for DoRA, whose layers stay eager."""
    from trainer.step.compiling.compiled import CompiledLayers, decoder_layers
    from trainer.step.forward.attention import SEGMENTS
    from trainer.step.memory import as_in_training
    from trainer.step.packed import Packed

    model = {"model_name": str(model_of(kind, tmp_path / kind, tiny_model))}
    run = begun(tmp_path, make_experiment(experiment=model, **settings))
    torch.manual_seed(5)
    for name, parameter in run.trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    row = run.choice.packed.row(run.tokens.pairs, (0, 1))
    numbers = []
    for attends, is_compiled in (("sdpa", False), (SEGMENTS, False), (SEGMENTS, True)):
        run.choice.packed.remove()
        layers = CompiledLayers(decoder_layers(run.trainer.model)) if is_compiled else None
        run.choice = type(run.choice)(Packed(run.trainer.model, attends, layers), 512, "")
        as_in_training(run.trainer)
        sums, _ = run.choice.packed(run.trainer.model, row)
        (sums[:, 0] - sums[:, 1]).sum().backward()
        gradient = torch.cat([p.grad.flatten().double() for p in run.trainer.model.parameters() if p.requires_grad])
        numbers.append((sums.detach(), gradient))
        run.trainer.model.zero_grad()
        if len(numbers) == 2 and not is_whole:
            break
    (expected, gradient), *others = numbers
    if not is_whole:
        _, sentence = compiled(run)
        assert (sentence or "").startswith("eager layers: compiling failed: ")
    assert others
    assert float(gradient.norm()) > 0
    for sums, other in others:
        torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-5)
        assert float((gradient - other).norm() / gradient.norm()) < 1e-5


def model_of(kind: str, folder: Path, tokenizer: Path) -> Path:
    """A model of two layers with random weights, and the tokenizer of the tiny Qwen3."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


SECOND = """
import json, torch
from trainer.__main__ import prepare_compilers
prepare_compilers()
from torch._dynamo.utils import counters
from trainer.step.compiling.compiled import CompiledLayers
class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
    def forward(self, hidden):
        return hidden + self.linear(hidden).sin()
layer = Layer()
with CompiledLayers([layer]), torch.autocast("cpu", torch.bfloat16):
    found = layer(torch.randn(1, 13, 8))
found.sum().backward()
print(json.dumps({name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss")}))
"""


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TORCHINDUCTOR_", "TRITON_"))}
    env |= {"DPO_CACHE_ROOT": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[4])}
    command = [sys.executable, "-c", SECOND]
    found = []
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found == [{"hit": 0, "miss": 2}, {"hit": 2, "miss": 0}]
    assert (tmp_path / "kernels" / "inductor" / "fxgraph").is_dir()


# --- Whether


def test_a_layer_that_is_no_whole_graph_stays_eager_with_the_reason(tmp_path: Path, make_experiment: Make) -> None:
    run = begun(tmp_path, make_experiment())
    kind, layers = run.choice.packed.kind, run.trainer.model.get_base_model().model.layers
    of_class = type(layers[0].mlp).forward

    def forward(self: Any, x: Any) -> Any:
        torch._dynamo.graph_break()
        return of_class(self, x)

    for layer in layers:
        layer.mlp.forward = forward.__get__(layer.mlp)
    _, sentence = compiled(run)
    assert isinstance(sentence, Warned), "it was asked for"
    assert sentence.startswith("eager layers: compiling failed: ")
    assert "graph_break" in sentence
    assert "\n" not in sentence
    assert not run.choice.is_compiled
    assert all(layer._compiled_call_impl is None for layer in layers)
    assert run.trainer.model.get_base_model().config._attn_implementation == kind, "the eager packed pass is back"
    with pytest.raises(ExperimentError, match="the checkpoint's run had compiled its layers") as error:
        compiled(run, "auto", True)
    assert "graph_break" in str(error.value)


def test_layers_stay_eager_where_nobody_asks(qwen3: Any) -> None:
    from trainer.step.choosing.choice import Choice

    def sentence(wanted: str, remembered: bool | None = None, choice: Any = qwen3.choice) -> str | None:
        run = SimpleNamespace(trainer=qwen3.trainer, tokens=qwen3.tokens, choice=choice)
        return compiled(run, wanted, remembered)[1]

    assert sentence("off") == "eager layers: compile is off"
    assert sentence("auto") is None, "on a CPU a short run says nothing"
    assert sentence("auto", False) is None
    plain = Choice(None, 512, "plain path")
    assert sentence("auto", None, plain) is None
    assert sentence("layers", None, plain) == "eager layers: the plain path is TRL's own"
    assert isinstance(sentence("layers", None, plain), Warned)


def test_auto_compiles_long_runs_on_a_cpu_and_says_nothing_of_short_ones(qwen3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.step.choosing.layers import Work, _unprofitable, _why_eager

    def why(steps: int, wanted: str = "auto") -> str | None:
        work = Work(steps, has_evaluations=False)
        return _why_eager(qwen3.trainer, qwen3.choice, wanted, qwen3.tokens, work, None)

    said = _unprofitable(qwen3.trainer, qwen3.choice, qwen3.tokens, Work(1000, has_evaluations=False))
    assert said is not None
    assert said.startswith("compiling would take about 40 s and save about ")
    assert why(1000) == ""
    assert why(10**6) is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert why(1000) == ""
    assert why(10**6) == why(4, "layers") == "a C++ compiler (g++ or clang++) is missing"


def test_what_is_saved_on_a_cpu_grows_with_the_numbers_of_a_layer_and_is_shared_by_its_threads(
    qwen3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.step.choosing.layers import PER_NUMBER, Work, _unprofitable

    config = qwen3.trainer.model.config
    widths = (config.hidden_size, config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim)
    hidden, queries, keys = widths
    a_layer = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + config.intermediate_size)
    args = qwen3.trainer.args
    pairs = args.per_device_train_batch_size * args.gradient_accumulation_steps
    from trainer.step.batches.packing import packed_lengths

    tokens = pairs * float(packed_lengths(qwen3.tokens.pairs).mean())
    enough = 40 / (tokens * (config.num_hidden_layers - 1) * a_layer * PER_NUMBER)  # steps of one thread; the last layer is eager

    def pays(steps: float) -> bool:
        return _unprofitable(qwen3.trainer, qwen3.choice, qwen3.tokens, Work(round(steps), has_evaluations=False)) is None

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [pays(0.99 * enough), pays(1.01 * enough)] == [False, True]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert [pays(1.98 * enough), pays(2.02 * enough)] == [False, True]


@pytest.mark.parametrize(
    ("wanted", "remembered", "is_eager"), [("auto", None, True), ("layers", None, False), ("auto", True, False)]
)
def test_layers_of_quantised_weights_are_compiled_only_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, wanted: str, remembered: bool | None, is_eager: bool
) -> None:
    from trainer.step.choosing import layers
    from trainer.step.choosing.choice import Choice

    monkeypatch.setattr(layers, "_impossible", lambda trainer: None)
    monkeypatch.setattr(layers, "_unprofitable", lambda *args: None)
    config = SimpleNamespace(quantization_config={"load_in_4bit": True})
    trainer: Any = SimpleNamespace(model=SimpleNamespace(config=config), accelerator=SimpleNamespace(device=torch.device("cuda")))
    given: Any = (Choice(SimpleNamespace(), 512, ""), wanted, None, layers.Work(10**6, has_evaluations=False), remembered)
    found = layers._why_eager(trainer, *given)
    assert (found or "").startswith("4- and 8-bit weights: ") == is_eager
    assert is_eager or found is None
    config.quantization_config = None
    assert layers._why_eager(trainer, *given) is None


def test_the_layers_are_those_of_the_language_model(qwen3: Any) -> None:
    from torch import nn

    from trainer.step.compiling.compiled import decoder_layers

    assert decoder_layers(qwen3.trainer.model) == list(qwen3.trainer.model.get_base_model().model.layers)
    assert decoder_layers(nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))) == []


def test_what_is_compiled_lies_in_the_cache_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.__main__ import prepare_compilers

    monkeypatch.setenv("DPO_CACHE_ROOT", "/cache")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    prepare_compilers()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/cache/kernels/inductor"
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "3", "as many as the rank has cores"
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
