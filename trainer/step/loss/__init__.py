"""Losses of pairs, metrics of a log line, their expected values at the first step, and pairs whose loss is not finite.

Others take ``losses``, ``figures``, ``first`` and ``culprits``.
"""
