"""Each kind of file, from its bytes to passages that say where they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from papers import docx, pdf

from filesystem_retrieval.chunking import embedded, passages
from filesystem_retrieval.reading import Kind, Text, decode, kind_of
from usrland.errors import InvalidInput, NotFound

MARKDOWN = """# Handbook

Welcome.

## Travel

Trains first.

```sh
# not a heading
```

### Refunds

Receipts within a month.

## Holidays

Twenty-five days.
"""
PYTHON = '''"""Money."""

import os


class Account:
    """One customer's money."""

    def withdraw(self, amount):
        return self.balance - amount


def audit(entries):
    return [entry for entry in entries if entry.wrong]


TOTAL = 3
'''


@pytest.mark.parametrize("kind", ["markdown", "python", "text", "html"])
@pytest.mark.parametrize(
    "text", ["", "\n\n", "x", "a\r\nb\r\n", "é" * 5_000, "def (", "\0", "# " * 900, "<p", MARKDOWN, PYTHON]
)
def test_a_passage_is_short_and_says_where_it_stands(kind: Kind, text: str) -> None:
    lines = text.split("\n")

    for passage in passages(Text(text=text), kind):
        assert 0 < len(passage.text) <= 800
        assert 1 <= passage.first_line <= passage.last_line <= len(lines)
        if kind != "html":
            assert text.encode()[passage.first_byte : passage.last_byte].decode() == passage.text
            assert passage.text in "\n".join(lines[passage.first_line - 1 : passage.last_line])
        assert passage.sha256 == hashlib.sha256(passage.text.encode()).hexdigest()


def test_every_word_of_a_text_is_in_some_passage() -> None:
    text = "\n\n".join(f"Paragraph {number} " + "lorem ipsum " * (number % 40) for number in range(200))

    for kind in ("markdown", "text", "python", "html"):
        joined = " ".join(passage.text for passage in passages(Text(text=text), kind))
        assert joined.split() == text.split(), kind


def test_a_markdown_passage_carries_its_headings_and_code_has_none() -> None:
    long = MARKDOWN.replace("Twenty-five days.", "Twenty-five days. " * 60)

    trails = {passage.heading for passage in passages(Text(text=long), "markdown")}

    assert "Handbook" in trails
    assert "Handbook > Holidays" in trails
    assert not any("not a heading" in (trail or "") for trail in trails)


def test_a_heading_is_not_repeated_before_a_passage_that_begins_with_it() -> None:
    assert embedded("Guide > Install", "## Install\nRun it.") == "Guide\n## Install\nRun it."
    assert embedded("Guide > Install", "Run it.") == "Guide > Install\nRun it."
    assert embedded(None, "Run it.") == "Run it."


def test_python_is_cut_between_definitions_and_names_them() -> None:
    body = "\n".join(f"        step_{number} = amount + {number}" for number in range(30))
    source = PYTHON.replace("        return self.balance - amount", body)

    found = passages(Text(text=source), "python")

    assert {passage.heading for passage in found if "step_" in passage.text} == {"class Account > def withdraw"}
    (audit,) = (passage for passage in found if passage.heading == "def audit")
    assert audit.text.startswith("def audit(entries):")
    assert audit.first_line == source[: source.index("def audit")].count("\n") + 1


def test_html_is_what_a_reader_sees_with_the_lines_it_stands_on() -> None:
    source = (
        "<html><head><title>no</title><style>p { color: red }</style></head>\n<body><h1>Guide</h1>\n"
        "<script>alert('no')</script>\n<h2>Install</h2>\n<p>Run <b>make</b> &amp; wait.</p>\n</body></html>"
    )

    *_, last = passages(Text(text=source), "html")

    assert last.text == "Install\nRun make & wait."
    assert (last.heading, last.first_line, last.last_line) == ("Guide > Install", 4, 5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_text_is_decoded_whatever_it_was_written_in(encoding: str) -> None:
    content = "Größe: fünf\n".encode(encoding)

    assert kind_of("note.txt", content) == "text"
    assert decode(content) == "Größe: fünf\n"


async def test_a_pdf_is_found_and_read_by_page(desk: Any) -> None:
    desk.write("report.pdf", pdf(["The penguin sleeps.", "The walrus swims north."]))
    await desk.index()

    (hit,) = (await desk.search("walrus")).items
    whole = await desk.use("fs_read", "report.pdf")
    second = await desk.use("fs_read", "docs/report.pdf", page=2)

    assert (hit.path, hit.page) == ("report.pdf", 2)
    assert "penguin" in whole.text
    assert (second.text.strip(), second.page, second.pages) == ("The walrus swims north.", 2, 2)
    with pytest.raises(InvalidInput, match="no page 3"):
        await desk.use("fs_read", "report.pdf", page=3)


async def test_a_library_planted_in_the_temporary_folder_is_not_loaded(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "temporary"
    planted = shared / "kreuzberg-pdfium" / "libpdfium.so"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"not ours")
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    desk.write("report.pdf", pdf(["The walrus swims north."]))

    read = await desk.use("fs_read", "report.pdf")

    assert read.text.strip() == "The walrus swims north."
    assert (planted.read_bytes(), len(list(shared.rglob("*")))) == (b"not ours", 2)


async def test_a_word_document_is_found_under_its_heading(desk: Any) -> None:
    desk.write("policy.docx", docx("Expenses", "Receipts are due within a month."))
    await desk.index()

    (hit,) = (await desk.search("receipts")).items

    assert hit.path == "policy.docx"
    assert hit.heading == "Expenses"
    assert [line.text for line in (await desk.use("fs_grep", "due within")).items] == [
        "Receipts are due within a month."
    ]


async def test_a_document_is_readable_before_it_is_indexed(desk: Any) -> None:
    desk.write("policy.docx", docx("Expenses", "Receipts are due within a month."))

    assert "Receipts" in (await desk.use("fs_read", "policy.docx")).text


async def test_what_cannot_be_read_is_listed_with_its_reason(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(max_file_bytes=1_000)
    desk.write("broken.pdf", b"%PDF-1.4 nothing")
    desk.write("huge.txt", "x" * 1_001)
    desk.write("picture.png", b"\x89PNG\0\0")
    desk.write("fine.txt", "walrus")
    await desk.index()

    (root,) = (await desk.use("fs_status")).roots

    assert (root.indexed, root.failed, root.pending) == (2, 2, 0)
    reasons = {failure.path: failure.reason for failure in root.failures}
    assert "refused" in reasons["broken.pdf"]
    assert reasons["huge.txt"] == "it is larger than 1000 bytes"
    assert await desk.found("walrus") == ["fine.txt"]
    with pytest.raises(InvalidInput, match="not text"):
        await desk.use("fs_read", "picture.png")
    with pytest.raises(InvalidInput, match="cannot be read"):
        await desk.use("fs_read", "broken.pdf")


async def test_a_long_file_is_read_in_parts_that_meet(desk: Any) -> None:
    lines = [f"line {number} of the log" for number in range(1, 3_001)]
    desk.write("big.log", "\n".join(lines) + "\n")

    read: list[str] = []
    while len(read) < len(lines):
        part = await desk.use("fs_read", "big.log", first_line=len(read) + 1)
        assert part.total_lines == 3_000
        assert (part.note is None) == (part.last_line == 3_000)
        read += part.text.split("\n")

    assert read == lines
    middle = await desk.use("fs_read", "big.log", first_line=10, last_line=12)
    assert middle.text == "\n".join(lines[9:12])
    with pytest.raises(InvalidInput, match="no line 3001"):
        await desk.use("fs_read", "big.log", first_line=3_001)
    with pytest.raises(NotFound):
        await desk.use("fs_read", "other.log")


@pytest.mark.parametrize("root", [None, "docs"])
async def test_a_folder_is_listed_and_not_read(desk: Any, root: str | None) -> None:
    desk.write("sub/a.md", "walrus")

    with pytest.raises(NotFound, match="is a folder") as refused:
        await desk.use("fs_read", "sub", root=root)
    assert "fs_list" in refused.value.fix
    with pytest.raises(NotFound, match="there is no"):
        await desk.use("fs_read", "sup", root=root)
