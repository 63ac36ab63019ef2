"""`fs_read`, `fs_list`: what stands on the disk now, whether or not it is indexed yet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import anyio.to_thread

from filesystem_retrieval.answers import Entry, FileText, Listing
from filesystem_retrieval.archives import is_archive, listing, opened_member, read_members, walk
from filesystem_retrieval.beneath import absent
from filesystem_retrieval.documents import Unreadable, extract
from filesystem_retrieval.library import Library, Place
from filesystem_retrieval.parts import named, parts
from filesystem_retrieval.patterns import Glob
from filesystem_retrieval.reading import (
    SNIFF_BYTES,
    Kind,
    Page,
    Text,
    bytes_in_words,
    content_key,
    decode,
    kind_of,
    read_all,
    sha256_of,
)
from filesystem_retrieval.roots import Root
from filesystem_retrieval.versions import Version
from usrland import tokens
from usrland.connector import Call
from usrland.errors import InvalidInput, NotFound
from usrland.parameters import closest

__all__ = ["Raw", "list_files", "raw_version", "read_file", "read_raw", "text_of"]

OVERHEAD_TOKENS = 250
"""What an answer costs besides the text in it."""
JSON_SHARE = 0.85
"""Text grows when it becomes JSON: quotes and line ends are escaped."""
LISTING_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A file's bytes and where they are from."""

    place: Place
    kind: Kind
    content: bytes

    @property
    def sha256(self) -> str:
        return sha256_of(self.content)


