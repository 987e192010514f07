"""The rows of an experiment, from files and spreadsheets to text pairs; every check that needs no tokenizer.

Others take ``checked.check``, ``first_data.first_data``, ``pairs.Pairs`` and ``pairs.read_pairs``; from ``tables`` see there. A
mistake names its file, row and column.
"""
