"""What is done with a run that has ended: its weights score, answer, are merged, served and published.

Others take ``score``, ``chat.open_chat``, ``generate``, ``merge`` and ``push``; each verb has a file. ``target`` says which weights a name means, ``tool`` starts a module of
``trainer/after/`` for them. Functions tell a listener what takes a while; they print nothing.
"""
