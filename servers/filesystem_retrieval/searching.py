"""`fs_search`: passages, checked against the disk before they are returned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio.to_thread

from filesystem_retrieval.answers import Found, Passage
from filesystem_retrieval.archives import opened_member, read_members
from filesystem_retrieval.catalogue import Chunk, File
from filesystem_retrieval.indexer import beside, group_of, key_of, scope_of
from filesystem_retrieval.library import Library
from filesystem_retrieval.patterns import Glob
from filesystem_retrieval.reading import read_all, sha256_of
from filesystem_retrieval.roots import Root
from filesystem_retrieval.versions import Version
from usrland.connector import Call
from usrland.errors import NotFound
from usrland.search import Hit, Mode

__all__ = ["search"]

SPARE = 3
"""Hits to look at for each one wanted, since some may turn out to be stale."""
MAX_ALSO_AT = 3
_LAST_NS = 2**63 - 1
"""No database counts further; some moment of the year 2262."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Then:
    """What stood in each root at one time, by its key."""

    versions: Mapping[str, Sequence[Version]]

    @property
    def groups(self) -> Collection[str]:
        return {group_of(key, each.content) for key, found in self.versions.items() for each in found}

    def holding(self, key: str, content: str) -> Sequence[Version]:
        return [each for each in self.versions[key] if each.content == content]


async def search(
    library: Library,
    call: Call,
    query: str,
    *,
    mode: Mode,
    root: str | None,
    glob: str | None,
    as_of: datetime | None,
    limit: int,
) -> Found:
    """The best passages in the caller's roots. A file that changed or went since it was read yields none."""
    roots = {key: each for each in library.visible(call.principal, root) for key in each.keys}
    selected = Glob(glob) if glob else None
    behind = await library.refresh()
    then = await _stood(library, roots, selected, as_of) if as_of is not None else None
    groups = then.groups if then else await _groups(library, roots, selected) if selected else None
    scopes = [*roots, *(scope_of(key, past=True) for key in roots)] if then else list(roots)
    wanted = call.offset + limit
    answer = await library.index.search(
        query, scopes=scopes, k=wanted * SPARE, mode=mode, groups=groups, neighbours=beside
    )
    passages = await _passages(library, roots, answer.hits, selected, then, wanted + 1)
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


async def _stood(library: Library, roots: Mapping[str, Root], glob: Glob | None, as_of: datetime) -> _Then:
    if as_of.tzinfo is None:
        as_of = as_of.replace(tzinfo=UTC)
    at_ns = min(max(int(as_of.timestamp() * 1e9), 0), _LAST_NS)
    found = {}
    for key, root in roots.items():
        versions = await library.versions.as_of(key, at_ns)
        chosen = [each for path, each in versions.items() if glob is None or glob.selects(path)]
        found[key] = await anyio.to_thread.run_sync(_not_hidden, root, chosen)
    return _Then(versions=found)


def _not_hidden(root: Root, versions: Sequence[Version]) -> Sequence[Version]:
    return [each for each in versions if each.content and not root.hides(each.path)]


async def _passages(
    library: Library,
    roots: Mapping[str, Root],
    hits: Sequence[Hit],
    glob: Glob | None,
    then: _Then | None,
    most: int,
) -> list[Passage]:
    keys = {hit.id: key_of(hit) for hit in hits}
    chunks = await library.catalogue.chunks(list(keys.values()))
    holders: dict[tuple[str, str], Sequence[File] | Sequence[Version]] = {}
    for key, root in roots.items():
        contents = {content for at, content, _ in keys.values() if at == key}
        if then is not None:
            holders.update({(key, content): then.holding(key, content) for content in contents})
            continue
        for content, candidates in (await library.catalogue.files_with(key, contents)).items():
            chosen = [file for file in candidates if glob is None or glob.selects(file.path)]
            holders[key, content] = await anyio.to_thread.run_sync(_fresh, root, chosen)
    passages = []
    for hit in hits:
        key, content, _ = keys[hit.id]
        chunk, held = chunks.get(keys[hit.id]), holders.get((key, content))
        if chunk is not None and held:
            passages.append(_passage(roots[key], chunk, held, hit))
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
        return _is_fresh_member(root, file)


def _is_fresh_member(root: Root, file: File) -> bool:
    with suppress(NotFound), opened_member(root, file.path) as member:
        if file.is_like(member.archive.signature):
            return True
        content = read_members(member.archive, [member.name]).get(member.name)
        return content is not None and sha256_of(content) == file.sha256
    return False


def _passage(root: Root, chunk: Chunk, holders: Sequence[File] | Sequence[Version], hit: Hit) -> Passage:
    first = holders[0]
    return Passage(
        root=root.name,
        path=first.path,
        version=first.id if isinstance(first, Version) else None,
        first_line=chunk.first_line,
        last_line=chunk.last_line,
        page=chunk.page,
        sheet=chunk.sheet,
        first_row=chunk.first_row,
        last_row=chunk.last_row,
        heading=chunk.heading,
        sha256=chunk.sha256,
        also_at=[file.path for file in holders[1 : 1 + MAX_ALSO_AT]] or None,
        confidence=round(hit.confidence, 3),
        score=round(hit.score, 4),
        text=chunk.text,
    )
