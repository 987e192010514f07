"""Submitting a run to a cluster: preflight checks, its inputs, its Secret, its objects.

Others take ``facts.gather``, ``preflight.preflight``, ``staging.stage``, ``creation.try_all`` and ``creation.create`` in this
order, ``secret.push_secrets`` for `launcher secrets push`, and ``checkup.look`` for `launcher doctor --cluster`.
"""
