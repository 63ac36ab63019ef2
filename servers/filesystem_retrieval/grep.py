"""`fs_grep`: lines by pattern, from the disk as it is now.

Patterns come from a model and run over text of any length, so RE2 matches them: in time proportional to the
text, whatever the pattern. It has no look-around and no back-references, and says so.

Most files hold no match, so what counts is how soon that is known: they are read as bytes and looked through for a
piece of the pattern that every match must hold, before anybody asks what kind of file it is or how it is encoded.
What was read is held, as far as there is room (see `shelves.py`), and read again once it has changed.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio.from_thread
import anyio.to_thread
import re2

from filesystem_retrieval.answers import Line, Lines
from filesystem_retrieval.archives import is_archive
from filesystem_retrieval.beneath import Signature
from filesystem_retrieval.catalogue import Known
from filesystem_retrieval.library import Library
from filesystem_retrieval.patterns import Glob
from filesystem_retrieval.reading import PACKED, SNIFF_BYTES, Kind, decode, encoding_of, kind_of, read_all
from filesystem_retrieval.roots import Folder, Root
from filesystem_retrieval.shelves import Reading, Shelf
from usrland.connector import Call
from usrland.errors import InvalidInput

__all__ = ["grep", "held_by_every_match"]

PAGE = 200
MAX_PATTERN_CHARS = 1_000
MAX_LINE_CHARS = 300
MAX_BYTES = 64 << 20
"""Of one file; larger ones are passed over."""
DEADLINE_SECONDS = 30.0
LARGE_BYTES = 64 << 10
"""Of these the first bytes are looked at before the rest is read."""
LOOK_UP_EVERY = 64
"""Files between two looks at the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A text in UTF-8 that may hold a match."""

    root: Root
    path: str
    text: bytes


async def grep(
    library: Library, call: Call, pattern: str, *, regex: bool, root: str | None, glob: str | None, context: int
) -> Lines:
    """Matching lines of all text files and of the documents whose text is known."""
    matcher = _Matcher.of(pattern, regex=regex)
    selected = Glob(glob) if glob else None
    roots = library.visible(call.principal, root)
    deadline = time.monotonic() + DEADLINE_SECONDS

    def work() -> list[Line]:
        found = _lines(library, roots, matcher, selected, context, deadline)
        return list(islice(found, call.offset, call.offset + PAGE + 1))

    items = await anyio.to_thread.run_sync(work)
    late = time.monotonic() > deadline
    notes = ["stopped after 30 seconds: narrow it with root or glob."] if late else []
    if not items:
        notes.append("no line matches." if call.offset == 0 else "no more lines match.")
    return Lines(items=items[:PAGE], more=len(items) > PAGE, note=" ".join(notes) or None)


class _Parsed:
    """The texts of one root's documents and of what is in its archives, as far as they have been read.

    The catalogue is asked when the first of them is met: most folders hold none.
    """

    def __init__(self, library: Library, root: Root, needed: str) -> None:
        self._library = library
        self._root = root
        self._needed = needed
        self._documents: Mapping[tuple[str, str], Known] | None = None
        self._members: dict[str, list[Known]] | None = None

    def document(self, path: str, signature: Signature) -> bytes | None:
        """What a document says, where that is known and may hold a match."""
        if self._documents is None:
            ask = self._library.catalogue.documents_with
            self._documents = anyio.from_thread.run(ask, self._root.keys, self._needed)
        file = self._documents.get((self._root.key_of(path), path))
        return self._text(file) if file is not None and file.signature == signature else None

    def members(self, archive: str, signature: Signature) -> Iterator[tuple[str, bytes]]:
        """Paths and texts of what is in an archive."""
        if self._members is None:
            self._members = {}
            for key in self._root.keys:
                for row in anyio.from_thread.run(self._library.catalogue.files, key).values():
                    for end, letter in enumerate(row.path):
                        if letter == "/" and is_archive(row.path[:end]):
                            self._members.setdefault(row.path[:end], []).append(row)
        for row in sorted(self._members.get(archive, ()), key=lambda row: row.path):
            if row.signature != signature or self._root.hides(row.path):
                continue
            text = self._text(row) if row.kind == "document" else self._kept(row)
            if text is not None:
                yield row.path, text

    def _text(self, file: Known) -> bytes | None:
        content = anyio.from_thread.run(self._library.catalogue.content, file.root, file.content)
        return content.text.encode() if content and content.text else None

    def _kept(self, file: Known) -> bytes | None:
        content = anyio.from_thread.run(self._library.versions.content, file.root, file.sha256)
        return decode(content).encode() if content else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matcher:
    """One pattern, and what every match of it holds: plain text, perhaps none."""

    pattern: Any
    needed: str
    quick: Any
    """Finds what is needed: RE2 looks for plain text several times as fast as Python does."""

    @classmethod
    def of(cls, pattern: str, *, regex: bool) -> _Matcher:
        if not pattern or len(pattern) > MAX_PATTERN_CHARS:
            raise InvalidInput(f"pattern: must have 1 to {MAX_PATTERN_CHARS} characters.")
        options = re2.Options()
        options.log_errors = False
        try:
            whole = f"(?m:{pattern if regex else re2.escape(pattern)})"
            compiled = re2.compile(whole.encode(), options=options)
        except re2.error as error:
            raise InvalidInput(
                f"pattern: {pattern[:80]!r} is not a pattern of RE2.",
                fix="RE2 has no look-around and no back-references. For plain text leave out regex.",
            ) from error
        except UnicodeEncodeError as error:
            raise InvalidInput("pattern: it holds half a character.") from error
        needed = held_by_every_match(pattern) if regex else pattern
        quick = re2.compile(re2.escape(needed.encode()), options=options) if needed else compiled
        return cls(pattern=compiled, needed=needed, quick=quick)

    def surely_misses(self, content: bytes) -> bool:
        """Whether no line can match, whatever the file is and however it is encoded."""
        if _is_odd(content):
            return False
        if self.quick.search(content):
            return content.isascii() and self.pattern.search(content) is None
        return self.is_ascii or content.isascii() or _is_utf8(content)

    @property
    def is_ascii(self) -> bool:
        """Whether what is needed stands as it is in every file that is not odd."""
        return bool(self.needed) and self.needed.isascii()

    def lines(self, text: bytes) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of the lines in which a match begins."""
        position, number = 0, 1
        while position < len(text) and (match := self.pattern.search(text, position)):
            number += text.count(b"\n", position, match.start())
            start = text.rfind(b"\n", 0, match.start()) + 1
            end = _end(text, match.start())
            if start < len(text):  # not behind the end of the last line
                yield number, start, end
            position, number = end + 1, number + 1


