"""Paging memory back in: the state that was asked for, packed into the budget.

Costs what the budget holds and not what the memory holds: the newest versions are read from the end of the
journal until there are enough of them, and the rest is only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from sqlalchemy import Select, select
from sqlmodel import Session, bindparam, col, tuple_

from memory_snapshot import journal
from memory_snapshot.canonical import short
from memory_snapshot.items import CORE_KINDS, Remembrance, load
from memory_snapshot.kernels import KernelProfile
from memory_snapshot.packing import Packed, pack
from memory_snapshot.questions import HEAD, Wanted
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import Shown, States, in_force
from memory_snapshot.tables import ItemVersion
from memory_snapshot.wire import LeftOut, Restored
from usrland import NotFound, Principal

__all__ = ["restore"]

MAX_BUDGET = 20_000
IDS_LEFT_OUT = 12
KEYS_TOKENS = 12
"""Of a line that shows the first words only."""
ID_TOKENS = 8
"""Of the id before each line."""
FIRST_PART, LARGEST_PART = 64, 1_024
"""Versions that are read at once."""
NOTHING_RELEVANT = "Nothing relevant to the query is remembered; this is what always applies."


def restore(
    session: Session, states: States, principal: Principal, wanted: Wanted, kernel: KernelProfile
) -> Restored:
    """Pack it. The text never costs more than the budget; what did not fit is counted and can be fetched."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        if wanted.ref not in (HEAD, journal.MAIN):
            raise NotFound(f"there is no snapshot {wanted.ref!r}: nothing is remembered yet.")
        return _nothing(kernel)
    state = find_state(session, states, space.id, principal, wanted.ref)
    now = journal.now_after(journal.last_event(session, space.id))
    shown = in_force(session, space.id, state, state.at or now, now)
    core = _core(session, space.id, shown)
    if wanted.found is None:
        rest = _newest(session, space.id, shown, state.seq, wanted)
        items, tokens = len(shown), states.tokens(session, space.id, state)
    else:
        rest = _found(session, space.id, shown, wanted.found.hits)
        items, tokens = len(core) + len(rest), sum(item.tokens for item in (*core, *rest))
    packed = pack(core, rest, budget=wanted.budget, mode=wanted.mode)
    states.returns.note(space.id, [item.item_id for item in packed.packed])
    return Restored(
        text=packed.text,
        snapshot=state.snapshot,
        newer=state.newer,
        items=len(packed.packed),
        used=packed.tokens,
        reliable=kernel.reliable,
        advertised=kernel.advertised,
        basis=kernel.source,
        left_out=_left_out(packed, items, tokens, wanted),
        note=NOTHING_RELEVANT if wanted.found is not None and not wanted.found.hits else None,
        degraded=wanted.found.degraded if wanted.found is not None else None,
    )


def _core(session: Session, space_id: int, shown: Shown) -> list[Remembrance]:
    """Pinned, instructions, preferences: in this order, the newest of each first."""
    core = session.execute(_always(), {"space": space_id})
    standing = [oid for item_id, oid in core if (item_id, oid) in shown]
    return sorted(load(session, space_id, standing).values(), key=_core_order)


@cache
def _always() -> Select[str, str]:
    query = select(col(ItemVersion.item_id), col(ItemVersion.oid))
    return query.where(col(ItemVersion.space_id) == bindparam("space"), col(ItemVersion.core))


def _core_order(item: Remembrance) -> tuple[bool, int, int, int]:
    kind = CORE_KINDS.index(item.kind) if item.kind in CORE_KINDS else len(CORE_KINDS)
    return (not item.pinned, kind, -item.seq, -item.place)


def _newest(session: Session, space_id: int, shown: Shown, seq: int, wanted: Wanted) -> list[Remembrance]:
    """Twice what the budget holds, so that gaps can be filled, and some to name what is left out."""
    room, spare = 2 * wanted.budget, IDS_LEFT_OUT
    chosen: list[str] = []
    for item_id, oid, tokens in _backwards(session, space_id, seq):
        if (item_id, oid) not in shown:
            continue
        chosen.append(oid)
        cost = KEYS_TOKENS if wanted.mode == "keys" else tokens + ID_TOKENS
        if room >= 0:
            room -= cost if cost <= wanted.budget else 0
        else:
            spare -= 1
        if spare < 0:
            break
    return list(load(session, space_id, chosen).values())


def _backwards(session: Session, space_id: int, seq: int) -> Iterator[tuple[str, str, int]]:
    """Item id, oid and tokens from the end of the journal. Read in parts that grow, by whoever wants more."""
    before, part = {"seq": seq + 1, "place": 0}, FIRST_PART
    while True:
        rows = session.execute(_newest_before(), {"space": space_id, "part": part, **before}).all()
        yield from ((row.item_id, row.oid, row.tokens) for row in rows)
        if len(rows) < part:
            return
        before, part = {"seq": rows[-1].seq, "place": rows[-1].place}, min(2 * part, LARGEST_PART)


@cache
def _newest_before() -> Select[str, str, int, int, int]:
    at = (col(ItemVersion.seq), col(ItemVersion.place))
    return (
        select(col(ItemVersion.item_id), col(ItemVersion.oid), col(ItemVersion.tokens), *at)
        .where(col(ItemVersion.space_id) == bindparam("space"), ~col(ItemVersion.core))
        .where(tuple_(*at) < tuple_(bindparam("seq"), bindparam("place")))
        .order_by(*(place.desc() for place in at))
        .limit(bindparam("part"))
    )


def _found(session: Session, space_id: int, shown: Shown, hits: Iterable[str]) -> list[Remembrance]:
    items = load(session, space_id, list(hits)).values()
    return [item for item in items if (item.item_id, item.oid) in shown and not item.core]


def _left_out(packed: Packed, items: int, tokens: int, wanted: Wanted) -> LeftOut | None:
    items -= len(packed.packed)
    tokens -= sum(item.tokens for item in packed.packed)
    if items <= 0:
        return None
    all_of_it = min(MAX_BUDGET, packed.tokens + tokens + 20 * items)
    ref = "" if wanted.ref == HEAD else f'ref="{wanted.ref}", '
    return LeftOut(
        items=items,
        tokens=tokens,
        ids=[short(item.item_id) for item in packed.left_out[:IDS_LEFT_OUT]],
        fetch=f'memory_history(item_id="…") for one; memory_restore({ref}budget_tokens={all_of_it}) for more',
    )


def _nothing(kernel: KernelProfile) -> Restored:
    return Restored(
        text="Nothing is remembered yet.",
        newer=0,
        items=0,
        used=5,
        reliable=kernel.reliable,
        advertised=kernel.advertised,
        basis=kernel.source,
    )
