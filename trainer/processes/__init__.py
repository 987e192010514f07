"""The processes of a run: torchrun and its children, signals, peers, pods, rendezvous, how it ended.

Others take ``entrypoint``, ``attempts``, ``verdict``, ``join.join``, ``peers.Peers``, ``stop.StopRequest``, ``ending``,
``machine.Device`` and ``sharding``.
"""
