"""Bytes → text: what kind a file is, and what it says.

Text is decoded here, in the process. Formats that need a parser (PDF, DOCX, …) may be hostile and go to
`documents`, which runs the parser in a process of its own.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from filesystem_retrieval.languages import LANGUAGE_BY_EXTENSION

__all__ = [
    "Kind",
    "Page",
    "Text",
    "content_key",
    "decode",
    "encoding_of",
    "is_current",
    "kind_of",
    "read_all",
    "sha256_of",
]

Kind = str
"""`markdown`, `html`, `text`, `document`, `binary`, or the name of a programming language."""

SNIFF_BYTES = 8_192
CUT = 2
"""Raise it when the same bytes give other text or other passages than before: then they are read again."""
_BLOCK_BYTES = 1 << 20
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF8, "utf-8"))

_KINDS: dict[str, Kind] = {
    **dict.fromkeys((".md", ".markdown", ".mdx", ".mdc", ".qmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **LANGUAGE_BY_EXTENSION,
    **dict.fromkeys((".pdf", ".docx", ".pptx", ".xlsx", ".odt", ".ods", ".rtf", ".epub"), "document"),
    **dict.fromkeys((".eml", ".ipynb"), "document"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where a page of a document begins in its text."""

    number: int
    first_line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a file says. Lines are separated by newlines and counted from 1."""

    text: str
    pages: Sequence[Page] = ()


def kind_of(path: str, head: bytes) -> Kind:
    """By its extension, where that says something; else by its first bytes."""
    kind = _KINDS.get(PurePosixPath(path).suffix.lower())
    if kind == "document":
        return kind
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "binary"
    return kind or "text"


def decode(content: bytes) -> str:
    """UTF-16 where it says so, else UTF-8, else Latin-1, which always succeeds."""
    mark, codec = encoding_of(content)
    return content[len(mark) :].decode(codec, "replace")


def encoding_of(content: bytes) -> tuple[bytes, str]:
    """The byte order mark that a text begins with, if any, and the codec of what follows."""
    for mark, codec in _MARKS:
        if content.startswith(mark):
            return mark, codec
    try:
        content.decode()
    except UnicodeDecodeError:
        return b"", "latin-1"
    return b"", "utf-8"


def content_key(sha256: str, kind: Kind) -> str:
    """The name of a content: equal bytes read and cut in the same way say the same, wherever they stand."""
    return f"{sha256}.{kind}.{CUT}"


def is_current(content: str) -> bool:
    """Whether a content was read and cut as it would be now; empty is what cannot be."""
    return not content or content.endswith(f".{CUT}")


def read_all(fd: int, most: int) -> bytes | None:
    """Everything behind a descriptor, or `None` where that is more than `most` bytes."""
    blocks, size = [], 0
    while block := os.pread(fd, _BLOCK_BYTES, size):
        size += len(block)
        if size > most:
            return None
        blocks.append(block)
    return b"".join(blocks)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
