"""The processes of a run: torchrun and its children, signals, peers, pods, rendezvous, how it ended.

Others take ``entrypoint``, ``attempts``, ``verdict``, ``ranks`` (``join``, ``Peers``, ``Device``, ``sharding``),
``stop.StopRequest`` and ``ending``.
"""
