"""From an experiment file to a run on this machine, in a container or on a cluster. It starts fast and never imports torch.

Rooms, each importing only those after it: ``cli``, ``launch``, ``planning``, ``backends``, ``data``, ``storage`` and ``job``,
``runs``, ``experiment``, ``why``, ``errors``, ``redact``, ``packages``, ``published``.
"""
