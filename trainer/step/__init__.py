"""The DPO step and nothing else: packed rows, forward pass, losses, gradients, figures, which path a run takes, and whether its
layers are compiled and its rows replayed.

Others take ``dpo.DPOTrainer``, ``choosing.choice`` and ``choosing.layers``, ``loss.first``, ``memory``, and pairs as ``batches``
lays them.
"""
