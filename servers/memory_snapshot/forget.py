"""Forgetting: `retract` takes items out of what stands, `erase` takes what they said out of the store.

A retraction is one more event, and a rollback brings the items back. An erasure deletes the bodies of every
version of an item on every branch, and of what was derived from it; what is left are commitments whose salt is
gone. The journal says that it happened, and every hash verifies as before. What was to be kept until a moment is
erased when it has passed: that version alone, for what is derived from it is kept no longer than it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, and_, col, select, tuple_

from memory_snapshot import journal, usage
from memory_snapshot.canonical import parse_moment, short
from memory_snapshot.history import versions_of
from memory_snapshot.items import Remembrance, load
from memory_snapshot.state import States, successors
from memory_snapshot.tables import Body, ItemVersion, Snapshot, Space
from memory_snapshot.wire import Forgotten
from memory_snapshot.writing import Writing, begin
from usrland import Conflict, InvalidInput, NotFound, Preview, Principal
from usrland.database import in_batches

__all__ = ["Erased", "Wish", "due", "erase", "expire", "follow", "preview", "retract"]

MOST = 1_000
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to forget: all that is named or that fits; at least one of the three."""

    ids: Sequence[str] = ()
    containing: str | None = None
    before: str | None = None
    expected_head: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """The receipt, and what was said: whoever kept a copy of it has to let go of that too."""

    receipt: Forgotten
    items: Sequence[Remembrance]
    messages: Sequence[str]
    """Ids of the snapshots whose messages went."""
    texts: Sequence[str]


def preview(session: Session, states: States, principal: Principal, *, wish: Wish, mode: str) -> Preview:
    """What would be forgotten."""
    writing = begin(session, states, principal, expected_head=wish.expected_head)
    if mode == "retract":
        items = _standing(writing, wish)
        would = f"take {len(items)} items out of branch {writing.branch!r}; a rollback brings them back"
    else:
        items = _all_versions(writing, wish)
        messages = _messages(writing, wish)
        would = (
            f"erase the text of {len({item.item_id for item in items})} items ({len(items)} versions, what was "
            f"derived from them included) and of {len(messages)} snapshot messages for good, on every branch"
        )
    examples = [f"[{short(item.item_id)}] {(item.text or '')[:80]}" for item in items if item.said][:10]
    return Preview(would=would, affected=len(items), examples=examples)


def retract(session: Session, states: States, principal: Principal, *, wish: Wish) -> Forgotten:
    """Take items out of what stands on the caller's branch."""
    writing = begin(session, states, principal, expected_head=wish.expected_head)
    items = _standing(writing, wish)
    writing.record("retract", drop=[item.item_id for item in items])
    return _receipt(writing, "retract", items)


def erase(session: Session, states: States, principal: Principal, *, wish: Wish) -> Erased:
    """Delete what was said."""
    writing = begin(session, states, principal, expected_head=wish.expected_head)
    return _erase(writing, _all_versions(writing, wish), _messages(writing, wish))


def due(session: Session) -> list[tuple[str, str]]:
    """The spaces (tenant, name) that hold something which was to be kept until a moment that has passed."""
    query = select(Space.tenant, Space.name).join(ItemVersion, col(ItemVersion.space_id) == Space.id)
    return list(session.exec(_expired(query, journal.now_after(None)).distinct()).all())


def expire(session: Session, states: States, principal: Principal) -> Erased | None:
    """Erase those versions; None where another process was faster."""
    writing = begin(session, states, principal)
    query = _expired(select(ItemVersion.oid).where(ItemVersion.space_id == writing.space_id), writing.at)
    oids = session.exec(query).all()
    return _erase(writing, list(load(session, writing.space_id, oids).values()), []) if oids else None


def follow(session: Session, states: States, principal: Principal, *, erased: Erased, first: str) -> None:
    """Erase in a copy of a memory what was erased in the memory; what the copy does not know is passed over.

    Raises `Conflict` where its journal does not begin with the event `first`.
    """
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return
    if journal.first_hash(session, space.id) not in (first, None):
        raise Conflict("it is a copy of another memory.")
    writing = begin(session, states, principal)
    versions = load(session, writing.space_id, [item.oid for item in erased.items]).values()
    items = [item for item in versions if item.said is not None]
    messages = [snapshot for name in erased.messages if (snapshot := session.get(Snapshot, (space.id, name)))]
    if items or messages:
        _erase(writing, items, messages)


def _expired(query: Any, now: str) -> Any:
    there = select(Body.seq).where(
        Body.space_id == ItemVersion.space_id, Body.seq == ItemVersion.seq, Body.place == ItemVersion.place
    )
    return query.where(col(ItemVersion.retention) <= now, there.exists())


def _erase(writing: Writing, items: Sequence[Remembrance], messages: Sequence[Snapshot]) -> Erased:
    erased = sorted(item.oid for item in items)
    drop = [item.item_id for item in items if writing.standing.get(item.item_id) == item.oid]
    silenced = [snapshot.id for snapshot in messages]
    writing.record("erase", drop=drop, erased=erased, messages=silenced or None)
    usage.forget(
        writing.session,
        writing.space_id,
        sum(item.tokens for item in items),
        {item.item_id for item in items},
    )
    places = [(item.seq, item.place) for item in items] + [(snapshot.seq, 0) for snapshot in messages]
    texts = _take_away(writing, places)
    return Erased(receipt=_receipt(writing, "erase", items), items=items, messages=silenced, texts=texts)


