"""The connection to an API server: raw JSON in and out, and the permissions that the launcher needs.

Others take ``Cluster`` from ``cluster``, the errors from ``errors``, and ``PERMISSIONS`` and ``SECRET`` from ``permissions``.
It knows nothing about runs.
"""
