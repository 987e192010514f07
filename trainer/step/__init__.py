"""The DPO step and nothing else: packed rows, forward pass, losses, gradients, figures, which path a run takes, and whether its
layers are compiled and its rows replayed.

Others take ``dpo.DPOTrainer``, ``choice.choose_path`` and ``choice.take_path``, ``layers.choose_layers``,
``first`` and ``memory``.
"""
