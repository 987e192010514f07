"""What verbs draw with and complete from: text, facts and tables, bars, events of a run, options that several verbs share.

Others take all of them; nothing in here calls a verb.
"""
