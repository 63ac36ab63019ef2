"""Writing items: duplicates skipped, same key superseding, everything in one event of the journal.

What supersedes an item takes over its id (and its key, unless it brings one): the id stays the name of the
thing, versions are what was said about it. Where several are superseded at once, the first id goes on and the
others end.

An item is trusted no more, and kept no longer, than what it was derived from: a summary of a web page is no
better than the page. A correction is another matter; it says something else than what it supersedes and stands for
itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from sqlmodel import Session, and_, col, select

from memory_snapshot import usage
from memory_snapshot.canonical import commitment, short
from memory_snapshot.drafts import Draft, words
from memory_snapshot.items import (
    LOG_KINDS,
    Remembrance,
    always_applies,
    load,
    matching_item,
    version_oid,
)
from memory_snapshot.said import Said
from memory_snapshot.similar import echoes, normal, shingles
from memory_snapshot.state import States
from memory_snapshot.tables import Body, ItemVersion, Lineage
from memory_snapshot.wire import NotNew, Origin, Remembered, RememberedItem
from memory_snapshot.writing import Writing, begin
from usrland import Principal
from usrland.database import in_batches

__all__ = ["add", "body", "least_trusted", "not_new", "put", "remember"]

ITEM_ID_CHARS = 32
SHOWN_SIMILAR = 3
_TRUST = get_args(Origin)

_Version = tuple[str, str]
"""Item id and oid: stands as long as the one still leads to the other."""


def remember(
    session: Session,
    states: States,
    principal: Principal,
    items: Sequence[Draft],
    *,
    branch: str | None,
    expected_head: str | None,
) -> Remembered:
    """Journal the items; they are not in a snapshot yet."""
    writing = begin(session, states, principal, branch=branch, expected_head=expected_head)
    done = put(writing, items)
    return Remembered(items=done, **not_new(done), head=writing.head)


def not_new(done: Sequence[RememberedItem]) -> dict[str, Any]:
    """How many were there already, and how many came back from here."""
    return {
        "duplicates": sum(item.why == "duplicate" for item in done),
        "echoes": sum(item.why == "echo" for item in done) or None,
    }


def put(writing: Writing, items: Sequence[Draft], *, guarded: bool = True) -> list[RememberedItem]:
    """Store what is new as one event; `guarded` against what only comes back from here."""
    by_words, by_key = _by_words(writing, items), _by_key(writing, items)
    returned = _Returned(writing)
    seq = writing.next_seq
    placed: list[_Version] = []
    ended: list[str] = []
    done: list[RememberedItem] = []
    for draft in items:
        close = _close(writing, draft)
        twin = _twin(writing, draft, by_words.get(draft.words, [])) or _twin(
            writing, draft, [found for found in close if _same_but_for_looks(writing, draft, found)]
        )
        if twin is not None and _says_nothing_new(draft, writing.item(twin)):
            done.append(_receipt(twin, writing.standing[twin], why="duplicate"))
            continue
        source = returned.source_of(draft) if guarded and twin is None else None
        if source is not None:
            done.append(_receipt(source, writing.standing[source], why="echo"))
            continue
        replaced = _replaced(writing, draft, twin, by_key)
        version = add(writing, draft, replaced=replaced, seq=seq, place=len(placed))
        writing.standing = writing.standing.changed({**dict.fromkeys(replaced), version.item_id: version.oid})
        by_words.setdefault(draft.words, []).append((version.item_id, version.oid))
        if version.key is not None:
            by_key[version.key] = [(version.item_id, version.oid)]
        placed.append((version.item_id, version.oid))
        ended += [item_id for item_id in replaced if item_id != version.item_id]
        similar = [short(item_id) for item_id, _ in close if item_id not in (version.item_id, *replaced)]
        done.append(_receipt(version.item_id, version.oid, similar=similar[:SHOWN_SIMILAR]))
    for name in ("duplicate", "echo"):
        if times := sum(item.why == name for item in done):
            usage.count(writing.session, writing.space_id, name, times)
    if placed:
        writing.record("remember", put=placed, drop=ended)
    return done


def _receipt(item_id: str, oid: str, *, why: NotNew | None = None, similar: Sequence[str] = ()) -> RememberedItem:
    return RememberedItem(
        item_id=short(item_id), oid=short(oid), new=why is None, why=why, similar=list(similar) or None
    )


def _close(writing: Writing, draft: Draft) -> list[_Version]:
    """What stands and says almost the same; nothing where two such texts cannot contradict each other."""
    if draft.kind in LOG_KINDS:
        return []
    find = writing.states.similar.find
    found = find(writing.session, writing.space_id, draft.said.text, until=writing.begun)
    return [(item_id, oid) for item_id, oid in found if writing.standing.get(item_id) == oid]


def _same_but_for_looks(writing: Writing, draft: Draft, found: _Version) -> bool:
    item = writing.version(found[1])
    return item.kind == draft.kind and normal(item.text or "") == normal(draft.said.text)


class _Returned:
    """What a kernel was given lately; read when it is first asked for."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._texts: dict[_Version, frozenset[int]] | None = None

    def source_of(self, draft: Draft) -> str | None:
        """The item that a text only repeats. What has a key, or names what it supersedes or is made from, is meant
        so, and people do say again what was said."""
        if draft.kind == "transcript" or draft.said.key or draft.supersedes or draft.derived_from:
            return None
        standing = self._writing.standing  # some of it may have been superseded earlier in this very call
        texts = {item: said for (item, oid), said in self._read().items() if standing.get(item) == oid}
        if not texts or not echoes(draft.said.text, texts.values()):
            return None
        mine = shingles(draft.said.text)
        return max(texts, key=lambda item_id: len(mine & texts[item_id]))

    def _read(self) -> dict[_Version, frozenset[int]]:
        if self._texts is None:
            writing = self._writing
            names = usage.returned_lately(writing.session, writing.space_id)
            oids = {writing.standing[name]: name for name in names if name in writing.standing}
            items = load(writing.session, writing.space_id, list(oids))
            self._texts = {
                (oids[oid], oid): writing.states.similar.shingles(oid, item.text or "")
                for oid, item in items.items()
            }
        return self._texts


