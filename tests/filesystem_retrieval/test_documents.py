"""Documents of every kind say what is in them, and where."""

from __future__ import annotations

import io
import json
import zipfile
from email.message import EmailMessage
from typing import Any

from filesystem_retrieval.chunking import passages
from filesystem_retrieval.reading import Text

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for name, text in files.items():
            writer.writestr(name, text)
    return buffer.getvalue()


def xlsx(sheets: dict[str, list[list[str]]]) -> bytes:
    """A small workbook."""
    numbers = range(1, len(sheets) + 1)
    parts = "".join(
        f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_SHEET_TYPE}.worksheet+xml"/>'
        for number in numbers
    )
    listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
    related = "".join(
        f'<Relationship Id="r{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEET_TYPE}.sheet.main+xml"/>{parts}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{related}</Relationships>',
    }
    for number, rows in enumerate(sheets.values(), 1):
        cells = "".join(
            f'<row r="{row}">'
            + "".join(
                f'<c r="{"ABCDE"[column]}{row}" t="inlineStr"><is><t>{value}</t></is></c>'
                for column, value in enumerate(values)
            )
            + "</row>"
            for row, values in enumerate(rows, 1)
        )
        files[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{_SHEET}"><sheetData>{cells}</sheetData></worksheet>'
        )
    return archive(files)


def epub(heading: str, text: str) -> bytes:
    """A small book."""
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'<container version="1.0" xmlns="{container}"><rootfiles><rootfile '
            'full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
            "c.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>T</dc:title>'
            '<dc:identifier id="i">x</dc:identifier></metadata><manifest><item id="a" href="a.xhtml" '
            'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
            "a.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body>'
            f"<h1>{heading}</h1><p>{text}</p></body></html>",
        }
    )


async def test_books_mails_notebooks_and_workbooks_are_found_by_what_they_say(desk: Any) -> None:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "a@example.org", "The walrus contract"
    mail.set_content("Hello,\n\nthe penguin signed.\n")
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Seals\n", "All about them."]},
        {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": ["count_badgers()"], "outputs": []},
    ]
    desk.write("letter.eml", bytes(mail))
    desk.write("n.ipynb", json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    desk.write("book.epub", epub("Otters", "They float on their backs."))
    desk.write("table.xlsx", xlsx({"Land": [["name"], ["ibex"]], "Sea": [["name"], ["narwhal"]]}))
    await desk.scan()

    async def first(query: str) -> tuple[str, str | None]:
        hit = (await desk.use("fs_search", query)).items[0]
        return hit.path, hit.heading

    assert (await first("walrus contract"))[0] == "letter.eml"
    assert (await first("penguin signed"))[0] == "letter.eml"
    assert await first("count badgers") == ("n.ipynb", "Seals")
    assert await first("float backs") == ("book.epub", "Otters")
    assert (await first("narwhal"))[0] == "table.xlsx"
    sea = await desk.use("fs_read", "table.xlsx", symbol="Sea")
    assert "narwhal" in sea.text and "ibex" not in sea.text


def test_no_passage_ends_within_a_row_of_a_table() -> None:
    rows = "\n".join(f"| {number} | animal number {number} | {'long ' * (number % 9)} |" for number in range(200))
    table = f"## Sheet\n\n| a | b | c |\n| --- | --- | --- |\n{rows}\n"

    found = passages(Text(text=table), "document")

    assert len(found) > 5
    lines = set(table.split("\n"))
    for passage in found:
        assert set(passage.text.rstrip("\n").split("\n")) <= lines
        assert passage.heading == "Sheet"
