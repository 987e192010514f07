"""The GPU check: what only a CUDA GPU can show, in parts that each have a time limit and end in a JSON file of their own.

``make gpu`` runs ``python -m tests.benchmarks.gpu``; it takes eight minutes at most, and needs no network.
"""