def _by_words(writing: Writing, items: Sequence[Draft]) -> dict[str, list[_Version]]:
    """Digest of kind and words → the standing items that say just that."""
    return _standing(writing, Body.digest, {draft.words for draft in items})


def _by_key(writing: Writing, items: Sequence[Draft]) -> dict[str, list[_Version]]:
    """Key → the standing items of that key: several where merged branches said the same."""
    return _standing(writing, Body.key, {draft.said.key for draft in items if draft.said.key is not None})


def _standing(writing: Writing, column: Any, values: Collection[str]) -> dict[str, list[_Version]]:
    """Value → what stands and has it in a column of its body, the oldest first."""
    found: dict[str, list[_Version]] = {}
    place = and_(
        col(Body.space_id) == ItemVersion.space_id,
        col(Body.seq) == ItemVersion.seq,
        col(Body.place) == ItemVersion.place,
    )
    for some in in_batches(values):
        query = (
            select(column, ItemVersion.item_id, ItemVersion.oid)
            .join(ItemVersion, place)
            .where(Body.space_id == writing.space_id, column.in_(some))
            .order_by(col(ItemVersion.seq), col(ItemVersion.place))
        )
        for value, item_id, oid in writing.session.execute(query):
            if writing.standing.get(item_id) == oid:
                found.setdefault(value, []).append((item_id, oid))
    return found


def _twin(writing: Writing, draft: Draft, same_words: Sequence[_Version]) -> str | None:
    """The standing item that says the same and is not kept under another key."""
    for item_id, oid in same_words:
        if writing.standing.get(item_id) != oid:
            continue  # superseded earlier in this very call
        item = writing.item(item_id)
        if draft.kind in LOG_KINDS and not _same_occasion(draft, item):
            continue
        if draft.said.key is None or item.key in (None, draft.said.key):
            return item_id
    return None


