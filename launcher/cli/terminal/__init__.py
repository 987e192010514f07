"""Output and completion shared by the verbs: text, facts, tables, progress bars, events of a run, common options.

Others take all of them. Nothing here calls a verb.
"""
