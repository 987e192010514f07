"""Checkpoints that are complete or absent, what they were made of, and how they are read under another sharding.

Others take ``checkpoints.resume_point`` and ``save_verified``, ``checkpointed.CheckpointedTrainer`` with the names of what a
checkpoint remembers, and ``origin``.
"""
