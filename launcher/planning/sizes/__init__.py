"""Sizes: how large a model and its adapter are, and the bytes and flops that training them takes. Pure, but for ``config_file``.

Others take ``model_config``, ``config_file``, ``adapter``, ``activations``, ``state`` and ``machine``.
"""
