"""What a run needs and whether it fits: model sizes, GPUs, memory, time, cheapest changes, parallelism.

Others take ``planned.plan_for``, ``planned.said_before_run`` and ``said_before_submit``, ``derived.derived`` and
``parallelism.choose_parallelism``. The trainer takes ``rows``, ``tokens.work`` and ``sizes``, which need no backend.
"""
