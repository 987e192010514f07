"""The trained model: the base, its modules and their adapter, and the adapter to start from.

Others take ``model.load_model``, ``adapter.lora_config``, ``start_model``, ``starting``, ``skeleton``, ``targets``, ``dropout``.
"""
