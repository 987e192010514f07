"""Google Sheets: the account (``account``), the requests (``client``), what was read and its snapshot (``spreadsheet``).

A spreadsheet is read once per run: all ranks, a resume, a retry and a restart train on the same cells.

- ``launcher run`` and ``submit`` read it for their checks. These cells become the snapshot in the run's folder (``data/read/``:
  one JSON array per row, and a manifest with hashes) before any rank starts; a pod finds them in its ConfigMap. The ranks read
  the snapshot, never the sheet: no container needs Google's key, and nothing changes between the checks and the training.
- Without a snapshot (``python -m trainer`` by hand, the Python API, more cells than the 900 KiB of a ConfigMap), the first rank
  reads the sheet and writes the snapshot; the others wait for it.

The worksheets are read in one request: parts of a sheet that somebody is editing could show two states. Google sets no limit on
the size of an answer. The snapshot is whole or absent: its manifest is written last, and its hashes are compared at each reading.
"""
