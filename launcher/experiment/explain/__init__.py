"""Describes every key, for people (``launcher explain``, the reference) and for editors (``json_schema``)."""
