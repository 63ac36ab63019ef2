"""What the parsers say of their input, asked in this process: elsewhere they run in one of their own."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date, datetime, time
from email.message import EmailMessage
from typing import Any

import openpyxl
import pptx
import pytest

from filesystem_retrieval.containers import Refused, answer_about, look_over
from filesystem_retrieval.extract import _extracted
from filesystem_retrieval.slides import slides
from filesystem_retrieval.workbooks import sheets

_SHOW = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_BOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def zipped(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(document: Any) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def show() -> bytes:
    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = "Walrus"
    slide.placeholders[1].text = "tusks and\nwhiskers"
    slide.notes_slide.notes_text_frame.text = "say more"
    table = slide.shapes.add_table(1, 2, 0, 0, 9_000_000, 900_000).table
    table.cell(0, 0).text, table.cell(0, 1).text = "weight", "one tonne"
    made.slides.add_slide(made.slide_layouts[6])
    return saved(made)


def book() -> bytes:
    made = openpyxl.Workbook()
    sheet = made.active
    sheet.title = "Land"
    for row in (
        [],
        ["a|b", 3.0, 2.5, True],
        [date(2026, 5, 1), datetime(2026, 5, 1, 12, 30), time(8, 15), None],
        [],
    ):
        sheet.append(row)
    made.create_sheet("Empty")
    return saved(made)


def test_a_slide_is_its_title_its_paragraphs_its_tables_and_its_notes() -> None:
    first, second = slides(show())

    assert first.split("\n") == [
        *("## Walrus", "", "tusks and", "whiskers", ""),
        *("| weight | one tonne |", "", "", "Notes:", "", "say more"),
    ]
    assert second == ""
    assert _extracted(_SHOW, show()) == {"pages": [[1, first, None], [2, second, None]]}


def test_a_presentation_without_its_parts_is_damaged() -> None:
    lists = (
        '<p:presentation xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<p:sldIdLst><p:sldId r:id="rId1"/></p:sldIdLst></p:presentation>'
    )
    for content in (
        b"none",
        zipped({}),
        zipped({"ppt/presentation.xml": "<a>"}),
        zipped({"ppt/presentation.xml": lists}),
    ):
        with pytest.raises(Refused, match="damaged"):
            list(slides(content))
    assert _extracted(_SHOW, b"none") == {"problem": "it is damaged"}


def test_a_cell_is_written_as_a_person_would() -> None:
    found = dict(sheets(book()))

    assert found == {
        "Land": "## Land\n\n| a\\|b | 3 | 2.5 | TRUE |\n| 2026-05-01 | 2026-05-01 12:30:00 | 08:15:00 |  |",
        "Empty": "## Empty",
    }
    assert [page[2] for page in _extracted(_BOOK, book())["pages"]] == ["Land", "Empty"]
    assert "refused" in _extracted(_BOOK, b"none")["problem"]


def test_other_documents_are_read_by_the_library() -> None:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "a@example.org", "The walrus contract"
    mail.set_content("the penguin signed.\n")

    ((number, text, sheet),) = _extracted("message/rfc822", bytes(mail))["pages"]

    assert (number, sheet) == (0, None)
    assert "penguin signed" in text
    assert "refused" in _extracted("application/pdf", b"%PDF-1.7 none")["problem"]


def asked(content: bytes, *names: str) -> tuple[dict[str, Any], bytes]:
    out = io.BytesIO()
    answer_about(json.dumps(names), io.BytesIO(content), out)
    head, _, rest = out.getvalue().partition(b"\n")
    return json.loads(head), rest


def test_an_archive_is_listed_and_gives_out_its_members() -> None:
    inner = zipped({"c.md": "three"})
    packed = zipped(
        {"a.md": "one", "b/": "", "../x.md": "out", "in.zip": inner, "d": "is a file", "d/e.md": "two"}
    )

    listed, _ = asked(packed)

    assert listed["members"] == [["a.md", 3], ["in.zip/c.md", 5], ["d/e.md", 3]]
    assert [problem.rpartition(" (")[0] for problem in listed["problems"]] == [
        "names that lead outside are left out",
        "a file has the name of a folder",
    ]
    contents, rest = asked(packed, "in.zip/c.md", "missing.md", "a.md")
    assert (contents["contents"], rest) == ([["in.zip/c.md", 5], ["a.md", 3]], b"threeone")


def test_archives_that_cannot_be_unpacked_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(b"no archive")[0]["problem"] == "it is damaged"
    assert asked(zipped({"a": bytes(3 << 20)}))[0]["problem"] == "it would unpack to more than 200 times its size"
    with pytest.raises(Refused, match="damaged"):
        look_over(io.BytesIO(b"PK none"))
    monkeypatch.setattr("filesystem_retrieval.containers.MAX_MEMBERS", 2)
    with pytest.raises(Refused, match="more than 2 members"):
        look_over(io.BytesIO(zipped({"a": "", "b": "", "c": ""})))
    monkeypatch.setattr("filesystem_retrieval.containers.MAX_BYTES", 2)
    assert "more than 0 MB" in asked(zipped({"a": "abc"}))[0]["problem"]


def test_a_damaged_member_is_told_apart_from_an_empty_one() -> None:
    packed = bytearray(zipped({"a.md": "walrus " * 50, "b.md": ""}))
    packed[40] ^= 0xFF  # within the first member's bytes

    assert asked(bytes(packed), "a.md", "b.md")[0]["contents"] == [["a.md", -1], ["b.md", 0]]
