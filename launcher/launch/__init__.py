"""From an experiment's name to a run: what would be started, its data, what is known before the start, the drill.

``cluster`` submits, ``sweeps`` starts a grid of runs, ``repeats`` resumes and repeats them. Others take from here ``rendered``,
``start.prepare``, ``token_check``, ``survey``, ``drill``, ``removing`` and ``served``. Functions tell a listener what takes a
while; they print nothing.
"""
