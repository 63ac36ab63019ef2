"""Writing items: duplicates skipped, same key superseding, everything in one event of the journal.

What supersedes an item takes over its id (and its key, unless it brings one): the id stays the name of the
thing, versions are what was said about it. Where several are superseded at once, the first id goes on and the
others end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import SHORT_ID, canonical, short
from memory_snapshot.drafts import Draft, words
from memory_snapshot.items import Remembrance, load, matching_item, version_oid
from memory_snapshot.journal import MAIN
from memory_snapshot.state import States, in_batches
from memory_snapshot.tables import Body, Event, ItemVersion, Lineage, Ref, Space
from memory_snapshot.wire import Remembered, RememberedItem
from usrland import Conflict, Principal

__all__ = ["Writing", "begin", "put", "remember"]

ITEM_ID_CHARS = 32

_Version = tuple[str, str]
"""Item id and oid: stands as long as the one still leads to the other."""


@dataclass(slots=True, kw_only=True)
class Writing:
    """A locked space and what stands in it, kept up to date while a transaction changes it."""

    session: Session
    space: Space
    space_id: int
    actor: str
    branch: str
    at: str
    last: Event | None
    ref: Ref | None
    standing: dict[str, str]
    _known: dict[str, Remembrance] = field(default_factory=dict)

    @property
    def head(self) -> str | None:
        return self.ref.snapshot if self.ref else None

    def record(self, op: str, payload: dict[str, object]) -> int:
        """Append an event; returns its `seq`."""
        self.last = journal.append(
            self.session,
            self.space,
            self.last,
            op=op,
            branch=self.branch,
            actor=self.actor,
            at=self.at,
            payload=payload,
        )
        return self.last.seq

    def item(self, item_id: str) -> Remembrance:
        """The standing version of an item."""
        oid = self.standing[item_id]
        if oid not in self._known:
            self._known.update(load(self.session, self.space_id, [oid], texts=False))
        return self._known[oid]


def begin(session: Session, states: States, principal: Principal, expected_head: str | None) -> Writing:
    """Lock the principal's space. Raises `Conflict` with the head there is, where another was expected."""
    space = journal.lock_space(session, principal)
    assert space.id is not None
    last = journal.last_event(session, space.id)
    writing = Writing(
        session=session,
        space=space,
        space_id=space.id,
        actor=principal.subject,
        branch=MAIN,
        at=journal.now_after(last),
        last=last,
        ref=session.get(Ref, (space.id, MAIN)),
        standing=dict(states.current(session, space.id, MAIN).standing),
    )
    if expected_head is not None:
        _check_head(writing.head, expected_head)
    return writing


def _check_head(head: str | None, expected: str) -> None:
    if head is None:
        raise Conflict("there is no snapshot yet.", fix="Repeat the call without expected_head.")
    if len(expected) < SHORT_ID or not head.startswith(expected.lower()):
        raise Conflict(
            f"the head is {head}, not {expected!r}; nothing was written.",
            fix="Look at what is new with memory_history, then repeat with this expected_head.",
        )


def remember(
    session: Session, states: States, principal: Principal, items: Sequence[Draft], expected_head: str | None
) -> Remembered:
    """Journal the items; they are not in a snapshot yet."""
    writing = begin(session, states, principal, expected_head)
    done = put(writing, items)
    return Remembered(items=done, duplicates=sum(not item.new for item in done), head=writing.head)


def put(writing: Writing, items: Sequence[Draft]) -> list[RememberedItem]:
    """Store what is new as one event. `writing.standing` is then what stands."""
    by_words, by_key = _by_words(writing, items), _by_key(writing, items)
    seq = writing.last.seq + 1 if writing.last else 1
    placed: list[list[str]] = []
    ended: list[str] = []
    done: list[RememberedItem] = []
    for draft in items:
        twin = _twin(writing, draft, by_words.get(words(draft.kind, draft.text), []))
        if twin is not None and _says_nothing_new(draft, writing.item(twin)):
            done.append(_receipt(twin, writing.standing[twin], new=False))
            continue
        replaced = _replaced(writing, draft, twin, by_key)
        version = _store(writing, draft, replaced, seq, len(placed))
        for item_id in replaced:
            del writing.standing[item_id]
        writing.standing[version.item_id] = version.oid
        by_words.setdefault(words(version.kind, draft.text), []).append((version.item_id, version.oid))
        if version.key is not None:
            by_key[version.key] = (version.item_id, version.oid)
        placed.append([version.item_id, version.oid])
        ended += [item_id for item_id in replaced if item_id != version.item_id]
        done.append(_receipt(version.item_id, version.oid, new=True))
    if placed:
        writing.record("remember", {"put": placed, "drop": ended})
    return done


