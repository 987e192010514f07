"""Which pairs a step holds, how they are laid into packed rows, and the few lengths that those rows have. No model.

Others take ``packing``, ``steps``, ``buckets`` and ``blocks``.
"""