def _same_occasion(draft: Draft, item: Remembrance) -> bool:
    """People say "yes" more than once."""
    said = draft.said
    there = (item.said.speaker, item.said.uri, item.said.span, item.valid_from) if item.said else None
    return there == (said.speaker, said.uri, said.span, draft.valid_from)


def _says_nothing_new(draft: Draft, item: Remembrance) -> bool:
    """Not only the same words: also no key, pin, tag, speaker or time to add to the item."""
    said = item.said
    return (
        said is not None
        and draft.said.key in (None, said.key)
        and draft.said.speaker in (None, said.speaker)
        and set(draft.said.tags) <= set(said.tags)
        and draft.pin <= item.pinned
        and draft.valid_from in (None, item.valid_from)
        and draft.valid_to in (None, item.valid_to)
        and draft.retention in (None, item.retention)
        and not draft.supersedes
    )


def _replaced(
    writing: Writing, draft: Draft, twin: str | None, by_key: Mapping[str, Sequence[_Version]]
) -> list[str]:
    """Ids of the standing items that this one supersedes; the first is the id it takes over."""
    kept = by_key.get(draft.said.key, ()) if draft.said.key is not None else ()
    found = [item_id for item_id, oid in kept if writing.standing.get(item_id) == oid]
    if twin is not None:
        found.append(twin)
    found += [matching_item(writing.standing, prefix) for prefix in draft.supersedes]
    return list(dict.fromkeys(found))


def add(
    writing: Writing, draft: Draft, *, replaced: Sequence[str], seq: int, place: int, item_id: str | None = None
) -> Remembrance:
    """Write one version behind what it replaces (ids of standing items); its event is the caller's to record."""
    writing.spend(draft.tokens, another=not replaced)
    before = [writing.item(name) for name in replaced]
    sources = [writing.item(matching_item(writing.standing, prefix)) for prefix in draft.derived_from]
    if draft.said.key is None and before and before[0].key is not None:
        draft = keyed(draft, before[0].key)
    version = ItemVersion(
        space_id=writing.space_id,
        seq=seq,
        place=place,
        oid="",
        item_id=item_id or (before[0].item_id if before else draft.commitment[:ITEM_ID_CHARS]),
        kind=draft.kind,
        actor=writing.actor,
        origin=draft.origin,
        trust=least_trusted([draft.origin, *(source.trust for source in sources)]),
        commitment=draft.commitment,
        valid_from=draft.valid_from,
        valid_to=draft.valid_to,
        retention=min((kept for kept in (draft.retention, *(s.retention for s in sources)) if kept), default=None),
        recorded_at=writing.at,
        pinned=draft.pin,
        core=always_applies(draft.kind, draft.pin, draft.said),
        tokens=draft.tokens,
    )
    version.oid = version_oid(version, [item.oid for item in before], [item.oid for item in sources])
    writing.session.add(version)
    writing.session.add(body(writing.space_id, seq, place, draft.salt, draft.kind, draft.said))
    for relation, targets in (("supersedes", before), ("derived_from", sources)):
        writing.session.add_all(
            Lineage(
                space_id=writing.space_id,
                seq=seq,
                place=place,
                relation=relation,
                target_seq=target.seq,
                target_place=target.place,
            )
            for target in {target.oid: target for target in targets}.values()
        )
    writing.session.flush()
    return writing.version(version.oid)


def body(space_id: int, seq: int, place: int, salt: str, kind: str, said: Said) -> Body:
    """The row of what was said."""
    return Body(
        space_id=space_id,
        seq=seq,
        place=place,
        salt=salt,
        digest=words(kind, said.text),
        text=said.text,
        key=said.key,
        tags=json.dumps(said.tags, ensure_ascii=False, separators=(",", ":")) if said.tags else None,
        speaker=said.speaker,
        uri=said.uri,
        span=said.span,
    )


def keyed(draft: Draft, key: str) -> Draft:
    """The same under a key, committed to anew."""
    said = replace(draft.said, key=key)
    return replace(draft, said=said, commitment=commitment(draft.salt, said.committed))


def least_trusted(origins: Iterable[Origin]) -> Origin:
    """The class furthest from the person's own words."""
    return max(origins, key=_TRUST.index)