def _receipt(item_id: str, oid: str, *, new: bool) -> RememberedItem:
    return RememberedItem(item_id=short(item_id), oid=short(oid), new=new)


def _by_words(writing: Writing, items: Sequence[Draft]) -> dict[str, list[_Version]]:
    """Digest of kind and words → the standing items that say just that."""
    standing = {oid: item_id for item_id, oid in writing.standing.items()}
    found: dict[str, list[_Version]] = {}
    for some in in_batches({words(draft.kind, draft.text) for draft in items}):
        query = select(Body.digest, Body.oid).where(Body.space_id == writing.space_id, col(Body.digest).in_(some))
        for name, oid in writing.session.exec(query.order_by(col(Body.oid))):
            if oid in standing:
                found.setdefault(name, []).append((standing[oid], oid))
    return found


def _by_key(writing: Writing, items: Sequence[Draft]) -> dict[str, _Version]:
    """Key → the standing item of that key."""
    found: dict[str, _Version] = {}
    for some in in_batches({draft.key for draft in items if draft.key is not None}):
        query = select(ItemVersion.key, ItemVersion.item_id, ItemVersion.oid).where(
            ItemVersion.space_id == writing.space_id, col(ItemVersion.key).in_(some)
        )
        for key, item_id, oid in writing.session.exec(query):
            if key is not None and writing.standing.get(item_id) == oid:
                found[key] = (item_id, oid)
    return found


def _twin(writing: Writing, draft: Draft, same_words: Sequence[_Version]) -> str | None:
    """The standing item that says the same and is not kept under another key."""
    for item_id, oid in same_words:
        if writing.standing.get(item_id) != oid:
            continue  # superseded earlier in this very call
        if draft.key is None or writing.item(item_id).key in (None, draft.key):
            return item_id
    return None


def _says_nothing_new(draft: Draft, item: Remembrance) -> bool:
    """Not only the same words: also no key, pin, tag or time to add to the item."""
    return (
        draft.key in (None, item.key)
        and draft.pin <= item.pinned
        and draft.valid_from in (None, item.valid_from)
        and draft.valid_to in (None, item.valid_to)
        and set(draft.tags) <= set(item.tag_list)
        and not draft.supersedes
    )


def _replaced(writing: Writing, draft: Draft, twin: str | None, by_key: Mapping[str, _Version]) -> list[str]:
    """Ids of the standing items that this one supersedes; the first is the id it takes over."""
    found: list[str] = []
    keyed, oid = by_key.get(draft.key or "", ("", ""))
    if writing.standing.get(keyed) == oid:
        found.append(keyed)
    if twin is not None:
        found.append(twin)
    found += [matching_item(writing.standing, prefix) for prefix in draft.supersedes]
    return list(dict.fromkeys(found))


def _store(writing: Writing, draft: Draft, replaced: Sequence[str], seq: int, place: int) -> ItemVersion:
    before = writing.item(replaced[0]) if replaced else None
    supersedes = [writing.standing[item_id] for item_id in replaced]
    version = ItemVersion(
        space_id=writing.space_id,
        oid="",
        item_id=before.item_id if before else draft.commitment[:ITEM_ID_CHARS],
        key=draft.key or (before.key if before else None),
        kind=draft.kind,
        actor=writing.actor,
        source=canonical(draft.source.model_dump()),
        trust=draft.source.origin,
        body_commitment=draft.commitment,
        valid_from=draft.valid_from,
        valid_to=draft.valid_to,
        recorded_at=writing.at,
        tags=json.dumps(draft.tags, ensure_ascii=False, separators=(",", ":")),
        pinned=draft.pin,
        tokens=draft.tokens,
        seq=seq,
        place=place,
    )
    version.oid = version_oid(version, supersedes, [])
    session = writing.session
    session.add(version)
    session.add(
        Body(
            space_id=writing.space_id,
            oid=version.oid,
            salt=draft.salt,
            text=draft.text,
            digest=words(draft.kind, draft.text),
        )
    )
    session.add_all(
        Lineage(space_id=writing.space_id, oid=version.oid, relation="supersedes", target=oid)
        for oid in supersedes
    )
    session.flush()
    return version
