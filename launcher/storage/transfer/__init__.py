"""Uploads, downloads and the cache of objects: in parts, resumed, compared with their hashes."""
