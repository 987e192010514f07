"""A run on disk: its folder and record, its output, its processes, what it learned, and the cache's folder.

Others take ``run_dir.RunDir``, ``names``, ``whole.write_whole``, ``known.Known``, ``learned`` (with rooms of its own),
``evidence.gather``, ``made_of``, ``finding.choose``, ``follow.Reader``, ``processes``, ``writable``,
``cache.cache_root``. Nothing here asks the backend of a run; ``backends.status`` does.
"""
