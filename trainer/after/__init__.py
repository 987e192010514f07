"""The processes that work with the weights of a run that has ended, one module each: ``python -m trainer.after.score …``.

The launcher starts them (``launcher/after/tool.py``). Every one loads weights by ``loaded``.
Others take ``loaded.load`` and ``conversation.Conversation``.
"""
