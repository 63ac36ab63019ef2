"""`fs_search`: passages, checked against the disk before they are returned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import anyio.to_thread

from filesystem_retrieval.answers import Found, Passage
from filesystem_retrieval.catalogue import Chunk, File
from filesystem_retrieval.indexer import beside, group_of, key_of
from filesystem_retrieval.library import Library
from filesystem_retrieval.patterns import Glob
from filesystem_retrieval.reading import read_all, sha256_of
from filesystem_retrieval.roots import Root
from usrland.connector import Call
from usrland.errors import NotFound
from usrland.search import Hit, Mode

__all__ = ["search"]

SPARE = 3
"""Hits to look at for each one wanted, since some may turn out to be stale."""
MAX_ALSO_AT = 3


async def search(
    library: Library, call: Call, query: str, *, mode: Mode, root: str | None, glob: str | None, limit: int
) -> Found:
    """The best passages in the caller's roots. A file that changed or went since it was read yields none."""
    roots = {each.key: each for each in library.visible(call.principal, root)}
    selected = Glob(glob) if glob else None
    behind = await library.refresh()
    groups = await _groups(library, roots, selected) if selected else None
    wanted = call.offset + limit
    answer = await library.index.search(
        query, scopes=roots, k=wanted * SPARE, mode=mode, groups=groups, neighbours=beside
    )
    passages = await _passages(library, roots, answer.hits, selected, wanted + 1)
    page = passages[call.offset : wanted]
    reasons = [reason for reason in (behind, answer.degraded) if reason]
    return Found(
        items=page,
        more=len(passages) > wanted,
        note=None if page else f"nothing relevant was found{' so far' if reasons else ''}.",
        degraded=" ".join(reasons) or None,
    )


async def _groups(library: Library, roots: Mapping[str, Root], glob: Glob) -> Collection[str]:
    groups = set()
    for key in roots:
        files = await library.catalogue.files(key)
        groups |= {group_of(key, file.content) for file in files.values() if glob.selects(file.path)}
    return groups


async def _passages(
    library: Library, roots: Mapping[str, Root], hits: Sequence[Hit], glob: Glob | None, most: int
) -> list[Passage]:
    keys = {hit.id: key_of(hit) for hit in hits}
    chunks = await library.catalogue.chunks(list(keys.values()))
    files: dict[tuple[str, str], Sequence[File]] = {}
    for key, root in roots.items():
        contents = {content for at, content, _ in keys.values() if at == key}
        for content, candidates in (await library.catalogue.files_with(key, contents)).items():
            chosen = [file for file in candidates if glob is None or glob.selects(file.path)]
            files[key, content] = await anyio.to_thread.run_sync(_fresh, root, chosen)
    passages = []
    for hit in hits:
        key, content, _ = keys[hit.id]
        chunk, holders = chunks.get(keys[hit.id]), files.get((key, content))
        if chunk is not None and holders:
            passages.append(_passage(roots[key], chunk, holders, hit))
    return passages[:most]


def _fresh(root: Root, files: Sequence[File]) -> Sequence[File]:
    """Those files that still hold what was read from them."""
    return [file for file in files if _is_fresh(root, file)]


def _is_fresh(root: Root, file: File) -> bool:
    try:
        with root.open(file.path) as now:
            if file.is_like(now.signature):
                return True
            content = read_all(now.fd, file.size)
            return content is not None and sha256_of(content) == file.sha256
    except NotFound:
        return False


def _passage(root: Root, chunk: Chunk, holders: Sequence[File], hit: Hit) -> Passage:
    return Passage(
        root=root.name,
        path=holders[0].path,
        first_line=chunk.first_line,
        last_line=chunk.last_line,
        page=chunk.page,
        heading=chunk.heading,
        sha256=chunk.sha256,
        also_at=[file.path for file in holders[1 : 1 + MAX_ALSO_AT]] or None,
        confidence=round(hit.confidence, 3),
        score=round(hit.score, 4),
        text=chunk.text,
    )
