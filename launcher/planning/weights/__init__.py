"""Trained weights in use: what chatting, scoring, merging and serving need of a machine.

Others take ``uses``, ``held_here`` and ``split``.
"""
