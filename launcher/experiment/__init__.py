"""The experiment file, parsed into ``Experiment``: schema, lookup by name, ``--set``, and every mistake with its line.

Rooms: ``text`` (text to values with their place), ``other_tools`` (names in TRL and other tools), ``sections``, ``explain``.
Others take ``schema.Experiment`` and its sections, ``files.load``, ``read_files``, ``check_files`` and ``read_env``,
``loaded.Loaded``, ``variables`` (which environment variables reach a run), ``shown`` and ``first_file``. Code outside of this
room gets typed settings, never dicts.
"""
