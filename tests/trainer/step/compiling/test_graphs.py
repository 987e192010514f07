"""Rows that are recorded once and replayed: on a GPU by CUDA graphs, here by a tape that keeps addresses and numbers, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from launcher.errors import Warned
from launcher.experiment.schema import Experiment
from tests.trainer.step.tape import Tape
from tests.trainer.trained import weights

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, make_experiment: Make, make_trainer: Callable[..., Any]) -> Callable[..., Any]:
    """A trainer in bf16 whose rows have few shapes, as a GPU's: (trainer, tape, warnings); ``tape``: None for none."""
    from trainer.inputs.models.adapter import skip_input_casts
    from trainer.inputs.models.model import Precision
    from trainer.step.batches.buckets import Buckets
    from trainer.step.batches.packing import packed_lengths
    from trainer.step.compiling.graphs import RowGraphs
    from trainer.step.packed import Fast, Packed, Scored

    def of(
        tape: Any, *, kind: Any = None, budget: int | None = None, experiment: dict[str, Any] | None = None, **hyper: Any
    ) -> Any:
        hyper = {"logging_steps": 1, "max_grad_norm": 0.01, "max_steps": 6, **hyper}
        asked = make_experiment(experiment=experiment, **hyper)
        precision = Precision(torch.bfloat16, bf16=True, fp16=False)
        trainer, tokens, _ = make_trainer(tmp_path_factory.mktemp("graphs"), asked, precision, pairs=12, kind=kind)
        skip_input_casts(trainer.model)
        packed = Packed(trainer.model, "sdpa")
        budget = budget or int(packed_lengths(tokens.pairs).max()) + 60
        packed.buckets = Buckets.of(packed_lengths(tokens.pairs), 4, budget)
        reference = torch.full((12, 2), -50.0, dtype=torch.float64) + torch.arange(12)[:, None]
        said: list[str] = []
        graphs = None
        if tape is not None:
            graphs = RowGraphs(tape, trainer.model.parameters(), trainer.accelerator.device)
            graphs.say = said.append
        trainer.take_fast_path(Fast(packed, budget, Scored(tokens.pairs, reference), None, graphs=graphs))
        trainer.origin = {"zero_stage": 0, "ranks": 1}
        return SimpleNamespace(trainer=trainer, tape=tape, said=said, graphs=graphs, tokens=tokens)

    return of


class Never(Tape):
    """Records nothing."""

    def record(self, work: Any) -> Any:
        raise RuntimeError("no recorder here")


def lines(trainer: Any) -> list[dict[str, float]]:
    timed = ("runtime", "per_second", "seconds")
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{name: value for name, value in entry.items() if not name.endswith(timed)} for entry in logs]


@pytest.fixture(scope="module")
def eager(make: Callable[..., Any]) -> Any:
    """A training on the same rows, none of them recorded."""
    run = make(Never())
    run.trainer.train()
    return run


def test_a_training_by_replayed_rows_is_bit_for_bit_that_by_eager_ones(make: Callable[..., Any], eager: Any) -> None:
    """Every replayed row has other pairs than the one that was recorded: nothing of its content is part of the record."""
    run = make(Tape())
    run.trainer.train()
    assert run.said == []
    assert 1 <= len(run.graphs) <= run.tape.eagers, "each shape is computed once before it is recorded"
    assert run.tape.replays > len(run.graphs)
    assert len(lines(run.trainer)) == 6
    assert lines(run.trainer) == lines(eager.trainer)
    for name, weight in weights(eager.trainer).items():
        assert torch.equal(weights(run.trainer)[name], weight), name


def test_rows_of_a_fixed_shape_give_the_losses_and_figures_of_rows_without(make: Callable[..., Any], eager: Any) -> None:
    plain = make(None)
    plain.trainer.train()
    for fixed, own in zip(lines(eager.trainer), lines(plain.trainer), strict=True):
        for name in (
            "loss",
            "grad_norm",
            "rewards/chosen",
            "rewards/margins",
            "logps/rejected",
            "entropy",
            "mean_token_accuracy",
        ):
            assert fixed[name] == pytest.approx(own[name], rel=1e-2, abs=1e-3), name


