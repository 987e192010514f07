"""What a run needs and whether it fits: model sizes, GPUs, memory, time, the cheapest changes, the parallelism.

Others take ``planned.plan_for``, ``planned.said_before_run`` and ``said_before_submit``, ``derived.derived`` and
``parallelism.choose_parallelism``; the trainer takes ``rows``, ``tokens.work`` and ``sizes``, which need no backend.
"""
