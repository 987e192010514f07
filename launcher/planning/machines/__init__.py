"""Machines: memory and speed of GPUs by name, those of this machine, and the label by which nodes tell theirs.

Others take all three.
"""
