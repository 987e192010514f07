"""The file that a person writes, read into ``Experiment``: schema, lookup, ``--set``, and every mistake at its line.

Others take ``schema.Experiment`` and its sections, ``hyperparameters.Hyperparameters``, and of ``files`` the functions ``load``,
``read_files``, ``check_files`` and ``read_env``. After this room there are no dicts of settings.
"""
