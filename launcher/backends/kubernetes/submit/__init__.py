"""A run is brought to a cluster: what would keep it from starting, its inputs, its secrets, its objects."""
