"""The model card: README.md of what a run trained, and the name that the files beside it give the base model.

Others take ``base.Base``, ``base.name_base`` and ``card.write_card``.
"""
