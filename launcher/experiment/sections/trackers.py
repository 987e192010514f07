"""Trackers: the services beside TensorBoard that a run can report to."""

from typing import Final

TRACKERS: Final = ("wandb", "mlflow", "trackio")  # values of report_to; ``trainer.trackers`` calls transformers' callbacks
OFFLINE: Final = ("offline", "disabled", "dryrun")  # values of WANDB_MODE that need no key