async def read_file(
    library: Library,
    call: Call,
    path: str,
    *,
    root: str | None,
    first_line: int | None,
    last_line: int | None,
    page: int | None,
    symbol: str | None,
    version: int | None,
) -> FileText:
    """Lines of a file, or of one of its versions, as far as they fit the budget; of a document, of its text."""
    if version is None:
        raw = await anyio.to_thread.run_sync(_now, library, call, path, root)
        version = await _version_of(library, raw)
    else:
        raw = await _raw_version(library, call, version, path, root)
    text = await text_of(library, raw)
    lines = text.text.split("\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()  # the text ends with its last line's newline
    if symbol is not None:
        if first_line is not None or last_line is not None or page is not None:
            raise InvalidInput("symbol: not together with lines or a page.", fix="Give one of them.")
        first_line, last_line = await anyio.to_thread.run_sync(_lines_of, text, raw.kind, symbol)
    first, last = _range(lines, text.pages, first_line, last_line, page)
    budget = int((call.max_tokens - OVERHEAD_TOKENS) * JSON_SHARE)
    shown = await anyio.to_thread.run_sync(_fitting, lines[first - 1 : last], budget)
    end = first - 1 + len(shown)
    note = f"cut at line {end} of {last}; read on with first_line={end + 1}." if end < last else None
    return FileText(
        root=raw.place.root.name,
        path=raw.place.path,
        kind=raw.kind,
        sha256=raw.sha256,
        version=version,
        total_lines=len(lines),
        first_line=first,
        last_line=end,
        page=_page_at(text.pages, first),
        pages=len(text.pages) or None,
        sheet=_sheet_at(text.pages, first),
        text="\n".join(shown),
        note=note,
    )


async def list_files(
    library: Library, call: Call, path: str, *, root: str | None, glob: str | None, depth: int | None
) -> Listing:
    """What is in a folder; the roots, where no folder is named and there are several."""
    roots = library.visible(call.principal, root)
    if path in ("", "/", ".") and root is None and len(roots) > 1:
        if glob is None and depth is None:
            return Listing(items=[Entry(root=each.name, path="", type="root") for each in roots], total=len(roots))
        places = [Place(root=each, path="") for each in roots]
    else:
        folder = "" if path in ("/", ".") else path
        places = [await anyio.to_thread.run_sync(lambda: library.place(call.principal, folder, root, folder=True))]
    selected = Glob(glob) if glob else None
    depth = depth if depth is not None or selected else 1

    def entries() -> Iterator[Entry]:
        for place in places:
            for found in walk(place.root, place.path, depth):
                if selected is not None and (found.folder or not selected.selects(found.path)):
                    continue
                size = None if found.folder else found.signature.size if found.size is None else found.size
                outermost = found.archive is None and is_archive(found.path)
                kind: Literal["folder", "file", "archive"] = (
                    "folder" if found.folder else "archive" if outermost else "file"
                )
                yield Entry(root=place.root.name, path=found.path, type=kind, size=size)

    def work() -> list[Entry]:
        return list(islice(entries(), call.offset, call.offset + LISTING_PAGE + 1))

    items = await anyio.to_thread.run_sync(work)
    return Listing(items=items[:LISTING_PAGE], more=len(items) > LISTING_PAGE)


async def _version_of(library: Library, raw: Raw) -> int | None:
    """The version that this is, where it has been cut already."""
    last = await library.versions.last(raw.place.key, raw.place.path)
    return last.id if last is not None and last.sha256 == raw.sha256 else None


async def _raw_version(library: Library, call: Call, number: int, path: str, root: str | None) -> Raw:
    """The bytes of a version of this very path, so that nothing is read by its number alone."""
    for each in library.visible(call.principal, root):
        version = await library.versions.get(each.keys, number)
        if version is None or path not in (version.path, f"{each.name}/{version.path}"):
            continue
        if not version.sha256:
            raise NotFound(f"version {number} says that nothing stood there.", fix="Choose an earlier one.")
        return await raw_version(library, each, version)
    raise NotFound(f"{path!r} has no version {number}.", fix="fs_history lists its versions.")


async def raw_version(library: Library, root: Root, version: Version) -> Raw:
    """The bytes of a version that may be read now."""
    hidden = await anyio.to_thread.run_sync(root.hides, version.path)
    content = None if hidden else await library.versions.content(version.root, version.sha256)
    if content is None:
        raise NotFound(f"the content of version {version.id} is not kept any more.")
    kind = kind_of(version.path, content[:SNIFF_BYTES])
    if kind == "binary":
        raise _not_text(version.path)
    return Raw(place=Place(root=root, path=version.path), kind=kind, content=content)


def _now(library: Library, call: Call, path: str, root: str | None) -> Raw:
    try:
        return read_raw(library, library.place(call.principal, path, root))
    except NotFound:
        if library.is_folder(call.principal, path, root):
            raise NotFound(f"{path!r} is a folder.", fix="fs_list shows what is in it.") from None
        raise


def read_raw(library: Library, place: Place) -> Raw:
    """What stands there now; raises `InvalidInput` for what is not text or too large."""
    try:
        with place.root.open(place.path) as file:
            path, head = file.path, os.pread(file.fd, SNIFF_BYTES, 0)
            kind = kind_of(path, head)
            limit = library.max_document_bytes if kind == "document" else library.max_read_bytes
            content = read_all(file.fd, limit) if kind not in ("binary", "archive") else b""
            if place.root.lacks(file):
                kind, limit, content = "text", place.root.max_document_bytes, None
    except NotFound:
        path, content = _member(place)
        kind = kind_of(path, content[:SNIFF_BYTES])
    if kind == "archive":
        raise InvalidInput(f"{path!r} is an archive.", fix="fs_list shows what is in it; read that.")
    if kind == "binary":
        raise _not_text(path)
    if content is None:
        raise InvalidInput(f"{path!r} is larger than {bytes_in_words(limit)}.", fix="Search it with fs_grep.")
    return Raw(place=replace(place, path=path), kind=kind, content=content)


def _member(place: Place) -> tuple[str, bytes]:
    """The path and the bytes of a member of an archive; raises `NotFound` where there is none."""
    with opened_member(place.root, place.path) as member:
        if member.name in listing(member.archive).sizes:
            content = read_members(member.archive, [member.name]).get(member.name)
            if content is None:
                raise InvalidInput(f"{place.path!r} cannot be read: it is damaged.", fix="Choose another file.")
            return member.path, content
    raise absent(place.path)


def _not_text(path: str) -> InvalidInput:
    return InvalidInput(f"{path!r} is not text.", fix="Only text and documents can be read.")


async def text_of(library: Library, raw: Raw) -> Text:
    """What it says; of a document, as its parser said it before or says it now."""
    if raw.kind != "document":
        return Text(text=await anyio.to_thread.run_sync(decode, raw.content))
    known = await library.catalogue.content(raw.place.key, content_key(raw.sha256, raw.kind))
    if known is not None and known.text is not None:
        pages = [Page(*each) for each in json.loads(known.pages or "[]")]
        return Text(text=known.text, pages=pages)
    try:
        return await extract(raw.place.path, raw.content)
    except Unreadable as error:
        raise InvalidInput(f"{raw.place.path!r} cannot be read: {error}.", fix="Choose another file.") from error


def _range(
    lines: Sequence[str], pages: Sequence[Page], first_line: int | None, last_line: int | None, page: int | None
) -> tuple[int, int]:
    first, last = first_line or 1, len(lines) if last_line is None else min(last_line, len(lines))
    if page is not None:
        if first_line is not None or last_line is not None:
            raise InvalidInput("page: not together with lines.", fix="Give either a page or lines.")
        starts = {each.number: each.first_line for each in pages}
        if page not in starts:
            raise InvalidInput(f"page: there is no page {page}.", fix=f"It has {len(pages)} pages.")
        first = starts[page]
        last = starts.get(page + 1, len(lines) + 1) - 1
    if not 1 <= first <= max(last, 1):
        raise InvalidInput(f"first_line: there is no line {first} to read.", fix=f"It has {len(lines)} lines.")
    return first, last


def _lines_of(text: Text, kind: Kind, symbol: str) -> tuple[int, int]:
    """The lines of a definition or a section."""
    found = parts(text, kind)
    chosen = named(found, symbol)
    if not chosen:
        near = closest(symbol, [part.name for part in found])
        raise NotFound(
            f"symbol: there is no {symbol!r} in it.",
            fix=f"Did you mean {near[0]!r}?" if near else "fs_outline lists what there is.",
        )
    if len(chosen) > 1:
        lines = ", ".join(f"{part.first_line}-{part.last_line}" for part in chosen[:10])
        raise InvalidInput(
            f"symbol: {symbol!r} is defined in lines {lines}.", fix="Read one of them by its lines."
        )
    return chosen[0].first_line, chosen[0].last_line


def _page_at(pages: Sequence[Page], line: int) -> int | None:
    before = [page.number for page in pages if page.first_line <= line]
    return before[-1] if before else None


def _sheet_at(pages: Sequence[Page], line: int) -> str | None:
    before = [page.sheet for page in pages if page.first_line <= line]
    return before[-1] if before else None


def _fitting(lines: Sequence[str], budget: int) -> Sequence[str]:
    """As many lines as the budget allows, and one at least."""
    if tokens.count("\n".join(lines)) <= budget:
        return lines
    spent = 0
    for number, line in enumerate(lines):
        spent += tokens.count(line) + 1
        if spent > budget:
            return lines[: max(number, 1)]
    return lines
