"""The reference model's log-probabilities, computed once for each answer, and their cache on disk.

Others take ``reference.reference_logps`` and ``identity``, the key of all that these numbers depend on.
"""