_MARKS = frozenset({codecs.BOM_UTF8[:1], codecs.BOM_UTF16_LE[:1], codecs.BOM_UTF16_BE[:1]})
"""The first bytes of byte order marks."""
_ESCAPE = 0x1B
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\{[^}]*\}|.", re.DOTALL)
"""Of a regular expression: something escaped, a class of characters, a number of times, any other character."""
_OPTIONS = re.compile(r"\(\?(?!:|P<)")


def held_by_every_match(pattern: str) -> str:
    """The longest plain text that no match of a regular expression can do without; empty where that is hard to
    tell. What stands in groups does not count: a group may be one of several, or none."""
    if _OPTIONS.search(pattern):
        return ""
    pieces, depth = [""], 0
    for token in _TOKEN.findall(pattern):
        letter = token[-1]
        if token[0] == "\\" and (letter in "pPxQC" or letter.isdigit()):
            return ""
        if token == "|" and not depth:
            return ""
        if token in ("(", ")"):
            depth += 1 if token == "(" else -1
        plain = letter not in "()[].^$+*?{|" if len(token) == 1 else token[0] == "\\" and not letter.isalnum()
        if plain and not depth:
            pieces[-1] += letter
            continue
        if token in ("?", "*") or token[0] == "{":
            pieces[-1] = pieces[-1][:-1]
        pieces.append("")
    return max(pieces, key=len)


def _is_odd(content: bytes) -> bool:
    """Whether a file may say the same with other bytes: every encoding without marks, zeros and escapes writes the
    characters of ASCII as they are."""
    return content[:1] in _MARKS or content.find(0, 0, SNIFF_BYTES) >= 0 or content.find(_ESCAPE) >= 0


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _lines(
    library: Library,
    roots: Sequence[Root],
    matcher: _Matcher,
    glob: Glob | None,
    context: int,
    deadline: float,
) -> Iterator[Line]:
    for source in _sources(library, roots, matcher, glob, deadline):
        text = source.text
        for number, start, end in matcher.lines(text):
            yield Line(
                root=source.root.name,
                path=source.path,
                line=number,
                text=_short(text[start:end], matcher.pattern),
                before=_before(text, start, context) or None,
                after=_after(text, end, context) or None,
            )


