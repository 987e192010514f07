"""What the saved weights do with single pairs and prompts, once the training is over; nothing here changes them.

Others take ``ending.evaluate``, ``first_seen.FirstSeen``, ``samples.Sampler`` and ``score``.
"""
