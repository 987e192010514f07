"""Names in other tools: fields of TRL's ``DPOConfig``, other names and values of our keys, keys without effect here, methods.

Others take ``trl_fields``, ``neutral``, ``method``, ``other_names`` and ``other_values``.
"""
