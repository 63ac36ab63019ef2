"""`fs_history`: what stood at a path and when, and what a version changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio.to_thread

from filesystem_retrieval.answers import History, Revision
from filesystem_retrieval.beneath import absent
from filesystem_retrieval.differences import difference
from filesystem_retrieval.library import Library, Place
from filesystem_retrieval.reader import read_raw
from filesystem_retrieval.versions import Version
from usrland import tokens
from usrland.connector import Call
from usrland.errors import NotFound

__all__ = ["history", "versions_of"]

PAGE = 100
_WITHOUT_OTHER = {"moved": "found", "left": "gone"}
DIFF_SHARE = 0.7
"""Of an answer's budget; the rest is for the versions."""


async def history(
    library: Library, call: Call, path: str, *, root: str | None, version: int | None, against: int | None
) -> History:
    """The versions of a file, and with `version` the difference it made."""
    behind = await library.refresh()
    place, versions = await versions_of(library, call, path, root)
    note = f"older ones than {library.keep_days:g} days are not kept once another has taken their place."
    if version is None:
        page = versions[call.offset : call.offset + PAGE]
        more = len(versions) > call.offset + PAGE
        items = await anyio.to_thread.run_sync(_revisions, place, page)
        return History(items=items, total=len(versions), more=more, note=note, degraded=behind)
    chosen = {each.id: each for each in versions}
    new = _chosen(chosen, version)
    old = _before(versions, new) if against is None else None if against == 0 else _chosen(chosen, against)
    before = await _content(library, place, old) if against != 0 else await _content(library, place, new)
    after = await _content(library, place, new) if against != 0 else await _now(library, place)
    text = await anyio.to_thread.run_sync(difference, before, after, new.path)
    shown = tokens.head(text, int(call.max_tokens * DIFF_SHARE))
    cut = None if shown == text else f"the difference is cut at {len(shown)} of {len(text)} characters."
    shown_versions = [each for each in (new, old) if each is not None]
    items = await anyio.to_thread.run_sync(_revisions, place, shown_versions)
    return History(items=items, diff=shown or "no difference.", note=cut, degraded=behind)


async def versions_of(library: Library, call: Call, path: str, root: str | None) -> tuple[Place, list[Version]]:
    """The place and its versions, whether or not the file is still there."""
    try:
        place = await anyio.to_thread.run_sync(lambda: library.place(call.principal, path, root))
    except NotFound:
        places = [Place(root=each, path=path) for each in library.visible(call.principal, root)]
        places += [
            Place(root=each, path=path[len(each.name) + 1 :])
            for each in library.visible(call.principal, root)
            if root is None and path.startswith(f"{each.name}/")
        ]
    else:
        places = [place]
    for place in places:
        if await anyio.to_thread.run_sync(place.root.hides, place.path):
            continue
        found = [
            version
            for version in await library.versions.history(place.key, place.path)
            if not await anyio.to_thread.run_sync(place.root.hides, version.path)
        ]
        if found:
            return place, found
    raise absent(path)


def _chosen(versions: dict[int | None, Version], number: int) -> Version:
    if number not in versions:
        raise NotFound(f"this file has no version {number}.", fix="Call without it to list them.")
    return versions[number]


def _before(versions: list[Version], version: Version) -> Version | None:
    """What stood there before; for a file that was moved here, what it was where it came from."""
    path = version.other_path if version.how == "moved" else version.path
    earlier = [each for each in versions if (each.id or 0) < (version.id or 0) and each.path == path]
    return earlier[0] if earlier else None


async def _content(library: Library, place: Place, version: Version | None) -> bytes:
    if version is None or not version.sha256:
        return b""
    content = await library.versions.content(version.root, version.sha256)
    if content is None:
        raise NotFound(f"the content of version {version.id} is not kept any more.")
    return content


async def _now(library: Library, place: Place) -> bytes:
    return (await anyio.to_thread.run_sync(read_raw, library, place)).content


def _revisions(place: Place, versions: Sequence[Version]) -> list[Revision]:
    return [_revision(place, each) for each in versions]


def _revision(place: Place, version: Version) -> Revision:
    """As the caller may know it: a path that is hidden now is not named."""
    assert version.id is not None
    how, other_path = version.how, version.other_path
    if other_path is not None and place.root.hides(other_path):
        how, other_path = _WITHOUT_OTHER.get(how, how), None
    return Revision(
        version=version.id,
        at=datetime.fromtimestamp(version.at_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        how=how,  # type: ignore[arg-type]  # a column is a string
        path=version.path,
        other_path=other_path,
        by=version.subject,
        sha256=version.sha256 or None,
        size=version.size,
    )
