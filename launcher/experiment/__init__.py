"""The file that a person writes, read into ``Experiment``: schema, lookup, ``--set``, and every mistake at its line.

Rooms: ``text`` (text -> values with their place), ``other_tools`` (names of TRL and others), ``sections``, ``explain``. Others
take ``schema.Experiment`` and its sections, ``files.load``, ``read_files``, ``check_files`` and ``read_env``, ``loaded.Loaded``,
``variables`` (what of the environment reaches a run), ``shown`` and ``first_file``. Beyond it there are no dicts of settings.
"""
