"""What a packed row computes in another way than transformers: attention, LoRA's 16-bit copies, the last layer, the head.

Others take ``attention``, ``halves``, ``head`` and ``last``.
"""
