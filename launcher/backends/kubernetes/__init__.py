"""The Kubernetes backend: a run is a Job, or a JobSet, of a cluster."""
