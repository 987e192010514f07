"""The rows of an experiment, from files and spreadsheets to text pairs; every check that needs no tokenizer.

Others take ``checked.check``, ``rows.Reading``, ``pairs.Pairs`` and ``pairs.read_pairs``, the places of ``table``, and from
``sheets.spreadsheet`` the snapshot that a run keeps of its spreadsheet. A mistake names its file, row and column.
"""
