"""Google Sheets: who asks (``account``), the asking (``client``), what was read and its copy in a run (``spreadsheet``).

A spreadsheet is read once a run, so that all ranks, a resume, a retry and a restart train on the same cells:

- ``launcher run`` and ``submit`` read it for their check. Those cells go into the run's folder as it is made (``data/read/``, a
  JSON array a row and a manifest with hashes), before any rank is there; a pod finds them in its ConfigMap. The ranks read that
  copy, never the sheet: no container needs Google's key, and nothing can change between the check and the training.
- Where nobody has put a copy (``python -m trainer`` by hand, the Python API, cells that are more than the 900 KiB of a
  ConfigMap), the first rank reads the sheet and leaves the copy; the others wait for it.

All of it is one request: pieces of a sheet that somebody is writing to could be of two states. Google sets no limit to an answer.
The copy is whole or absent: its manifest is written last, and its hashes are compared at each reading.
"""
