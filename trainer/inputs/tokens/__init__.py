"""Pairs -> text by the chat template -> token ids, with every check that needs a tokenizer. Loads no model.

Others take ``tokens.Tokens``, ``token_pairs.TokenPairs``, ``clock.day_of_run``, ``template``, ``preview`` and ``reach``.
"""