def _sources(
    library: Library, roots: Sequence[Root], matcher: _Matcher, glob: Glob | None, deadline: float
) -> Iterator[_Source]:
    for root in roots:
        parsed = _Parsed(library, root, matcher.needed)
        for folder, shelf in _folders(library, root, glob):
            for count, place in enumerate(_places(folder, shelf, matcher)):
                if not count % LOOK_UP_EVERY:
                    anyio.from_thread.check_cancelled()
                    if time.monotonic() > deadline:
                        return
                name = folder.names[place]
                if _is_packed(name):
                    for path, text in _parsed(parsed, folder, name, kind_of(name, b"")):
                        if glob is None or glob.selects(path):
                            yield _Source(root=root, path=path, text=text)
                elif glob is None or glob.selects(folder.path_of(name)):
                    content = shelf.content(place) if shelf else _read(folder, name)
                    text_of_it = _text(name, content, matcher) if content else None
                    if text_of_it is not None:
                        yield _Source(root=root, path=folder.path_of(name), text=text_of_it)


def _folders(library: Library, root: Root, glob: Glob | None) -> Iterator[tuple[Folder, Shelf | None]]:
    """With what is held of their files, unless only some of them are wanted."""
    if glob is not None:
        return ((folder, None) for folder in root.folders())
    reading = Reading(read=_read, is_odd=_is_odd, is_elsewhere=_is_packed)
    return library.shelves.folders(root, reading)


def _places(folder: Folder, shelf: Shelf | None, matcher: _Matcher) -> Sequence[int]:
    """Of the files that have to be looked at."""
    if shelf is not None and matcher.is_ascii:
        return shelf.places(matcher.quick)
    return range(len(folder.names))


def _is_packed(name: str) -> bool:
    """Whether it is a document or an archive."""
    return name.rpartition(".")[2].lower() in PACKED and kind_of(name, b"") != "text"


def _parsed(parsed: _Parsed, folder: Folder, name: str, kind: Kind) -> Iterator[tuple[str, bytes]]:
    """Of a document or an archive: the paths and texts that are known of it as it is now."""
    path = folder.path_of(name)
    try:
        signature = Signature.of(os.stat(name, dir_fd=folder.fd, follow_symlinks=False))
    except OSError:  # gone since the walk met it
        return
    if kind == "archive":
        yield from parsed.members(path, signature)
    elif (text := parsed.document(path, signature)) is not None:
        yield path, text


def _text(name: str, content: bytes, matcher: _Matcher) -> bytes | None:
    """What a file says, in UTF-8, unless it is none of text or no line of it can match."""
    if matcher.surely_misses(content):
        return None
    if content.isascii() and not _is_odd(content):
        return content
    if kind_of(name, content[:SNIFF_BYTES]) == "binary":
        return None
    mark, codec = encoding_of(content)
    return content if codec == "utf-8" and not mark else decode(content).encode()


def _read(folder: Folder, name: str) -> bytes | None:
    """All of a file, nothing where it is too large or surely not text, None where it cannot be read."""
    try:
        fd = folder.open(name)
    except OSError:  # gone since the walk met it, or not to be opened
        return None
    try:
        status = os.fstat(fd)
        size = status.st_size
        if not stat.S_ISREG(status.st_mode) or size > MAX_BYTES:
            return b""
        if size > LARGE_BYTES and kind_of(name, os.pread(fd, SNIFF_BYTES, 0)) == "binary":
            return b""
        content = os.pread(fd, size + 1, 0)
        return content if len(content) == size else read_all(fd, MAX_BYTES)
    except OSError:  # a disk that fails
        return None
    finally:
        os.close(fd)


def _before(text: bytes, start: int, count: int) -> list[str]:
    found: list[str] = []
    while start and len(found) < count:
        end = start - 1
        start = text.rfind(b"\n", 0, end) + 1
        found.append(_short(text[start:end]))
    return found[::-1]


def _after(text: bytes, end: int, count: int) -> list[str]:
    found: list[str] = []
    while end + 1 < len(text) and len(found) < count:
        start = end + 1
        end = _end(text, start)
        found.append(_short(text[start:end]))
    return found


def _end(text: bytes, start: int) -> int:
    """Where the line ends that holds this byte."""
    end = text.find(b"\n", start)
    return len(text) if end < 0 else end


def _short(line: bytes, matcher: Any = None) -> str:
    """The line, or the part of a long one around its match."""
    text = line.decode()
    if len(text) <= MAX_LINE_CHARS:
        return text
    match = matcher.search(line) if matcher else None
    start = max(len(line[: match.start()].decode()) - MAX_LINE_CHARS // 3, 0) if match else 0
    end = start + MAX_LINE_CHARS
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
