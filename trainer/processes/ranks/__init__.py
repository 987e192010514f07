"""One rank: its imports, device, sharding, and what the ranks know of each other."""
