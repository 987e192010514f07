"""Takes an experiment's name to a run: what would be started, its data, what is known before the start, the drill.

``cluster`` submits, ``sweeps`` starts a grid of runs, ``repeats`` resumes and repeats runs. Others take ``rendered``,
``start.prepare``, ``token_check``, ``survey``, ``drill``, ``removing`` and ``served``. Functions report progress to a listener
and print nothing.
"""
