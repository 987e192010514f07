"""Workbooks for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence


def workbook(sheets: Mapping[str, Sequence[Sequence[str | float | None]]], merged: Sequence[str] = ()) -> bytes:
    """An .xlsx file as small as the format allows; ``merged``: ranges such as A2:A3 of each sheet."""
    merges = "".join(f'<mergeCell ref="{one}"/>' for one in merged)
    merges = f'<mergeCells count="{len(merged)}">{merges}</mergeCells>' if merged else ""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    documents = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    numbers = range(1, len(sheets) + 1)
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{relations}">'
        f'<Relationship Id="r" Type="{documents}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{documents}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in zip(numbers, sheets, strict=True))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{relations}">'
        + "".join(f'<Relationship Id="r{n}" Type="{documents}/worksheet" Target="worksheets/{n}.xml"/>' for n in numbers)
        + "</Relationships>",
    }
    for number, rows in zip(numbers, sheets.values(), strict=True):
        body = "".join(
            f'<row r="{r}">'
            + "".join(
                f'<c r="{chr(65 + c)}{r}"><v>{cell}</v></c>'
                if isinstance(cell, int | float)
                else f'<c r="{chr(65 + c)}{r}" t="inlineStr"><is><t>{cell}</t></is></c>'
                for c, cell in enumerate(row)
                if cell is not None
            )
            + "</row>"
            for r, row in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/{number}.xml"] = f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData>{merges}</worksheet>'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0"?>{text}')
    return file.getvalue()
