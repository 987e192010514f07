"""The model card of trained weights (README.md), and the public name of the base model in the files beside it.

Others take ``base.Base``, ``base.name_base`` and ``card.write_card``.
"""
