"""Decides whether a run's rows are replayed as CUDA graphs: if requested and possible, and if they equal eager rows."""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate.utils import gather_object

from launcher.errors import Warned

from ...inputs.tokens.token_pairs import TokenPairs
from ...output import notices
from ...processes.ranks.sharding import stage as zero_stage
from ..batches.packing import segments_of
from ..batches.steps import Share
from ..compiling.compiled import reason
from ..compiling.cuda_graphs import CudaRecorder
from ..compiling.graphs import Recorder, RowGraphs
from ..dpo import DPOTrainer
from ..memory import as_in_training
from ..packed import Fast, Scored
from ..rows import autocast_type
from .choice import Choice
from .comparison import Difference, Numbers, difference, gradient_norm


def choose_graphs(trainer: DPOTrainer, choice: Choice, pairs: TokenPairs, expected: Numbers) -> tuple[Choice, str | None]:
    """(``choice`` with graphs if they are possible, else the reason why not). The layers are already compiled.

    ``expected``: what compiled layers give for ``pairs``, the first of the run.
    """
    why = next((one for one in gather_object([why_not(trainer)]) if one is not None), None)  # one way for all ranks
    if why is not None:
        return choice, why
    return graphed(trainer, choice, pairs, expected, CudaRecorder(trainer.accelerator.device))


def why_not(trainer: DPOTrainer) -> str | None:
    """Why rows cannot be replayed; None if they may be."""
    if trainer.accelerator.device.type != "cuda":
        return "they need a GPU"
    if zero_stage(trainer):
        return "ZeRO spreads gradients over the ranks in every row"
    if trainer.accelerator.scaler is not None:
        return "the loss of fp16 is scaled, and the scale changes from step to step"
    if trainer.args.activation_checkpointing:
        return "gradient checkpointing reads the random state in every layer, which a graph cannot"
    if getattr(trainer.model.config, "quantization_config", None) is not None:
        return "4- and 8-bit weights are widened by kernels that may wait for the device"
    return None


def graphed(
    trainer: DPOTrainer, choice: Choice, pairs: TokenPairs, expected: Numbers, recorder: Recorder
) -> tuple[Choice, str | None]:
    """(``choice`` with graphs if replayed rows of ``pairs`` give ``expected``, else unchanged; the reason why not)."""
    assert choice.packed is not None, "rows are the fast path's"
    graphs = RowGraphs(recorder, trainer.model.parameters(), trainer.accelerator.device)
    why = graphs_differ(trainer, choice, graphs, recorder, pairs, expected)
    why = next((one for one in gather_object([why]) if one is not None), None)
    graphs.forget()  # the first pairs have different row lengths
    graphs.say = lambda why: _tell(trainer, why)
    return (replace(choice, graphs=graphs), None) if why is None else (choice, why)


def graphs_differ(
    trainer: DPOTrainer, choice: Choice, graphs: RowGraphs, recorder: Recorder, pairs: TokenPairs, expected: Numbers
) -> str | None:
    """Why replayed rows of ``pairs``, one row each, differ from ``expected``; None if they do not.

    Rows are first computed eagerly: once to create what first rows create, then with device synchronisation as an error. A
    failed capture may leave the device unusable, so a model that synchronises is found without one.
    """
    assert choice.packed is not None, "rows are the fast path's"
    as_in_training(trainer)
    half = autocast_type(trainer.args) is not None or trainer.model.dtype != torch.float32
    scored = Scored(pairs, expected.logps.to(trainer.accelerator.device))
    try:
        with trainer.trying(Fast(choice.packed, 1, scored, None, is_compiled=choice.is_compiled, graphs=graphs)):
            share = _share(pairs)
            graphs.is_recording = False
            trainer.logps_of(graphs, share)
            with recorder.strict():
                trainer.logps_of(graphs, share)
            graphs.is_recording = True
            trainer.model.zero_grad()
            found = Numbers(trainer.logps_of(graphs, share), gradient_norm(trainer))
            apart: Difference | None = difference(trainer, pairs, expected, found)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        apart, failed = None, f"a row cannot be a graph: {reason(error)}"
    finally:
        trainer.model.zero_grad()
    if graphs.why is not None:
        return f"capturing a row failed: {graphs.why}"
    if apart is None:
        return failed
    return f"replayed rows give other results: {apart.off}" if apart.beyond(half=half) else None


def _share(pairs: TokenPairs) -> Share:
    return Share(tuple(range(len(pairs))), len(pairs), 0, True, 0, int(segments_of(pairs.lengths)[:, 1].sum()))


def _tell(trainer: DPOTrainer, why: str) -> None:
    step = trainer.state.global_step + 1
    notices([Warned(f"CUDA graphs are off from step {step}: {why}. Rows take longer; results are the same")])
