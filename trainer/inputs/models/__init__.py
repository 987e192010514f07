"""The model that is trained: the base, its modules and their adapter, and the adapter that the training starts from.

Others take ``model.load_model``, ``adapter.lora_config``, ``started``, ``starting``, ``skeleton``, ``targets`` and ``dropout``.
"""