def _standing(writing: Writing, wish: Wish) -> list[Remembrance]:
    items = [item for item in _chosen(writing, wish) if writing.standing.get(item.item_id) == item.oid]
    return _checked(items)


def _all_versions(writing: Writing, wish: Wish) -> list[Remembrance]:
    """Every version, on whatever branch, of the items that were chosen and of what was made from them."""
    session, space_id = writing.session, writing.space_id
    chosen = {item.oid: item for item in _versions(writing, {item.item_id for item in _chosen(writing, wish)})}
    waiting = list(chosen)
    while waiting:
        derived = {
            oid for found in successors(session, space_id, waiting, "derived_from").values() for oid in found
        }
        names = {item.item_id for item in load(session, space_id, derived, said=False).values()}
        new = [item for item in _versions(writing, names) if item.oid not in chosen]
        chosen.update({item.oid: item for item in new})
        waiting = [item.oid for item in new]
    there = [item for item in chosen.values() if item.said is not None]
    return _checked(there) if there or not _messages(writing, wish) else []


def _versions(writing: Writing, item_ids: Collection[str]) -> list[Remembrance]:
    oids: list[str] = []
    for some in in_batches(item_ids):
        query = select(ItemVersion.oid).where(
            ItemVersion.space_id == writing.space_id, col(ItemVersion.item_id).in_(some)
        )
        oids += writing.session.exec(query)
    return list(load(writing.session, writing.space_id, oids).values())


def _checked(items: list[Remembrance]) -> list[Remembrance]:
    if not items:
        raise NotFound(
            "nothing that is remembered fits; nothing was changed.", fix="Look with memory_recall first."
        )
    if len(items) > MOST:
        raise InvalidInput(f"{len(items)} versions fit, more than {MOST}.", fix="Name less at once.")
    return items


def _chosen(writing: Writing, wish: Wish) -> list[Remembrance]:
    """Versions that are named or fit, oldest first."""
    if not wish.ids and wish.containing is None and wish.before is None:
        raise InvalidInput("nothing says what to forget.", fix="Give ids, containing or before.")
    oids: list[str] | None = None
    if wish.ids:
        oids = []
        for name in wish.ids:
            found = versions_of(writing.session, writing.space_id, item_id=name)
            if not found:
                raise NotFound(f"there is no item {name!r}.", fix="Use memory_recall to find its id.")
            oids += found
    if wish.containing is not None or wish.before is not None:
        fitting = set(_fitting(writing, wish))
        oids = sorted(fitting) if oids is None else [oid for oid in oids if oid in fitting]
    items = load(writing.session, writing.space_id, oids or []).values()
    return sorted(items, key=lambda item: item.order)


def _fitting(writing: Writing, wish: Wish) -> list[str]:
    place = and_(
        col(Body.space_id) == ItemVersion.space_id,
        col(Body.seq) == ItemVersion.seq,
        col(Body.place) == ItemVersion.place,
    )
    query = select(ItemVersion.oid, Body).join(Body, place).where(ItemVersion.space_id == writing.space_id)
    if wish.before is not None:
        query = query.where(ItemVersion.recorded_at < parse_moment(wish.before, "before"))
    return [oid for oid, body in writing.session.exec(query) if _says(body, wish)]


def _says(body: Body, wish: Wish) -> bool:
    """Looked for here and not in the database: texts are compressed there."""
    if wish.containing is None:
        return True
    parts = (body.text, body.key, body.tags, body.speaker, body.uri, body.span)
    return any(_words(wish) in part.casefold() for part in parts if part)


def _words(wish: Wish) -> str:
    words = (wish.containing or "").strip().casefold()
    if len(words) < 3:
        raise InvalidInput("containing is too short.", fix="Give at least 3 characters.")
    return words


def _messages(writing: Writing, wish: Wish) -> Sequence[Snapshot]:
    """Snapshots whose messages say it too."""
    if wish.containing is None:
        return []
    place = and_(col(Body.space_id) == Snapshot.space_id, col(Body.seq) == Snapshot.seq)
    query = select(Snapshot, Body).join(Body, place).where(Snapshot.space_id == writing.space_id)
    if wish.before is not None:
        query = query.where(Snapshot.taken_at < parse_moment(wish.before, "before"))
    return [snapshot for snapshot, body in writing.session.exec(query) if _says(body, wish)]


def _take_away(writing: Writing, places: Sequence[tuple[int, int]]) -> list[str]:
    texts: list[str] = []
    for some in in_batches(places):
        here = and_(col(Body.space_id) == writing.space_id, tuple_(col(Body.seq), col(Body.place)).in_(some))
        texts += writing.session.exec(select(Body.text).where(here))
        writing.session.connection().execute(delete(Body).where(here))
    return texts


def _receipt(writing: Writing, mode: str, items: Sequence[Remembrance]) -> Forgotten:
    assert writing.last is not None
    ids = list(dict.fromkeys(short(item.item_id) for item in items))
    return Forgotten(
        mode="erase" if mode == "erase" else "retract",
        items=len(ids),
        versions=len(items),
        ids=ids[:SHOWN],
        event=writing.last.seq,
        hash=writing.last.hash,
        at=writing.at,
    )
