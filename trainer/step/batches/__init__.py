"""Which pairs a step holds, how they are packed into rows, and the few row lengths that are used. No model.

Others take ``packing``, ``steps``, ``buckets`` and ``blocks``.
"""
