"""From an experiment's name to a run that is started: what would be started, its data, submission, resuming, the drill.

Others take ``rendered``, ``start``, ``submission``, ``resume`` and ``drill``. It decides and tells a listener; it prints nothing.
"""
