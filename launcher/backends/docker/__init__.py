"""The Docker backend: a run is a container on an engine, this machine's or one that DOCKER_HOST names."""
