"""Whether the index still fits the files, for `usrland doctor`: nothing is read or repaired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Literal

import anyio.to_thread

from filesystem_retrieval.indexer import files_of
from filesystem_retrieval.library import BARRED, ONE_INDEX, Library
from filesystem_retrieval.reading import is_current
from filesystem_retrieval.roots import Root
from usrland.errors import NotFound

__all__ = ["health"]

Said = tuple[Literal["ok", "warning", "error"], str, str]
"""How bad it is, the fact, and what to do about it."""
_INDEX = "usrland index"


async def health(library: Library) -> Sequence[Said]:
    """One line for each root, and others for what concerns all of them."""
    said = [await _of_root(library, root) for root in library.roots]
    return [*said, *[each async for each in _of_index(library)]] if said else []


async def _of_root(library: Library, root: Root) -> Said:
    known = {key: await library.catalogue.files(key) for key in root.keys}
    try:
        found = await anyio.to_thread.run_sync(partial(files_of, root, known, retry=False))
    except NotFound:
        return "error", f"root {root.name}: its folder cannot be entered", f"Mount or correct {root.folder}."
    rows = {(key, file.path): file for key, files in known.items() for file in files.values()}
    there = {(key, file.path): file for key, files in found.items() for file in files}
    new = sum(each not in rows for each in there)
    gone = sum(each not in there for each in rows)
    changed = sum(
        rows[each].signature != file.signature
        or rows[each].state == "pending"
        or not is_current(rows[each].content)
        for each, file in there.items()
        if each in rows
    )
    failed = sum(rows[each].state == "failed" for each in there if each in rows)
    told = f"{len(there)} files" + (f", {failed} of them unreadable (usrland status)" if failed else "")
    if not (new or gone or changed):
        return "ok", f"root {root.name}: {told}, all indexed as they stand", ""
    behind = ", ".join(_counted((new, "new"), (changed, "changed"), (gone, "gone")))
    return "warning", f"root {root.name}: {told}; since the last indexing {behind}", _INDEX


def _counted(*counts: tuple[int, str]) -> Iterator[str]:
    return (f"{count} {word}" for count, word in counts if count)


async def _of_index(library: Library) -> AsyncIterator[Said]:
    if library.indexer.paused:
        yield "warning", "indexing is paused", f"{_INDEX} --resume"
    if await library.lease.is_anothers():
        yield "error", BARRED, ONE_INDEX
        return
    sizes, passages = await library.index.sizes(), await library.catalogue.passages()
    if sizes.rows < passages:
        yield "error", f"the search index lacks {passages - sizes.rows} of {passages} passages", _INDEX
    elif library.model is not None and sizes.vectors < sizes.rows:
        fact = f"{sizes.rows - sizes.vectors} of {sizes.rows} passages have no vector yet"
        yield "warning", fact, f"{_INDEX}, or leave a server running"
    else:
        yield "ok", f"the search index holds all {passages} passages", ""
