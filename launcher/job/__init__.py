"""One run, derived from an experiment: batches, ranks and nodes, DeepSpeed preset, image tag. Pure.

Others take ``job.Job`` and ``job.plan``, ``topology``, ``presets.read_parallelism``, ``image.image_of``, ``resume.job_again``
and ``drill``. Nothing here starts a process or asks a server.
"""
