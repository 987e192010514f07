"""The parts of an experiment, a class each, and the types and names of their values. ``schema`` puts them together.

Others take the sections from ``schema``; from here ``hyperparameters``, ``lora``, ``data_rules``, ``watched`` and ``targets``.
"""
