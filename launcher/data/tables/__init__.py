"""Tables of text, whatever they were read from: files of any format, worksheets, datasets on the hub. Rows know their place.

Others take ``rows.read_tables``, ``reading.Reading``, the places of ``table``, and from ``sheets.spreadsheet`` the snapshot that
a run keeps of its spreadsheet.
"""
