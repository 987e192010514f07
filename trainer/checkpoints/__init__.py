"""Checkpoints: complete or absent, their origin, and reading them under another sharding.

Others take ``checkpoints.resume_point`` and ``save_verified``, ``checkpointed.CheckpointedTrainer``, ``best``, ``origin``, and
``remembered``, the automatic choices in a checkpoint.
"""
