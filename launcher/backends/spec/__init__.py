"""What a run is started with on every backend: environment, secrets, container, memory, its first record. Pure."""
