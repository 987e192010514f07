"""Evaluates the saved weights on single pairs and prompts after the training; nothing here changes them.

Others take ``ending.evaluate``, ``first_seen.FirstSeen``, ``samples.Sampler`` and ``score``.
"""
