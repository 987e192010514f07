"""What each key is, for people and editors: ``explained`` (``launcher explain`` and the reference) and ``json_schema``."""
