"""Runs on a cluster: their state, logs and folders, and the evidence that explains them.

Others take ``ClusterRun`` from ``run``, ``listed.Listed``, ``state``, ``evidence.gather`` and ``evidence.explain``,
``archive.Archive`` to read the claim with the runs, ``stored`` for runs whose Job is gone, ``removal.swept``, ``bring.bring`` to
copy a folder from the claim, and ``forward.Forward`` for TensorBoard.
"""
