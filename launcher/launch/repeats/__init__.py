"""Starts a run again from its record: resumed in its own folder, created again after its Job was deleted, or repeated as a new
run.

Others take ``again``, ``resume``, ``copied.found_or_brought`` and ``remaining.resume_points``.
"""
