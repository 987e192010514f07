"""The text of a file -> values that know their place: YAML, an environment file, ``--set``. Knows no setting."""
