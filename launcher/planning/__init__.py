"""What a run needs and whether it fits: a model's sizes, GPUs, memory, time, the cheapest changes, the way ranks share work.

Others take ``planned.planned``, ``parallelism.choose_parallelism`` and ``work.work_at_most``; the trainer takes ``activations``
and ``model_config``, which need no backend.
"""
