"""The losses of pairs, the figures of a log line, what they must be at the first step, and which pairs spoil them.

Others take ``losses``, ``figures``, ``first`` and ``culprits``.
"""
