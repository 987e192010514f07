"""Processes that work with trained weights, one module each: ``python -m trainer.after.score …``.

The launcher starts them (``launcher/after/tool.py``). All load weights through ``loaded``. Others take ``loaded.load`` and
``conversation.Conversation``.
"""
