"""What other tools call things: fields of TRL's ``DPOConfig``, other names of our keys, keys that change nothing here, methods.

Others take ``trl_fields``, ``neutral``, ``method``, ``other_names`` and ``other_values``.
"""
