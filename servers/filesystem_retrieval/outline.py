"""`fs_outline`: the headings of a document, or the definitions of a source file, with their lines."""

from __future__ import annotations

import anyio.to_thread

from filesystem_retrieval.answers import Outline, OutlineEntry
from filesystem_retrieval.library import Library
from filesystem_retrieval.parts import parts
from filesystem_retrieval.reader import read_raw, text_of
from usrland.connector import Call

__all__ = ["outline"]

PAGE = 500


async def outline(library: Library, call: Call, path: str, *, root: str | None) -> Outline:
    """What a file is made of, in its order."""
    place = await anyio.to_thread.run_sync(lambda: library.place(call.principal, path, root))
    raw = await anyio.to_thread.run_sync(read_raw, library, place)
    text = await text_of(library, raw)
    found = await anyio.to_thread.run_sync(parts, text, raw.kind)
    return Outline(
        root=place.root.name,
        path=raw.place.path,
        kind=raw.kind,
        items=[
            OutlineEntry(title=part.title, level=part.level, first_line=part.first_line, last_line=part.last_line)
            for part in found[call.offset : call.offset + PAGE]
        ],
        total=len(found),
        more=len(found) > call.offset + PAGE,
        note=None if found else "no headings or definitions are known in it.",
    )
