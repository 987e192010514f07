"""How a run computes its steps: fast or plain path, compiled layers, recorded rows. Each is compared with the simpler way on
the run's first pairs before it is used.

Others take ``choice``, ``layers``, ``replayed`` and ``pace``.
"""
