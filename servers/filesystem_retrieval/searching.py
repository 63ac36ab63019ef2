"""`fs_search`: passages, checked against the disk before they are returned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import anyio.to_thread

from filesystem_retrieval.answers import Found, Passage
from filesystem_retrieval.archives import opened_member, read_members
from filesystem_retrieval.catalogue import Fetch, Known, Piece
from filesystem_retrieval.chunking import embedded
from filesystem_retrieval.indexer import beside, group_of, key_of, language_of, scope_of
from filesystem_retrieval.library import Library
from filesystem_retrieval.reading import read_all, sha256_of
from filesystem_retrieval.related import passage_at
from filesystem_retrieval.roots import Root
from filesystem_retrieval.selection import Selection, nanoseconds
from filesystem_retrieval.versions import Version
from usrland.connector import Call
from usrland.embedding.reranking import Reranker
from usrland.errors import InvalidInput, NotFound, Unavailable
from usrland.search import Hit, Mode
from usrland.search.analysis import terms
from usrland.search.fusion import FLOOR

__all__ = ["Wish", "search"]

SPARE = 3
"""Hits to look at for each one wanted, since some may turn out to be stale."""
MAX_ALSO_AT = 3
SPARE_BY_DOCUMENT = 10
RERANKED = 24
"""Passages that a cross-encoder is given, where one is configured, or as many as are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Then:
    """What stood in each root at one time, by its key."""

    versions: Mapping[str, Sequence[Version]]

    @property
    def groups(self) -> Collection[str]:
        return {group_of(key, each.content) for key, found in self.versions.items() for each in found}

    def holding(self, key: str, content: str) -> Sequence[Version]:
        return [each for each in self.versions[key] if each.content == content]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is looked for, and how the answer shall be."""

    query: str
    like: str | None = None
    mode: Mode = "hybrid"
    root: str | None = None
    selection: Selection = field(default_factory=Selection)
    as_of: datetime | None = None
    limit: int = 8
    floor: float = FLOOR
    by_document: bool = False
    explain: bool = False


async def search(library: Library, call: Call, wish: Wish) -> Found:
    """The best passages in the caller's roots. A file that changed or went since it was read yields none."""
    visible = library.visible(call.principal, wish.root)
    roots = {key: root for root in map(Root.remembering, visible) for key in wish.selection.keys(root)}
    behind = await library.refresh()
    library.require_index()
    given = await passage_at(library, call, wish.like, wish.root) if wish.like else None
    query = given.text if given else wish.query
    if not query.strip():
        raise InvalidInput("query: it is empty.", fix="Say what to look for, or name a passage with like.")
    then = await _stood(library, roots, wish.selection, wish.as_of) if wish.as_of is not None else None
    groups = then.groups if then else await _groups(library, roots, wish.selection)
    scopes = [*roots, *(scope_of(key, past=True) for key in roots)] if then else list(roots)
    wanted = call.offset + wish.limit
    reranker = library.reranker if wish.mode != "lexical" else None
    judged = max(wanted + 1, RERANKED) if reranker else wanted + 1
    answer = await library.index.search(
        query,
        scopes=scopes,
        k=max(wanted * (SPARE_BY_DOCUMENT if wish.by_document else SPARE), judged if reranker else 0),
        mode=wish.mode,
        groups=groups,
        floor=wish.floor,
        neighbours=beside,
        language=language_of,
    )
    words = frozenset(terms(query).split()) if wish.explain else frozenset()
    most = None if wish.by_document or given is not None else judged
    passages = await _passages(library, roots, answer.hits, wish.selection, then, words, most)
    if given is not None:
        passages = [each for each in passages if not given.is_in(each)]
    unjudged = None
    if reranker is not None and passages:
        passages, unjudged = await _reranked(reranker, query, passages[:judged], passages[judged:])
    if wish.by_document:
        passages = _first_of_each(passages)
    page = passages[call.offset : wanted]
    reasons = [reason for reason in (behind, answer.degraded, unjudged) if reason]
    return Found(
        items=page,
        more=len(passages) > wanted,
        note=None if page else f"nothing relevant was found{' so far' if reasons else ''}.",
        degraded=" ".join(reasons) or None,
    )


async def _reranked(
    reranker: Reranker, query: str, judged: list[Passage], others: list[Passage]
) -> tuple[list[Passage], str | None]:
    """In the order of the cross-encoder; where it cannot be used, in that of before, and why."""
    texts = [embedded(each.heading, each.text) for each in judged]
    try:
        order = await anyio.to_thread.run_sync(reranker.order, query, texts)
    except Unavailable as error:
        return [*judged, *others], f"{error.fact.rstrip('.')}: the order is that of before."
    return [*(judged[place] for place in order), *others], None


