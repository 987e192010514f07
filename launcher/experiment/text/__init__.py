"""Parses text into values that know their place: YAML, environment files, ``--set``. Knows no settings."""
