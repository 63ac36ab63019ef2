"""Bytes → text: what kind a file is, and what it says.

Text is decoded here, in the process. Formats that need a parser (PDF, DOCX, …) may be hostile and go to
`documents`, which runs the parser in a process of its own.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from filesystem_retrieval.languages import LANGUAGE_BY_EXTENSION

__all__ = [
    "PACKED",
    "Kind",
    "Page",
    "Text",
    "bytes_in_words",
    "content_key",
    "decode",
    "encoding_of",
    "is_current",
    "kind_of",
    "read_all",
    "sha256_of",
]

Kind = str
"""`markdown`, `html`, `text`, `table` (a row is a record), `document`, `archive`, `binary`, or the name of a
programming language."""

SNIFF_BYTES = 8_192
CUT = 3
"""Raise it when the same bytes give other text or other passages than before: then they are read again."""
_BLOCK_BYTES = 1 << 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like the next one but one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_GUESS_BYTES = 1 << 16
_GUESSED = (
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
_WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøœšùúûüýÿžßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØŒŠÙÚÛÜÝŽ“”‘’„‚«»–—…€£§©®°·•¿¡ ºª")
_UNPRINTED = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd\ue000-\uf8ff]")
_ESCAPE = b"\x1b$"

_PACKED = ("gz", "bz2", "xz")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys((".md", ".markdown", ".mdx", ".mdc", ".qmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **LANGUAGE_BY_EXTENSION,
    **dict.fromkeys((".pdf", ".docx", ".pptx", ".xlsx", ".odt", ".ods", ".rtf", ".epub"), "document"),
    **dict.fromkeys((".eml", ".ipynb", ".xls", ".xlsb"), "document"),
    **dict.fromkeys((".csv", ".tsv", ".tab"), "table"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz2", ".txz"), "archive"),
}

PACKED = frozenset((*_PACKED, *(name[1:] for name, kind in _KINDS.items() if kind in ("document", "archive"))))
"""How names end, behind the last point, of files whose bytes are not their text."""


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page, a slide or a sheet of a document begins in its text."""

    number: int
    first_line: int
    sheet: str | None = None
    """The name of a sheet; then row 1 is the line after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a file says. Lines are separated by newlines and counted from 1."""

    text: str
    pages: Sequence[Page] = ()


def kind_of(path: str, head: bytes) -> Kind:
    """By its extension, where that says something; else by its first bytes."""
    name = path.rpartition("/")[2].lower()  # not pathlib: that would cost more than all the rest
    stem, dot, extension = name.rpartition(".")
    kind = _KINDS.get(f".{extension}") if stem and dot else None
    if stem.endswith(".tar") and extension in _PACKED:
        kind = "archive"
    if kind in ("document", "archive"):
        return kind
    if b"\0" in head and encoding_of(head)[1] not in _WIDE:
        return "binary"
    return kind or "text"


def decode(content: bytes) -> str:
    """As its byte order mark says, else as UTF-8, else as what it most probably is; always succeeds."""
    mark, codec = encoding_of(content)
    return content[len(mark) :].decode(codec, "replace")


def encoding_of(content: bytes) -> tuple[bytes, str]:
    """The byte order mark that a text begins with, if any, and the codec of what follows."""
    for mark, codec in _MARKS:
        if content.startswith(mark):
            return mark, codec
    if b"\0" in content[:SNIFF_BYTES]:
        return b"", _wide(content)
    if _ESCAPE in content and _is_written_in(content, "iso2022_jp"):
        return b"", "iso2022_jp"
    try:
        content.decode()
    except UnicodeDecodeError:
        return b"", _guessed(content)
    return b"", "utf-8"


def _wide(content: bytes) -> str:
    """UTF-16 or UTF-32 without its mark: most characters of a text have the same upper bytes, which are zero."""
    head = content[: SNIFF_BYTES - SNIFF_BYTES % 4]
    for codec in reversed(_WIDE):
        width = 4 if "32" in codec else 2
        upper = range(1, width) if codec.endswith("le") else range(width - 1)
        zero = sum(head[place::width].count(0) for place in upper)
        likely = len(content) % width == 0 and zero > 0.7 * len(upper) * len(head) / width
        if likely and not _UNPRINTED.search(head.decode(codec, "replace")):
            return codec
    return "utf-8"


def _guessed(content: bytes) -> str:
    """What an older encoding most probably is; Latin-1 where a guess would lose a byte."""
    from charset_normalizer import from_bytes  # for few files

    if _is_written_in(content, "cp1252"):
        text = content.decode("cp1252")
        if _WESTERN.issuperset(char for char in text if not char.isascii()):
            return "cp1252"
    sample = content
    if len(content) > _GUESS_BYTES:
        sample = content[: content.rfind(b"\n", 0, _GUESS_BYTES) + 1] or content
    best = from_bytes(sample, cp_isolation=list(_GUESSED)).best()
    return best.encoding if best is not None and _is_written_in(content, best.encoding) else "latin-1"


def _is_written_in(content: bytes, codec: str) -> bool:
    """Whether nothing is lost on the way to text and back, so that a piece of it can be replaced."""
    try:
        return content.decode(codec).encode(codec) == content
    except UnicodeError:
        return False


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


def bytes_in_words(count: int) -> str:
    return f"{count} bytes" if count % (1 << 20) else f"{count >> 20} MB"


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
