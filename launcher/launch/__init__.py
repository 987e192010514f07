"""From an experiment's name to a run: what would be started, its data, what is known before the start, the drill.

Others take ``rendered``, ``differences``, ``prepare``, ``submit``, ``submission``, ``resume``, ``again``, ``sweep``, ``drill``
and ``check_tokens``; each returns a value with ``json()``. Functions tell a listener what takes a while; they print nothing.
"""
