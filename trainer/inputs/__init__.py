"""What a run is made of: pairs, token ids, tokenizer, model and adapter, the settings as TRL's arguments.

Others take ``data.read_data``, ``clock.day_of_run``, ``tokens.Tokens``, ``token_pairs.TokenPairs``, ``model.load_model``,
``adapter.lora_config``, ``arguments.arguments`` and ``bucket``.
"""
