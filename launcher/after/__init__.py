"""What can be done with trained weights once a run has ended: chat, generate, score, merge, serve, push. One file for each
verb.

``target`` resolves a name to weights. ``tool`` starts a module of ``trainer/after/`` on them. Other rooms call the function
that is named like the verb. Functions report progress to a listener and print nothing.
"""
