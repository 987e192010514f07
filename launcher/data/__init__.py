"""The rows of an experiment, from files and spreadsheets to text pairs; every check that needs no tokenizer.

Others take ``rows.Reading``, ``pairs.Pairs`` and ``pairs.read_pairs``, ``table``'s places, and of ``sheets.spreadsheet`` the
copy that a run keeps of its spreadsheet. A mistake names its file, row and column.
"""
