"""Writes the generated parts of README and docs: tables of keys and cards, outputs of commands, the picture of a terminal.

``make docs`` and ``make pictures`` run its files; the tests take ``blocks``: code blocks, and a checkout to try them in.
Nothing here is needed to train.
"""
