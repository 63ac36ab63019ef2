"""`fs_grep`: lines by pattern, from the disk as it is now.

Patterns come from a model and run over text of any length, so RE2 matches them: in time proportional to the
text, whatever the pattern. It has no look-around and no back-references, and says so.
"""

from __future__ import annotations

import codecs
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio.from_thread
import anyio.to_thread
import re2

from filesystem_retrieval.answers import Line, Lines
from filesystem_retrieval.archives import is_archive
from filesystem_retrieval.catalogue import Known
from filesystem_retrieval.library import Library
from filesystem_retrieval.patterns import Glob
from filesystem_retrieval.reading import SNIFF_BYTES, decode, kind_of, read_all
from filesystem_retrieval.roots import Found, Root
from usrland.connector import Call
from usrland.errors import InvalidInput

__all__ = ["grep"]

PAGE = 200
MAX_PATTERN_CHARS = 1_000
MAX_LINE_CHARS = 300
MAX_BYTES = 64 << 20
"""Of one file; larger ones are passed over."""
DEADLINE_SECONDS = 30.0
LOOK_UP_EVERY = 64
"""Files between two looks at the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    root: Root
    path: str
    text: str


async def grep(
    library: Library, call: Call, pattern: str, *, regex: bool, root: str | None, glob: str | None, context: int
) -> Lines:
    """Matching lines of all text files and of the documents whose text is known."""
    matcher = _Matcher.of(pattern, regex=regex)
    selected = Glob(glob) if glob else None
    roots = library.visible(call.principal, root)
    documents = {key: await library.catalogue.files(key) for root in roots for key in root.keys}
    parsed = _Documents(library, documents)
    deadline = time.monotonic() + DEADLINE_SECONDS

    def work() -> list[Line]:
        found = _lines(roots, parsed, matcher, selected, context, deadline)
        return list(islice(found, call.offset, call.offset + PAGE + 1))

    items = await anyio.to_thread.run_sync(work)
    late = time.monotonic() > deadline
    notes = ["stopped after 30 seconds: narrow it with root or glob."] if late else []
    if not items:
        notes.append("no line matches." if call.offset == 0 else "no more lines match.")
    return Lines(items=items[:PAGE], more=len(items) > PAGE, note=" ".join(notes) or None)


class _Documents:
    """The texts of documents, from the catalogue."""

    def __init__(self, library: Library, files: dict[str, dict[str, Known]]) -> None:
        self._library = library
        self._files = files

    def text(self, root: Root, found: Found) -> str | None:
        key = root.key_of(found.path)
        file = self._files[key].get(found.path)
        if file is None or file.state != "ok" or file.signature != found.signature:
            return None
        return self._parsed(file)

    def members(self, root: Root, archive: Found) -> Iterator[tuple[str, str]]:
        """Paths and texts of what is in an archive, as far as it has been read."""
        rows = [row for key in root.keys for row in self._files[key].values()]
        prefix = f"{archive.path}/"
        for row in sorted(rows, key=lambda row: row.path):
            if not row.path.startswith(prefix) or row.signature != archive.signature or root.hides(row.path):
                continue
            text = self._parsed(row) if row.kind == "document" else self._kept(row)
            if text is not None:
                yield row.path, text

    def _parsed(self, file: Known) -> str | None:
        content = anyio.from_thread.run(self._library.catalogue.content, file.root, file.content)
        return content.text if content else None

    def _kept(self, file: Known) -> str | None:
        content = anyio.from_thread.run(self._library.versions.content, file.root, file.sha256)
        return decode(content) if content else None


@dataclass(frozen=True, slots=True)
class _Matcher:
    """One pattern, for text and for the bytes of text in UTF-8."""

    text: Any
    raw: Any

    @classmethod
    def of(cls, pattern: str, *, regex: bool) -> _Matcher:
        if not pattern or len(pattern) > MAX_PATTERN_CHARS:
            raise InvalidInput(f"pattern: must have 1 to {MAX_PATTERN_CHARS} characters.")
        options = re2.Options()
        options.log_errors = False
        try:
            whole = f"(?m:{pattern if regex else re2.escape(pattern)})"
            return cls(re2.compile(whole, options=options), re2.compile(whole.encode(), options=options))
        except re2.error as error:
            raise InvalidInput(
                f"pattern: {pattern[:80]!r} is not a pattern of RE2.",
                fix="RE2 has no look-around and no back-references. For plain text leave out regex.",
            ) from error
        except UnicodeEncodeError as error:
            raise InvalidInput("pattern: it holds half a character.") from error

    def surely_misses(self, content: bytes) -> bool:
        """Whether no line can match: told without decoding, which takes longer than looking."""
        if content.startswith(codecs.BOM_UTF8) or b"\0" in content[:SNIFF_BYTES] or b"\x1b$" in content:
            return False
        if self.raw.search(content):
            return False
        if content.isascii():
            return True
        try:
            content.decode()
        except UnicodeDecodeError:
            return False
        return True


def _lines(
    roots: Sequence[Root],
    documents: _Documents,
    matcher: _Matcher,
    glob: Glob | None,
    context: int,
    deadline: float,
) -> Iterator[Line]:
    for source in _sources(roots, documents, matcher, glob, deadline):
        starts = _matching_lines(source.text, matcher.text)
        first = next(starts, None)
        if first is None:
            continue
        lines = source.text.split("\n")
        for number in (first, *starts):
            yield Line(
                root=source.root.name,
                path=source.path,
                line=number,
                text=_short(lines[number - 1], matcher.text),
                before=[_short(line) for line in lines[max(number - 1 - context, 0) : number - 1]] or None,
                after=[_short(line) for line in lines[number : number + context]] or None,
            )


def _sources(
    roots: Sequence[Root], documents: _Documents, matcher: _Matcher, glob: Glob | None, deadline: float
) -> Iterator[_Source]:
    for root in roots:
        for count, (found, open_file) in enumerate(root.files()):
            if not count % LOOK_UP_EVERY:
                anyio.from_thread.check_cancelled()
                if time.monotonic() > deadline:
                    return
            if is_archive(found.path):
                for path, text in documents.members(root, found):
                    if glob is None or glob.selects(path):
                        yield _Source(root=root, path=path, text=text)
            elif glob is None or glob.selects(found.path):
                content = _text(root, found, open_file, matcher, documents)
                if content is not None:
                    yield _Source(root=root, path=found.path, text=content)


def _text(
    root: Root, found: Found, open_file: Callable[[], int], matcher: _Matcher, documents: _Documents
) -> str | None:
    """What a file says, unless no line of it can match."""
    try:
        fd = open_file()
    except OSError:  # gone since the walk met it
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        head = os.pread(fd, SNIFF_BYTES, 0)
        kind = kind_of(found.path, head)
        if kind == "document":
            return documents.text(root, found)
        if kind == "binary":
            return None
        content = head if len(head) < SNIFF_BYTES else read_all(fd, MAX_BYTES)
    finally:
        os.close(fd)
    if content is None or matcher.surely_misses(content):
        return None
    return decode(content)


def _matching_lines(text: str, matcher: Any) -> Iterator[int]:
    """Numbers of the lines in which a match begins."""
    position, number = 0, 1
    while match := matcher.search(text, position):
        number += text.count("\n", position, match.start())
        yield number
        end = text.find("\n", match.start())
        if end < 0:
            return
        position, number = end + 1, number + 1


def _short(line: str, matcher: Any = None) -> str:
    """The line, or the part of a long one around its match."""
    if len(line) <= MAX_LINE_CHARS:
        return line
    match = matcher.search(line) if matcher else None
    start = max(match.start() - MAX_LINE_CHARS // 3, 0) if match else 0
    end = start + MAX_LINE_CHARS
    return f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"
