"""Sweeps: an experiment over a grid of settings, and its runs, which are started here or on a cluster and found again by name.

Others take ``grid``, ``local.continue_sweep``, ``cluster.submit_points`` and ``found.find``.
"""
