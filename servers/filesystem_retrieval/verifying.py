"""`fs_verify`: does a citation still say what it said?

A citation names a path and the hash of a passage. What it said is known from the versions, which keep the
passages of every content for as long as a version holds it. What it says now is looked up in the file as it is
on the disk: first at its place, then elsewhere in the file, then where the file or the passage went.

`same` is the same bytes in the same lines. `moved` is the same bytes elsewhere. `changed` is that other lines
stand in their place, which are returned. `gone` is that nothing does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import anyio.to_thread

from filesystem_retrieval.answers import Claim, Verdict, Verdicts
from filesystem_retrieval.catalogue import Chunk
from filesystem_retrieval.chunking import passages
from filesystem_retrieval.differences import aligned
from filesystem_retrieval.history import versions_of
from filesystem_retrieval.indexer import key_of
from filesystem_retrieval.library import Library, Place
from filesystem_retrieval.reader import Raw, raw_version, read_raw, text_of
from filesystem_retrieval.reading import Text
from filesystem_retrieval.versions import Version
from usrland.connector import Call
from usrland.errors import InvalidInput, NotFound

__all__ = ["verify"]

MAX_CHARS = 1_200
"""Of a passage that is shown."""
MAX_ELSEWHERE = 3
CANDIDATES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Then:
    """A passage as it was cited. Lines are counted from 1."""

    place: Place
    version: int
    text: str
    first_line: int
    last_line: int
    source: Text
    """All of the file that it stood in."""
    html: bool
    whole_lines: tuple[bool, bool]
    """Whether it began and ended where a line did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    first_line: int
    last_line: int


async def verify(library: Library, call: Call, claims: Sequence[Claim]) -> Verdicts:
    """A verdict on each claim, in their order."""
    behind = await library.refresh()
    library.require_index()
    items = [await _verdict(library, call, claim) for claim in claims[call.offset :]]
    return Verdicts(items=items, total=len(claims), degraded=behind)


async def _verdict(library: Library, call: Call, claim: Claim) -> Verdict:
    try:
        place, history = await versions_of(library, call, claim.path, claim.root)
    except NotFound:
        root = library.visible(call.principal, claim.root)[0]
        return Verdict(state="unknown", root=root.name, path=claim.path)
    then = await _then(library, place, history, claim)
    if then is None:
        return Verdict(state="unknown", root=place.root.name, path=claim.path)
    now = await _now(library, place)
    if now is None:
        return await _without_file(library, then)
    return await _in_file(library, then, place, now)


async def _in_file(library: Library, then: _Then, place: Place, now: Text) -> Verdict:
    """The file is still there, or is known to have gone to `place`."""
    there = await anyio.to_thread.run_sync(_stands, then, now)
    if there is not None:
        same = place.path == then.place.path and there.first_line == then.first_line
        return _found(then, place.path, there, "same" if same else "moved")
    elsewhere = [each async for each in _elsewhere(library, then)]
    instead = await anyio.to_thread.run_sync(_instead, then, now)
    if instead is None:
        return _moved_or_gone(then, elsewhere)
    span, text = instead
    also_at = [path for path, _ in elsewhere] or None
    return _found(then, place.path, span, "changed", now=_short(text), also_at=also_at)


async def _without_file(library: Library, then: _Then) -> Verdict:
    target = await library.versions.moved_to(then.place.key, then.place.path)
    if target is not None:
        place = Place(root=then.place.root, path=target)
        now = await _now(library, place)
        if now is not None:
            return await _in_file(library, then, place, now)
    return _moved_or_gone(then, [each async for each in _elsewhere(library, then)])


def _moved_or_gone(then: _Then, elsewhere: Sequence[tuple[str, _Span]]) -> Verdict:
    if not elsewhere:
        return Verdict(
            state="gone",
            root=then.place.root.name,
            path=then.place.path,
            version=then.version,
            then=_short(then.text),
        )
    (path, span), *others = elsewhere
    return _found(then, path, span, "moved", also_at=[other for other, _ in others] or None)


def _found(
    then: _Then, path: str, span: _Span, state: str, *, now: str | None = None, also_at: list[str] | None = None
) -> Verdict:
    return Verdict(
        state=state,  # type: ignore[arg-type]  # one of its literals, at each call
        root=then.place.root.name,
        path=path,
        first_line=span.first_line,
        last_line=span.last_line,
        version=then.version,
        then=_short(then.text),
        now=now,
        also_at=also_at,
    )


# -- then


async def _then(library: Library, place: Place, history: Sequence[Version], claim: Claim) -> _Then | None:
    """What was cited: a passage by its own hash, or lines of a file by the file's."""
    chunks = await library.catalogue.chunks_with(place.key, claim.sha256)
    by_content: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_content.setdefault(chunk.content, []).append(chunk)
    candidates = [
        (version, chunk) for version in history for chunk in by_content.get(version.content, ()) if version.sha256
    ]
    if candidates:
        exact = [each for each in candidates if each[1].first_line == claim.first_line]
        version, chunk = (exact or candidates)[0]
        return await _cited(library, place, version, chunk)
    for version in history:
        if version.sha256 and version.sha256 == claim.sha256:
            return await _cited_lines(library, place, version, claim)
    return None


