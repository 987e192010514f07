"""Checks of data: cells, chats, pairs side by side, near repeats. Each reports to ``findings``."""
