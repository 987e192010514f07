"""The processes of a run: torchrun and its children, signals, peers, pods, how ranks and nodes meet, how it ended.

Others take ``entrypoint``, ``attempts``, ``verdict``, ``join.join``, ``peers.Peers``, ``stop.StopRequest``, ``ending``,
``machine.Device`` and ``sharding``.
"""
