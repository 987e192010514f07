"""Compiled decoder layers, and rows that are recorded once as CUDA graphs and replayed.

Others take ``compiled``, ``graphs`` and ``cuda_graphs``.
"""