async def _cited(library: Library, place: Place, version: Version, chunk: Chunk) -> _Then | None:
    raw = await _kept(library, place, version)
    if raw is None:
        return None
    source = await text_of(library, raw)
    encoded = source.text.encode()
    around = encoded[max(chunk.first_byte - 1, 0) : chunk.first_byte], encoded[chunk.last_byte :][:1]
    return _Then(
        place=raw.place,
        version=version.id or 0,
        text=chunk.text,
        first_line=chunk.first_line,
        last_line=chunk.last_line,
        source=source,
        html=raw.kind == "html",
        whole_lines=(around[0] in (b"", b"\n"), around[1] in (b"", b"\n") or chunk.text.endswith("\n")),
    )


async def _cited_lines(library: Library, place: Place, version: Version, claim: Claim) -> _Then | None:
    raw = await _kept(library, place, version)
    if raw is None:
        return None
    source = await text_of(library, raw)
    lines = source.text.split("\n")
    first = claim.first_line or 1
    last = min(claim.last_line or len(lines), len(lines))
    if first > last:
        raise InvalidInput(f"first_line: version {version.id} has no line {first}.")
    return _Then(
        place=raw.place,
        version=version.id or 0,
        text="\n".join(lines[first - 1 : last]),
        first_line=first,
        last_line=last,
        source=source,
        html=False,
        whole_lines=(True, True),
    )


async def _kept(library: Library, place: Place, version: Version) -> Raw | None:
    try:
        return await raw_version(library, place.root, version)
    except NotFound:
        return None


# -- now


async def _now(library: Library, place: Place) -> Text | None:
    try:
        return await text_of(library, await anyio.to_thread.run_sync(read_raw, library, place))
    except (NotFound, InvalidInput):  # gone, or no text any more
        return None


def _stands(then: _Then, now: Text) -> _Span | None:
    """Where the passage stands in the file now: this very one, where its text stands in several places."""
    here = _places(then, now)
    if not here:
        return None
    if any(span.first_line == then.first_line for span in here):
        return next(span for span in here if span.first_line == then.first_line)
    old, new = then.source.text.split("\n"), now.text.split("\n")
    at = aligned(old, new, then.first_line - 1, then.last_line)
    if at is not None and any(span.first_line == at.first + 1 for span in here):
        return next(span for span in here if span.first_line == at.first + 1)
    if len(_places(then, then.source)) > len(here) or (at is not None and len(_places(then, then.source)) > 1):
        return None  # what stands here are the others of its kind
    return min(here, key=lambda span: abs(span.first_line - then.first_line))


def _places(then: _Then, text: Text) -> list[_Span]:
    """Everywhere that a text holds the passage."""
    if then.html:
        return [
            _Span(first_line=each.first_line, last_line=each.last_line)
            for each in passages(text, "html")
            if each.text == then.text
        ]
    found, start = [], text.text.find(then.text)
    while start >= 0:
        end = start + len(then.text)
        begins = start == 0 or text.text[start - 1] == "\n" or not then.whole_lines[0]
        ends = then.text.endswith("\n") or text.text[end : end + 1] in ("", "\n") or not then.whole_lines[1]
        if begins and ends:
            first = text.text.count("\n", 0, start) + 1
            found.append(_Span(first_line=first, last_line=first + then.text.rstrip("\n").count("\n")))
        start = text.text.find(then.text, start + 1)
    return found


def _instead(then: _Then, now: Text) -> tuple[_Span, str] | None:
    """The lines that stand where the passage stood."""
    old, new = then.source.text.split("\n"), now.text.split("\n")
    at = aligned(old, new, then.first_line - 1, then.last_line)
    if at is None or not any(line.strip() for line in new[at.first : at.end]):
        return None
    span = _Span(first_line=at.first + 1, last_line=at.end)
    if not then.html:
        return span, "\n".join(new[at.first : at.end])
    seen = [each for each in passages(now, "html") if each.first_line <= at.end and each.last_line > at.first]
    return (span, "\n".join(each.text for each in seen)) if seen else None


async def _elsewhere(library: Library, then: _Then) -> AsyncIterator[tuple[str, _Span]]:
    """Other files that hold the passage now."""
    root = then.place.root
    hits = (await library.index.search(then.text, scopes=root.keys, k=CANDIDATES, mode="lexical")).hits
    contents: dict[str, set[str]] = {}
    for hit in hits:
        key, content, _ = key_of(hit)
        contents.setdefault(key, set()).add(content)
    paths = []
    for key, wanted in contents.items():
        holders = await library.catalogue.files_with(key, wanted)
        paths += [file.path for files in holders.values() for file in files if file.path != then.place.path]
    found = 0
    for path in sorted(paths):
        now = await _now(library, Place(root=root, path=path))
        spans = await anyio.to_thread.run_sync(_places, then, now) if now is not None else []
        if spans:
            yield path, spans[0]
            found += 1
        if found == MAX_ELSEWHERE:
            return


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}…"
