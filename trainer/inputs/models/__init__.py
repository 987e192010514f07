"""The trained model: base model, modules, LoRA adapter, and the adapter to start from.

Others take ``model.load_model``, ``adapter.lora_config``, ``start_model``, ``starting``, ``skeleton``, ``targets``,
``dropout``.
"""
