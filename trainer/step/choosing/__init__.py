"""How a run computes its steps: on the fast path or on TRL's own, with compiled layers, with recorded rows. Each is compared
with the plain way on the run's first pairs before it is taken.

Others take ``choice``, ``layers``, ``replayed`` and ``pace``.
"""
