"""One class for each section of an experiment, and the types of their values. ``schema`` combines them.

Others take the sections from ``schema``; from here ``hyperparameters``, ``lora``, ``data_rules``, ``watched`` and ``targets``.
"""
