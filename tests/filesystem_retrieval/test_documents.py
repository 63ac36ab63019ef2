"""Documents of every kind say what is in them, and where."""

from __future__ import annotations

import io
import json
from datetime import date
from email.message import EmailMessage
from typing import Any

import docx
import pptx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papers import epub, xlsx

from filesystem_retrieval.chunking import passages
from filesystem_retrieval.reading import Text, decode, encoding_of, kind_of


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


async def test_a_workbook_is_cited_by_sheet_and_rows(desk: Any) -> None:
    land = [["name", "born"], *([f"animal {number} " + "long " * (number % 30), number] for number in range(300))]
    land[250] = ["ibex | goat\nof the Alps", date(2026, 5, 1)]
    sea = [[], [], [None, None, "narwhal", 3.0, True]]
    desk.write("zoo.xlsx", xlsx({"Land": land, "Sea": sea}))
    await desk.index()

    ibex = (await desk.search("ibex Alps")).items[0]
    assert (ibex.sheet, ibex.page) == ("Land", 1)
    assert ibex.first_row <= 251 <= ibex.last_row and ibex.heading == "Land > | name | born |"
    assert "| ibex \\| goat of the Alps | 2026-05-01 |" in ibex.text.split("\n")
    narwhal = (await desk.search("narwhal")).items[0]
    assert (narwhal.sheet, narwhal.first_row, narwhal.last_row, narwhal.page) == ("Sea", 3, 3, 2)
    assert narwhal.text.strip() == "| narwhal | 3 | TRUE |"
    read = await desk.use("fs_read", "zoo.xlsx", page=2)
    assert (read.sheet, read.text.split("\n")[3]) == ("Sea", "| narwhal | 3 | TRUE |")
    assert [each.title for each in (await desk.use("fs_outline", "zoo.xlsx")).items] == ["Land", "Sea"]


async def test_every_row_of_a_table_stands_whole_in_one_passage_that_names_it(desk: Any) -> None:
    rows = [
        f'{number},"a note{chr(10) * (number % 3)} with, a comma",{"word " * (number % 40)}'
        for number in range(200)
    ]
    text = "id,note,words\n" + "\n".join(rows) + "\n"

    found = passages(Text(text=text), "table")

    records = text.split("\n")
    assert "".join(passage.text for passage in found) == text
    assert len(found) > 10 and records
    after = 1
    for passage in found:
        assert passage.first_row == after and passage.last_row is not None
        after = passage.last_row + 1
        for number in range(max(passage.first_row, 2), passage.last_row + 1):
            assert rows[number - 2] + "\n" in passage.text
        assert passage.heading == (None if passage.first_row == 1 else "id,note,words")
    assert after == len(rows) + 2


def test_a_quotation_mark_that_is_never_closed_does_not_swallow_a_table() -> None:
    text = "a,b\n" + "\n".join(f'{number},"open' if number == 3 else f"{number},fine" for number in range(20_000))

    found = passages(Text(text=text), "table")

    assert max(len(passage.text) for passage in found) <= 800
    assert found[-1].last_row == 20_001


async def test_slides_are_pages_in_the_order_in_which_they_are_shown(desk: Any) -> None:
    show = pptx.Presentation()
    for title, body in (("Walrus", "tusks and whiskers"), ("Penguin", "black and white")):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
        slide.notes_slide.notes_text_frame.text = f"say more of the {title.lower()}'s youth"
    table = slide.shapes.add_table(2, 2, 0, 0, 9_000_000, 900_000).table
    table.cell(1, 1).text = "rookery"
    shown = show.slides._sldIdLst
    shown.insert(0, shown[1])  # the penguin comes first
    buffer = io.BytesIO()
    show.save(buffer)
    desk.write("show.pptx", buffer.getvalue())
    await desk.index()

    async def page(query: str) -> tuple[int, str]:
        hit = (await desk.search(query)).items[0]
        return hit.page, hit.heading

    assert await page("tusks whiskers") == (2, "Walrus")
    assert await page("rookery") == (1, "Penguin")
    assert await page("penguin's youth") == (1, "Penguin")
    second = await desk.use("fs_read", "show.pptx", page=2)
    assert second.pages == 2 and "tusks and whiskers" in second.text and "rookery" not in second.text


async def test_a_word_document_is_found_under_its_headings(desk: Any) -> None:
    document = docx.Document()
    document.add_heading("Animals", 1)
    document.add_heading("Walrus", 2)
    document.add_paragraph("It has tusks.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "weight", "one tonne"
    buffer = io.BytesIO()
    document.save(buffer)
    desk.write("animals.docx", buffer.getvalue())
    await desk.index()

    hit = (await desk.search("tusks")).items[0]
    assert (hit.path, hit.heading) == ("animals.docx", "Animals")
    assert "one tonne" in (await desk.use("fs_read", "animals.docx", symbol="Walrus")).text


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.xls", "a.pdf", "a.epub", "a.ods"])
async def test_a_document_that_cannot_be_read_is_listed_with_the_reason(desk: Any, name: str) -> None:
    desk.write(name, b"PK\x03\x04 no such thing" if name != "a.pdf" else b"%PDF-1.7 no such thing")
    desk.write("fine.md", "walrus")
    await desk.index()

    (failure,) = (await desk.use("fs_status")).roots[0].failures
    assert failure.path == name and failure.reason
    assert await desk.found("walrus") == ["fine.md"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("The naïve café in Zürich costs 5 € – “so” much.", "cp1252"),
        ("Zażółć gęślą jaźń, mówił świerszcz", "cp1250"),
        ("Договор о поставке оборудования заключён в Москве", "cp1251"),
        ("Договор о поставке оборудования заключён в Москве", "koi8-r"),
        ("Ελληνικό κείμενο για αναζήτηση", "cp1253"),
        ("日本語のテキストです。検索できます。", "shift_jis"),
        ("日本語のテキストです。検索できます。", "euc_jp"),
        ("日本語のテキストです。検索できます。", "iso2022_jp"),
        ("中文文本，可以搜索。", "gb18030"),
        ("繁體中文文字可以搜尋", "big5"),
        ("한국어 텍스트를 검색합니다", "euc_kr"),
        ("plain text with a walrus ü", "utf-16"),
        ("plain text with a walrus ü", "utf-16-le"),
        ("plain text with a walrus ü", "utf-16-be"),
        ("plain text with a walrus ü", "utf-32"),
        ("plain text with a walrus ü", "utf-32-be"),
        ("naïve walrus", "utf-8-sig"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_is_written_in(text: str, encoding: str) -> None:
    written = f"{text}\n" * 5

    assert decode(written.encode(encoding)) == written
    assert kind_of("a.txt", written.encode(encoding)) == "text"


async def test_an_edit_keeps_the_encoding_of_the_file(writable: Any) -> None:
    before = "Договор заключён в Москве, в присутствии свидетелей.\n" * 3
    writable.write("a.txt", before.encode("cp1251"))

    await writable.use("fs_edit", "a.txt", "Москве", "Киеве", everywhere=True)

    assert (writable.folder / "a.txt").read_bytes() == before.replace("Москве", "Киеве").encode("cp1251")


@given(st.binary(max_size=400))
def test_no_bytes_are_lost_or_refused_as_text(content: bytes) -> None:
    mark, codec = encoding_of(content)

    assert isinstance(decode(content), str)
    if codec not in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"):
        assert mark + content[len(mark) :].decode(codec).encode(codec) == content
