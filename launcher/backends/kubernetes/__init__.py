"""The Kubernetes backend: a run is a Job or a JobSet.

Others take ``Kubernetes`` from ``backend``, and what each room names: ``render`` makes a run's objects, ``submit`` creates them,
``follow`` reads and explains what they do, ``api`` is the connection that all of them use.
"""
