"""All that is ready before the first step: a rank's inputs, the model, and the trainer that holds both, in this order.

Others take ``rank.Rank``, ``rank.Roots``, ``inputs.find_model``, ``inputs.prepare_inputs``, ``inputs.tokenize_all``,
``model.prepare_model`` and ``trainer.prepare_trainer``.
"""
