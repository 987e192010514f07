"""What is done with a run that has ended: its weights score, answer, are merged, served and published; each verb has a file.

``target`` tells which weights a name means, ``tool`` starts a module of ``trainer/after/`` for them. Others take what each file's
verb is called. Functions tell a listener what takes a while; they print nothing.
"""