def _first_of_each(passages: Sequence[Passage]) -> list[Passage]:
    """The best passage of each file, and how many others of it were good enough."""
    found: dict[tuple[str, str], Passage] = {}
    for passage in passages:
        first = found.setdefault((passage.root, passage.path), passage)
        if first is not passage:
            first.others = (first.others or 0) + 1
    return list(found.values())


async def _groups(library: Library, roots: Mapping[str, Root], selection: Selection) -> Collection[str] | None:
    """What holds the selected files; `None` is all."""
    if selection.is_all:
        return None
    groups = set()
    for key in roots:
        files = await library.catalogue.files(key)
        groups |= {
            group_of(key, file.content)
            for file in files.values()
            if selection.selects(file.path, file.kind, file.mtime_ns)
        }
    return groups


async def _stood(library: Library, roots: Mapping[str, Root], selection: Selection, as_of: datetime) -> _Then:
    at_ns = nanoseconds(as_of)
    found = {}
    for key, root in roots.items():
        versions = await library.versions.as_of(key, at_ns)
        chosen = [each for path, each in versions.items() if selection.selects(path, each.kind, each.at_ns)]
        found[key] = await anyio.to_thread.run_sync(_not_hidden, root, chosen)
    return _Then(versions=found)


def _not_hidden(root: Root, versions: Sequence[Version]) -> Sequence[Version]:
    return [each for each in versions if each.content and not root.hides(each.path)]


async def _passages(
    library: Library,
    roots: Mapping[str, Root],
    hits: Sequence[Hit],
    selection: Selection,
    then: _Then | None,
    words: frozenset[str],
    most: int | None,
) -> list[Passage]:
    """Those that still stand where they were read, `most` of them at most: each is looked for on the disk."""
    keys = {hit.id: key_of(hit) for hit in hits}

    def look(fetch: Fetch) -> list[Passage]:
        holders: dict[tuple[str, str], Sequence[Known] | Sequence[Version]] = {}
        passages: list[Passage] = []
        at_once = most or len(hits)
        for start in range(0, len(hits), at_once):
            part = hits[start : start + at_once]
            pieces, files = fetch([keys[hit.id] for hit in part])
            for hit in part:
                key, content, _ = keys[hit.id]
                if (key, content) not in holders:
                    holders[key, content] = (
                        then.holding(key, content)
                        if then is not None
                        else _fresh(roots[key], files[key].get(content, ()), selection)
                    )
                piece, held = pieces.get(keys[hit.id]), holders[key, content]
                if piece is not None and held:
                    passages.append(_passage(roots[key], piece, held, hit, words))
                if len(passages) == most:
                    return passages
        return passages

    return await library.catalogue.found(look) if hits else []


def _fresh(root: Root, files: Sequence[Known], selection: Selection) -> Sequence[Known]:
    """Those of the selected files that still hold what was read from them."""
    chosen = [file for file in files if selection.selects(file.path, file.kind, file.mtime_ns)]
    return [file for file in chosen if _is_fresh(root, file)]


def _is_fresh(root: Root, file: Known) -> bool:
    try:
        with root.open(file.path) as now:
            if file.is_like(now.signature):
                return True
            content = read_all(now.fd, file.size)
            return content is not None and sha256_of(content) == file.sha256
    except NotFound:
        return _is_fresh_member(root, file)


def _is_fresh_member(root: Root, file: Known) -> bool:
    with suppress(NotFound), opened_member(root, file.path) as member:
        if file.is_like(member.archive.signature):
            return True
        content = read_members(member.archive, [member.name]).get(member.name)
        return content is not None and sha256_of(content) == file.sha256
    return False


def _passage(
    root: Root,
    piece: Piece,
    holders: Sequence[Known] | Sequence[Version],
    hit: Hit,
    words: frozenset[str],
) -> Passage:
    first = holders[0]
    return Passage(
        root=root.name,
        path=first.path,
        version=first.id if isinstance(first, Version) else None,
        first_line=piece.first_line,
        last_line=piece.last_line,
        page=piece.page,
        sheet=piece.sheet,
        first_row=piece.first_row,
        last_row=piece.last_row,
        heading=piece.heading,
        sha256=piece.sha256,
        also_at=[file.path for file in holders[1 : 1 + MAX_ALSO_AT]] or None,
        confidence=round(hit.confidence, 3),
        score=round(hit.score, 4),
        why=_why(piece, hit, words) if words else None,
        text=piece.text,
    )


def _why(piece: Piece, hit: Hit, words: frozenset[str]) -> str:
    shared = sorted(words & set(terms(embedded(piece.heading, piece.text)).split()))
    by_words = "no words" if hit.lexical is None else f"words {hit.lexical:.1f} ({', '.join(shared[:8])})"
    by_meaning = "meaning not compared" if hit.dense is None else f"meaning {hit.dense:.2f}"
    return f"{by_words}; {by_meaning}"
