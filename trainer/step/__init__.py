"""The DPO step: packed rows, forward pass, losses, gradients, metrics, which path a run takes, and whether its layers are
compiled and its rows replayed.

Words: a *row* is one packed sequence of whole pairs; a *place* is an index, of a pair in the data or of a token in a row; the
*fast path* computes packed rows, the *plain path* is TRL's own step. Others take ``dpo.DPOTrainer``, ``choosing.choice`` and
``choosing.layers``, ``loss.first``, ``memory``, and pairs in the layout of ``batches``.
"""
