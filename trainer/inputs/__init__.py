"""The inputs of a run: pairs, token ids, tokenizer, model and adapter, and the settings as TRL's arguments.

Rooms: ``tokens`` (text and template -> token ids), ``models`` (the base and its adapter), ``demo`` (the demo's data and model).
Others take ``data.read_data``, ``arguments.arguments``, ``hub``, ``bucket``, and from the rooms what they name.
"""
