"""Submitting to a cluster: preflight checks, the image and the inputs that travel, and the objects of the run.

Others take ``submit.submit``, ``submit.submit_job`` and ``submission``.
"""
