"""Submits a run to a cluster: preflight checks, image, input files and objects.

Others take ``submit.submit``, ``submit.submit_job`` and ``submission``.
"""