def test_a_row_that_cannot_be_recorded_is_computed_eagerly_and_the_reason_is_told_once(eager: Any) -> None:
    assert eager.said == ["no recorder here"]
    assert len(eager.graphs) == 0
    assert 1 <= eager.tape.eagers < 6, "later rows are computed as without a recorder"


def test_an_operation_that_waits_for_the_device_ends_the_recording_and_leaves_no_gradient(
    make: Callable[..., Any], eager: Any
) -> None:
    run = make(Tape())
    inner = run.trainer._losses

    def losses(*args: Any) -> Any:
        found = inner(*args)
        assert float(found[0].detach().sum()) >= 0
        return found

    run.trainer._losses = losses
    run.trainer.train()
    (why,) = run.said
    assert "_local_scalar_dense" in why
    assert run.tape.replays == 0
    assert lines(run.trainer) == lines(eager.trainer)


def test_a_step_that_runs_out_of_memory_forgets_the_records_and_is_computed_in_shorter_rows(make: Callable[..., Any]) -> None:
    run = make(Tape(), max_steps=3, budget=10**4)
    inner, calls = run.trainer._losses, []

    def losses(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:  # in the second step, which is recorded
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(*args)

    run.trainer._losses = losses
    before = run.trainer.fast.budget
    run.trainer.train()
    assert run.trainer.fast.budget < before
    assert run.tape.forgotten == 1
    assert len(lines(run.trainer)) == 3
    assert run.said == []


def test_a_row_of_more_pairs_as_in_an_evaluation_leaves_recorded_rows_their_memory(make: Callable[..., Any], eager: Any) -> None:
    run = make(Tape())
    trainer, fast = run.trainer, run.trainer.fast

    class Evaluates(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            with torch.no_grad():
                fast.packed(trainer.model, fast.packed.row(run.tokens.pairs, tuple(range(12))))

    trainer.add_callback(Evaluates())
    trainer.train()
    assert run.tape.replays > 0
    assert [line["loss"] for line in lines(trainer)] == [line["loss"] for line in lines(eager.trainer)]


def test_a_pair_that_is_missing_counts_nothing_whatever_the_loss(make: Callable[..., Any]) -> None:
    for loss in ("ipo", "discopop"):
        run, other = make(Tape(), loss_type=loss, max_steps=2), make(Never(), loss_type=loss, max_steps=2)
        for one in (run, other):
            one.trainer.train()
        assert lines(run.trainer) == lines(other.trainer)
        assert all(line["loss"] == line["loss"] for line in lines(run.trainer))


def test_answers_of_sft_are_replayed_bit_for_bit(make: Callable[..., Any]) -> None:
    from trainer.step.sft import SFTTrainer

    runs = [make(tape, kind=SFTTrainer, experiment={"method": "sft"}, max_steps=4) for tape in (Tape(), Never())]
    for run in runs:
        run.trainer.train()
    assert runs[0].tape.replays > 0
    assert lines(runs[0].trainer) == lines(runs[1].trainer)


def test_a_weight_that_no_row_reaches_has_no_gradient(make: Callable[..., Any]) -> None:
    """An optimizer leaves such a weight alone, and would decay one whose gradient is zero."""
    run = make(Tape(), max_steps=4)
    own = torch.nn.Parameter(torch.ones(3))
    run.trainer.model.register_parameter("aside", own)
    run.graphs._parameters.append(own)
    run.trainer.train()
    assert run.tape.replays > 0
    assert own.grad is None


def test_a_row_that_reaches_another_weight_is_not_recorded_and_its_gradient_is_counted_once() -> None:
    from trainer.step.batches.packing import Row
    from trainer.step.compiling.graphs import RowGraphs

    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    graphs, reached = RowGraphs(Tape(), [first, second], torch.device("cpu")), [first]

    def compute(row: Row, weight: torch.Tensor) -> list[torch.Tensor]:
        loss = sum((one * weight).sum() for one in reached)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        return [loss.detach()]

    row = Row(torch.zeros(8, dtype=torch.int64), (0,), (), room=1)
    graphs.hold_gradients()
    graphs(row, 2.0, compute)
    reached.append(second)
    graphs(row, 2.0, compute)
    assert graphs.why == "a weight has a gradient that earlier rows had not"
    assert (first.grad, second.grad) == (pytest.approx([4.0] * 3), pytest.approx([2.0] * 3))


def test_where_one_shape_cannot_be_recorded_the_recorded_ones_are_forgotten_too() -> None:
    from trainer.step.batches.packing import Row
    from trainer.step.compiling.graphs import RowGraphs

    class Once(Tape):
        """Its second recording fails."""

        def record(self, work: Any) -> Any:
            return super().record(work) if self.replays == 0 else Never().record(work)

    tape, weight = Once(), torch.nn.Parameter(torch.ones(3))
    graphs = RowGraphs(tape, [weight], torch.device("cpu"))

    def compute(row: Row, scale: torch.Tensor) -> list[torch.Tensor]:
        loss = (weight * scale * row.buffer.sum()).sum()
        loss.backward()
        return [loss.detach()]

    def losses(*lengths: int) -> list[float]:
        graphs.hold_gradients()
        return [float(graphs(Row(torch.ones(n, dtype=torch.int64), (0,), (), room=1), 2.0, compute)[0]) for n in lengths]

    assert losses(8, 8, 8) == [48.0] * 3
    assert (len(graphs), tape.replays) == (1, 2)
    assert losses(16, 16, 16, 8, 8) == [96.0, 96.0, 96.0, 48.0, 48.0]
    assert (len(graphs), tape.replays, tape.forgotten, graphs.why) == (0, 2, 1, "no recorder here")
    assert tape.eagers == 2, "a pool of recorded rows is needed no longer"
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0 * (3 * 8 + 3 * 16 + 2 * 8)] * 3


def test_a_checkpoint_remembers_graphs(make: Callable[..., Any]) -> None:
    assert make(Tape()).trainer.choices()["compiled_layers"] == "graphs"
    assert make(None).trainer.choices()["compiled_layers"] is False


# --- On a GPU


@pytest.mark.gpu
def test_cuda_graphs_of_several_shapes_share_a_pool_and_compute_what_eager_rows_compute() -> None:
    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
    from trainer.step.batches.packing import pack_row
    from trainer.step.compiling.cuda_graphs import CudaRecorder
    from trainer.step.compiling.graphs import RowGraphs

    device = torch.device("cuda")
    torch.manual_seed(0)
    table, weight = torch.randn(100, 64, device=device), torch.nn.Parameter(torch.randn(64, 64, device=device))

    def compute(row: Any, scale: torch.Tensor) -> list[torch.Tensor]:
        losses = (table.index_select(0, row.input_ids) @ weight).square().mean(1)
        (losses.sum() * scale).backward()
        return [losses.detach(), row.places.double()]

    pairs = TokenPairs.of(TokenPair([3 + n] * (5 + 90 * (n % 2)), [40 + n] * 20, [60 + n] * 30, n) for n in range(12))
    rows = [pack_row(pairs, (n,), padded=lambda length: -(-length // 128) * 128, room=4) for n in range(12)]
    assert len({row.shape for row in rows}) == 2
    said: list[str] = []
    graphs = RowGraphs(CudaRecorder(device), [weight], device)
    graphs.say = said.append
    for number, row in enumerate(rows):
        weight.grad = None
        graphs.hold_gradients()
        losses, places = graphs(row, 0.5 + number, compute)
        assert places.tolist() == [number, -1, -1, -1]
        found, gradient = losses, weight.grad.clone()
        weight.grad = None
        expected = compute(row.to(device), torch.tensor(0.5 + number, dtype=torch.float64, device=device))[0]
        assert torch.equal(found, expected)
        torch.testing.assert_close(gradient, weight.grad)
    assert len(graphs) == 2
    assert said == []
    graphs.forget()

    def waits(row: Any, scale: torch.Tensor) -> list[torch.Tensor]:
        found = compute(row, scale)
        assert found[0].sum().item() >= 0
        return found

    weight.grad = None
    graphs.hold_gradients()
    for row in rows[:6]:
        assert graphs(row, 1.0, waits)[1].tolist()[0] == row.pairs[0], "the device is still usable"
    assert torch.rand(9, device=device).unique().numel() > 1, "and its random numbers are"
    assert len(said) == 1
    assert len(graphs) == 0


@pytest.mark.gpu
def test_on_a_gpu_a_run_with_graphs_has_the_losses_of_one_with_compiled_layers(
    tmp_path: Any, make_experiment: Make, new_run: Callable[..., Any]
) -> None:
    from tests.trainer.trained import events, train_in

    losses = []
    for wanted in ("layers", "graphs"):
        experiment = make_experiment(experiment={"launch": {"gpus": 1}}, compile=wanted, max_steps=8, logging_steps=1)
        run = new_run(tmp_path, experiment, wanted)
        train_in(tmp_path, run, experiment)
        layers = run.read_record()["layers"]
        assert layers["graphs"] == (wanted == "graphs"), layers["sentence"]
        losses.append([line["loss"] for line in events(run, "train")])
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)


# --- Whether


def test_the_check_at_the_start_takes_graphs_that_give_what_is_expected_and_refuses_others(make: Callable[..., Any]) -> None:
    from trainer.step.choosing.choice import Choice
    from trainer.step.choosing.comparison import packed_numbers
    from trainer.step.choosing.replayed import graphed

    run = make(None)
    trainer, pairs = run.trainer, run.tokens.pairs[:4]
    packed = trainer.fast.packed
    expected = packed_numbers(trainer, trainer.model, packed, pairs, 1, half=torch.bfloat16)
    choice = Choice(packed, 512, "", is_compiled=True)
    tape = Tape()
    found, why = graphed(trainer, choice, pairs, expected, tape)
    assert why is None
    assert found.graphs is not None
    assert (tape.eagers, tape.replays) == (8, 4), "eagerly, with waits as errors, and by the records"
    assert len(found.graphs) == 0, "the rows of the check are forgotten"
    assert all(p.grad is None for p in trainer.model.parameters())

    class Still(Tape):
        """Computes nothing when it replays."""

        def record(self, work: Any) -> Any:
            return super().record(work)[0], lambda: None

    found, why = graphed(trainer, choice, pairs, expected, Still())
    assert found.graphs is None
    assert why is not None
    assert why.startswith("replayed rows give other results: log-probabilities off by up to ")
    assert graphed(trainer, choice, pairs, expected, Never())[1] == "capturing a row failed: no recorder here"

    class Strict(Tape):
        """Finds a wait before anything is recorded."""

        @contextmanager
        def strict(self) -> Iterator[None]:
            yield
            raise RuntimeError("called a synchronizing CUDA operation")

        def record(self, work: Any) -> Any:
            raise AssertionError("a capture that fails may leave the device unusable")

    why = graphed(trainer, choice, pairs, expected, Strict())[1]
    assert why == "a row cannot be a graph: called a synchronizing CUDA operation"


def test_without_a_gpu_graphs_are_off_with_a_warning_and_layers_stay_compiled(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.step.choosing import layers
    from trainer.step.choosing.choice import Choice

    run = make(None)
    choice = Choice(run.trainer.fast.packed, 512, "")
    monkeypatch.setattr(layers, "_impossible", lambda trainer: None)
    monkeypatch.setattr(layers, "_tried", lambda *given: (replace(choice, is_compiled=True), "same loss", [None]))
    work = layers.Work(4, has_evaluations=False)
    found, sentence = layers.choose_layers(run.trainer, choice, "graphs", run.tokens, work, None)
    assert found.is_compiled
    assert found.graphs is None
    assert sentence == "compiled layers without CUDA graphs: they need a GPU"
    assert isinstance(sentence, Warned)
    found, sentence = layers.choose_layers(run.trainer, choice, "layers", run.tokens, work, None)
    assert sentence == "compiled layers: same loss"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"device": "cpu"}, "they need a GPU"),
        ({"scaler": object()}, "the loss of fp16 is scaled"),
        ({"checkpointing": True}, "gradient checkpointing reads the random state"),
        ({"quantization": {}}, "4- and 8-bit weights"),
    ],
)
def test_rows_are_not_replayed_where_a_row_cannot_be_a_graph(change: dict[str, Any], reason: str | None) -> None:
    from trainer.step.choosing.replayed import why_not

    given = {"device": "cuda", "scaler": None, "checkpointing": False, "quantization": None} | change
    trainer: Any = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device(given["device"]), scaler=given["scaler"], state=None),
        args=SimpleNamespace(activation_checkpointing=given["checkpointing"], deepspeed_plugin=None),
        model=SimpleNamespace(config=SimpleNamespace(quantization_config=given["quantization"])),
        is_deepspeed_enabled=False,
    )
    found = why_not(trainer)
    assert found is None if reason is None else (found or "").startswith(reason)
