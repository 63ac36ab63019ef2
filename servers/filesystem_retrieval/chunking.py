"""Text → passages of at most 800 characters that begin and end where the text does.

A passage carries the trail of headings (or classes and functions) it stands under, which is embedded with it
and shown beside it. Its text is a piece of the file exactly as it is written, so that a citation can be checked
against the file; only of HTML it is what a reader sees, and then lines and bytes say where that stands.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from filesystem_retrieval.languages import LANGUAGES
from filesystem_retrieval.reading import Kind, Text, sha256_of
from filesystem_retrieval.symbols import symbols
from filesystem_retrieval.tables import packed_rows, rows_of

__all__ = ["Passage", "embedded", "headings", "passages"]

MAX_CHARS = 800
MAX_NAMES_CHARS = 200
_TRAIL = " > "
_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")

_text = TextSplitter(MAX_CHARS)
_markdown = MarkdownSplitter(MAX_CHARS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a content. Bytes are of its text in UTF-8, from `first_byte` up to `last_byte`."""

    first_byte: int
    last_byte: int
    first_line: int
    last_line: int
    page: int | None = None
    sheet: str | None = None
    first_row: int | None = None
    last_row: int | None = None
    heading: str | None = None
    text: str

    @property
    def sha256(self) -> str:
        return sha256_of(self.text.encode())


def embedded(heading: str | None, text: str) -> str:
    """What a passage is found by: its text under its headings, but not under one that it begins with."""
    above, _, own = (heading or "").rpartition(_TRAIL)
    trail = above if own and text.lstrip("# ").startswith(own) else heading
    return f"{trail}\n{text}" if trail else text


@dataclass(frozen=True, slots=True)
class _Mark:
    """From this character on, the text stands under this trail."""

    start: int
    heading: str


def passages(content: Text, kind: Kind) -> list[Passage]:
    """The passages of a file, in its order."""
    match kind:
        case "html":
            return _html(content.text)
        case "table":
            return _records(content.text)
        case "document" if any(page.sheet is not None for page in content.pages):
            return list(_sheets(content))
        case "markdown" | "document":
            return _paged(_located(content.text, _by_page(content), _headings(content.text)), content)
        case _ if kind in LANGUAGES:
            return _code(content.text, kind)
        case _:
            return _located(content.text, _text.chunk_indices(content.text), [])


def _records(text: str) -> list[Passage]:
    """Of a table in text form: whole records, each under the names of its columns."""
    rows = rows_of(text)
    names = rows[0].text.strip() if rows else ""
    return _rows(text, [(row.start, row.text) for row in rows], names=names, heading=None)


def _sheets(content: Text) -> Iterator[Passage]:
    """Of a workbook: whole rows of one sheet, each under the names of its columns."""
    lines = _line_starts(content.text)
    ends = [*(lines[page.first_line - 1] for page in content.pages[1:]), len(content.text)]
    for page, end in zip(content.pages, ends, strict=True):
        start = lines[page.first_line] if page.first_line < len(lines) else end
        rows = [(start + at, line) for at, line in _lines_of(content.text[start:end])]
        names = next((line.strip() for _, line in rows if line.strip()), "")
        for passage in _rows(content.text, rows, names=names, heading=page.sheet):
            yield replace(passage, page=page.number, sheet=page.sheet)


