"""A run as the objects of a cluster. Pure, but for ``local``, which looks at this machine's files."""
