"""Google Sheets: who asks (``account``), the asking (``client``), what was read and its copy in a run (``spreadsheet``).

A spreadsheet is read once a run, so that all ranks, a resume, a retry and a restart train on the same cells:

- ``launcher run`` reads it for its check, on the host and Docker backends. Those cells go into the run's folder as it is made
  (``data/read/``, a JSON array a row and a manifest with hashes), before any rank is there. The ranks read that copy, never the
  sheet; no container is handed Google's key, and nothing can change between the check and the training.
- Where nobody has put a copy (a pod, ``python -m trainer`` by hand, the Python API), the first rank reads the sheet and leaves
  the copy; the others wait for it. A ConfigMap holds 900 KiB, and a large sheet does not fit: so a pod reads for itself.

The copy is whole or absent: its manifest is written last, and its hashes are compared at each reading.
"""
