"""The checkpoints of a run in a bucket (``checkpoint_to``): mirrored while it trains, restored before it resumes."""
