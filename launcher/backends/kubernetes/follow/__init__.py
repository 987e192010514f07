"""Runs on a cluster: their state, logs and folders, and the evidence that explains them.

Others take ``ClusterRun`` from ``run``, ``listed.Listed``, ``state``, ``evidence.gather`` and ``evidence.explain``,
``archive.Archive`` to read the claim with the runs, ``bring.bring`` to copy a folder from it, and ``forward.Forward`` for
TensorBoard.
"""
