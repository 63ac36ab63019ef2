"""A passage named by its place, to look for others like it."""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread

from filesystem_retrieval.answers import Passage
from filesystem_retrieval.chunking import embedded, passages
from filesystem_retrieval.library import Library
from filesystem_retrieval.reader import read_raw, text_of
from usrland.connector import Call
from usrland.errors import InvalidInput

__all__ = ["Given", "passage_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What others shall be like."""

    root: str
    path: str
    first_line: int
    last_line: int
    sha256: str
    text: str

    def is_in(self, passage: Passage) -> bool:
        """Whether a passage that was found is this very one, or one with the same words."""
        here = (self.root, self.path) == (passage.root, passage.path)
        lines = passage.first_line is not None and passage.last_line is not None
        overlaps = lines and passage.first_line <= self.last_line and passage.last_line >= self.first_line  # type: ignore[operator]  # lines says so
        return passage.sha256 == self.sha256 or bool(here and overlaps)


async def passage_at(library: Library, call: Call, place: str, root: str | None) -> Given:
    """The passage at `path:line`, or at the beginning of `path`. Raises as reading it would."""
    path, colon, number = place.rpartition(":")
    if not colon or not number.isdigit():
        path, number = place, "1"
    found = await anyio.to_thread.run_sync(lambda: library.place(call.principal, path, root))
    raw = await anyio.to_thread.run_sync(read_raw, library, found)
    text = await text_of(library, raw)
    line = int(number)
    for passage in await anyio.to_thread.run_sync(passages, text, raw.kind):
        if passage.last_line >= line:
            return Given(
                root=raw.place.root.name,
                path=raw.place.path,
                first_line=passage.first_line,
                last_line=passage.last_line,
                sha256=passage.sha256,
                text=embedded(passage.heading, passage.text),
            )
    raise InvalidInput(f"like: {path!r} has no passage at line {line}.", fix="Name a line of it.")
