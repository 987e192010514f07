"""The DPO step and nothing else: packed rows, forward pass, losses, gradients, figures, and which path a run takes.

Others take ``dpo.DPOTrainer``, ``choice.choose_path`` and ``choice.take_path``, ``first`` and ``memory``.
"""