def _lines_of(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, text[start : start + len(line) + 1]
        start += len(line) + 1


def _rows(text: str, rows: Sequence[tuple[int, str]], *, names: str, heading: str | None) -> list[Passage]:
    """Rows joined up to the limit; one that is longer stays whole."""
    spans = packed_rows([row for _, row in rows], MAX_CHARS)
    pieces = [(rows[first][0], "".join(row for _, row in rows[first:last])) for first, last in spans]
    below = _TRAIL.join(part for part in (heading, names[:MAX_NAMES_CHARS]) if part) or None
    found = []
    for (first, last), passage in zip(spans, _located(text, pieces, []), strict=True):
        above = heading if names and names in passage.text else below
        found.append(replace(passage, heading=above, first_row=first + 1, last_row=last))
    return found


def headings(content: Text, kind: Kind) -> list[tuple[int, int, str]]:
    """Line, level and title of each heading. In a text without marks for them there are none."""
    match kind:
        case "markdown" | "document":
            lines = _line_starts(content.text)
            marks = [(bisect_right(lines, mark.start), mark.heading) for mark in _headings(content.text)]
        case "html":
            marks = [(block.first_line, block.heading or "") for block in _heading_blocks(content.text)]
        case _:
            marks = []
    return [(line, heading.count(_TRAIL) + 1, heading.rpartition(_TRAIL)[2]) for line, heading in marks]


def _heading_blocks(source: str) -> Iterator[_Block]:
    reader = _PageReader()
    reader.feed(source)
    reader.close()
    above = None
    for block in reader.blocks():
        if block.heading != above and block.heading is not None:
            yield block
        above = block.heading


def _located(text: str, pieces: Iterable[tuple[int, str]], marks: Sequence[_Mark]) -> list[Passage]:
    lines = _line_starts(text)
    starts = [mark.start for mark in marks]
    found = []
    character = byte = 0
    for start, piece in pieces:
        if not piece.strip():
            continue
        byte += len(text[character:start].encode())
        character = start
        under = bisect_right(starts, start)
        found.append(
            Passage(
                first_byte=byte,
                last_byte=byte + len(piece.encode()),
                first_line=bisect_right(lines, start),
                last_line=bisect_right(lines, start + len(piece.rstrip()) - 1),
                heading=(marks[under - 1].heading if under else "") or None,
                text=piece,
            )
        )
    return found


def _by_page(content: Text) -> Iterator[tuple[int, str]]:
    """Pieces that never run over the end of a page, so that each has one page to cite."""
    lines = _line_starts(content.text)
    cuts = [0, *(lines[page.first_line - 1] for page in content.pages[1:]), len(content.text)]
    for start, end in pairwise(cuts):
        for offset, piece in _markdown.chunk_indices(content.text[start:end]):
            yield start + offset, piece


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _paged(found: list[Passage], content: Text) -> list[Passage]:
    if not content.pages:
        return found
    starts = [page.first_line for page in content.pages]
    numbers = [content.pages[max(bisect_right(starts, passage.first_line) - 1, 0)].number for passage in found]
    return [replace(passage, page=number) for passage, number in zip(found, numbers, strict=True)]


def _headings(text: str) -> list[_Mark]:
    """Markdown's headings with their trails, fenced code left out."""
    marks = []
    trail: list[tuple[int, str]] = []
    fence = ""
    start = 0
    for line in text.split("\n"):
        if fenced := _FENCE.match(line):
            fence = "" if fence == fenced[1] else fence or fenced[1]
        elif not fence and (heading := _HEADING.match(line.rstrip("\r"))):
            level = len(heading[1])
            trail = [*((depth, title) for depth, title in trail if depth < level), (level, heading[2])]
            marks.append(_Mark(start, _TRAIL.join(title for _, title in trail)))
        start += len(line) + 1
    return marks


def _code(text: str, language: str) -> list[Passage]:
    """Definitions whole where they fit, neighbours together while they fit; split by lines where they do not."""
    lines = _line_starts(text)
    marks: list[_Mark] = []
    fresh = set()
    for symbol in symbols(text, language):
        start = lines[symbol.first_line - 1]
        marks.append(_Mark(start, _TRAIL.join(symbol.trail)))
        if symbol.last_line < len(lines):
            marks.append(_Mark(lines[symbol.last_line], _TRAIL.join(symbol.outer)))
        if not symbol.outer:
            fresh.add(start)
    # of what begins and ends at one place the innermost that begins counts
    marks.sort(key=lambda mark: (mark.start, mark.heading.count(_TRAIL), bool(mark.heading)))
    cuts = sorted({0, *(mark.start for mark in marks), len(text)})
    return _located(text, _packed(text, cuts, fresh), marks)


def _packed(text: str, cuts: Sequence[int], fresh: set[int]) -> Iterator[tuple[int, str]]:
    """The pieces between `cuts`, joined up to the limit; a new one begins at a `fresh` cut of enough length."""
    start = end = 0
    for left, right in pairwise(cuts):
        if end > start and (right - start > MAX_CHARS or (left in fresh and end - start > MAX_CHARS // 4)):
            yield from _split(text, start, end)
            start = left
        end = right
    yield from _split(text, start, end)


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    for offset, piece in _text.chunk_indices(text[start:end]):
        yield start + offset, piece


def _html(source: str) -> list[Passage]:
    """What a reader of the page sees, in blocks that know their lines, joined up to the limit."""
    reader = _PageReader()
    reader.feed(source)
    reader.close()
    lines = _line_starts(source)
    found = []
    for blocks in _joined(reader.blocks()):
        first, last = blocks[0].first_line, blocks[-1].last_line
        start, end = lines[first - 1], lines[last] if last < len(lines) else len(source)
        for _, piece in _text.chunk_indices("\n".join(block.text for block in blocks)):
            found.append(
                Passage(
                    first_byte=len(source[:start].encode()),
                    last_byte=len(source[:end].encode()),
                    first_line=first,
                    last_line=last,
                    heading=blocks[0].heading,
                    text=piece,
                )
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    text: str
    first_line: int
    last_line: int
    heading: str | None


def _joined(blocks: Iterable[_Block]) -> Iterator[list[_Block]]:
    together: list[_Block] = []
    for block in blocks:
        size = sum(len(earlier.text) + 1 for earlier in together) + len(block.text)
        if together and (size > MAX_CHARS or block.heading != together[0].heading):
            yield together
            together = []
        together.append(block)
    if together:
        yield together


_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q"}
    | {"s", "samp", "small", "span", "strong", "sub", "sup", "u", "var"}
)
_UNSEEN = frozenset({"script", "style", "template", "head"})


class _PageReader(HTMLParser):
    """Collects visible text; a block ends where a browser would begin a new line."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[_Block] = []
        self._words: list[str] = []
        self._first_line = 1
        self._trail: list[tuple[int, str]] = []
        self._level = 0
        self._unseen = 0

    def blocks(self) -> list[_Block]:
        self._end_block()
        return self._blocks

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _UNSEEN:
            self._unseen += 1
        if tag == "body":
            self._unseen = 0  # a head need not be closed
        if tag not in _INLINE:
            self._end_block()
            self._level = int(tag[1]) if re.fullmatch("h[1-6]", tag) else self._level

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(self._unseen - 1, 0)
        if tag not in _INLINE:
            self._end_block()
            self._level = 0 if re.fullmatch("h[1-6]", tag) else self._level

    def handle_data(self, data: str) -> None:
        if self._unseen or not data.strip():
            return
        if not self._words:
            self._first_line = self.getpos()[0] + data[: len(data) - len(data.lstrip())].count("\n")
        self._words += data.split()
        self._last_line = self.getpos()[0] + data.rstrip().count("\n")

    def _end_block(self) -> None:
        if not self._words:
            return
        text = " ".join(self._words)
        self._words = []
        if self._level:
            above = [(depth, title) for depth, title in self._trail if depth < self._level]
            self._trail = [*above, (self._level, text)]
        heading = _TRAIL.join(title for _, title in self._trail) or None
        self._blocks.append(
            _Block(text=text, first_line=self._first_line, last_line=self._last_line, heading=heading)
        )
