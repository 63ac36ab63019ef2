"""The parts a file is made of: sections under headings, or definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filesystem_retrieval.chunking import headings
from filesystem_retrieval.languages import LANGUAGES
from filesystem_retrieval.reading import Kind, Text
from filesystem_retrieval.symbols import symbols

__all__ = ["Part", "named", "parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Lines are counted from 1; the last one belongs to it. A part at level 2 stands in one at level 1."""

    title: str
    name: str
    level: int
    first_line: int
    last_line: int


def parts(content: Text, kind: Kind) -> Sequence[Part]:
    """All parts, in the order of the file; those that stand in others come after them."""
    if kind not in LANGUAGES:
        return _sections(headings(content, kind), content.text.count("\n") + 1)
    return [
        Part(
            title=each.title,
            name=".".join([*(title.partition(" ")[2] for title in each.outer), each.name]),
            level=len(each.trail),
            first_line=each.first_line,
            last_line=each.last_line,
        )
        for each in symbols(content.text, kind)
    ]


def named(found: Sequence[Part], name: str) -> Sequence[Part]:
    """The parts of that name: `Account.close`, or `close` alone, or a heading."""
    exact = [part for part in found if name in (part.name, part.title)]
    return exact or [part for part in found if part.name.endswith(f".{name}")]


def _sections(found: Sequence[tuple[int, int, str]], lines: int) -> Sequence[Part]:
    sections = []
    for place, (first, level, title) in enumerate(found):
        after = (line for line, other, _ in found[place + 1 :] if other <= level)
        last = next(after, lines + 1) - 1
        sections.append(Part(title=title, name=title, level=level, first_line=first, last_line=last))
    return sections
