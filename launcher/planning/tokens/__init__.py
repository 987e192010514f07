"""How many tokens a run's pairs have: a bound before a tokenizer has seen them, or exact numbers from an earlier run.

Others take ``work``.
"""
