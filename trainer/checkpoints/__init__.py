"""Checkpoints that are complete or absent, what they were made of, and how they are read under another sharding.

Others take ``checkpoints.resume_point`` and ``save_verified``, ``checkpointed.CheckpointedTrainer``, ``best``, ``origin``, and
``remembered``: what a checkpoint remembers of automatic choices.
"""
