"""Sweeps: runs of an experiment over a grid of settings, here or on a cluster, found again by name.

Others take ``grid``, ``local.continue_sweep``, ``cluster.submit_points`` and ``found.find``.
"""
