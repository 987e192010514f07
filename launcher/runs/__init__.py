"""A run as it lies on disk: its folder and record, its output, the processes that belong to it, the cache's folder.

Others take ``run_dir.RunDir``, ``known.Known``, ``finding.choose``, ``follow.Reader``, ``processes`` and ``cache.cache_root``.
Nothing here knows where a run runs; ``backends.finding`` does.
"""
