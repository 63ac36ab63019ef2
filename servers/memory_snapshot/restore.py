"""Paging memory back in: the state that was asked for, packed into the budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sqlmodel import Session

from memory_snapshot import journal
from memory_snapshot.canonical import short
from memory_snapshot.items import Remembrance, load, load_texts
from memory_snapshot.kernels import KernelProfile
from memory_snapshot.packing import CORE_KINDS, Packed, pack
from memory_snapshot.questions import HEAD, Wanted
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import State, States, in_force
from memory_snapshot.wire import LeftOut, Restored
from usrland import NotFound, Principal

__all__ = ["restore"]

MAX_BUDGET = 20_000
IDS_LEFT_OUT = 12
NOTHING_RELEVANT = "Nothing relevant to the query is remembered; this is what always applies."


def restore(
    session: Session, states: States, principal: Principal, wanted: Wanted, kernel: KernelProfile
) -> Restored:
    """Pack it. The text never costs more than the budget; what did not fit is counted and can be fetched."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        if wanted.ref != HEAD:
            raise NotFound(f"there is no snapshot {wanted.ref!r}: nothing is remembered yet.")
        return _nothing(kernel)
    state = find_state(session, states, space.id, wanted.ref)
    at = state.at or journal.now_after(journal.last_event(session, space.id))
    known = load(session, space.id, in_force(session, space.id, state.standing, at), texts=False)
    core = sorted((item for item in known.values() if _is_core(item)), key=_core_order)
    rest = _rest(known, wanted)
    fitting = _could_fit([*core, *rest], wanted)
    texts = load_texts(session, space.id, fitting)
    packed = pack(_with(texts, core), _with(texts, rest), budget=wanted.budget, mode=wanted.mode)
    return _answer(packed, state, wanted, kernel)


def _is_core(item: Remembrance) -> bool:
    return item.pinned or item.kind in CORE_KINDS


def _core_order(item: Remembrance) -> tuple[bool, int, int, int]:
    kind = CORE_KINDS.index(item.kind) if item.kind in CORE_KINDS else len(CORE_KINDS)
    return (not item.pinned, kind, -item.seq, -item.place)


def _rest(known: Mapping[str, Remembrance], wanted: Wanted) -> list[Remembrance]:
    """All that is not core, strongest first."""
    if wanted.found is None:
        found: Iterable[Remembrance] = sorted(known.values(), key=lambda item: item.order, reverse=True)
    else:
        found = (known[oid] for oid in wanted.found.hits if oid in known)
    return [item for item in found if not _is_core(item)]


def _could_fit(items: Sequence[Remembrance], wanted: Wanted) -> list[str]:
    """Those whose texts are worth reading: twice what the budget holds, so that gaps can be filled."""
    room = 2 * wanted.budget
    fitting: list[str] = []
    for item in items:
        cost = 12 if wanted.mode == "keys" else item.tokens
        if cost > wanted.budget:
            continue
        fitting.append(item.oid)
        room -= cost
        if room < 0:
            break
    return fitting


def _with(texts: Mapping[str, str], items: Iterable[Remembrance]) -> list[Remembrance]:
    return [replace(item, text=texts[item.oid]) if item.oid in texts else item for item in items]


def _answer(packed: Packed, state: State, wanted: Wanted, kernel: KernelProfile) -> Restored:
    return Restored(
        text=packed.text,
        snapshot=state.snapshot,
        newer=state.newer,
        items=len(packed.packed),
        used=packed.tokens,
        reliable=kernel.reliable,
        advertised=kernel.advertised,
        left_out=_left_out(packed, wanted) if packed.left_out else None,
        note=NOTHING_RELEVANT if wanted.found is not None and not wanted.found.hits else None,
        degraded=wanted.found.degraded if wanted.found is not None else None,
    )


def _left_out(packed: Packed, wanted: Wanted) -> LeftOut:
    tokens = sum(item.tokens for item in packed.left_out)
    all_of_it = min(MAX_BUDGET, packed.tokens + tokens + 20 * len(packed.left_out))
    ref = "" if wanted.ref == HEAD else f'ref="{wanted.ref}", '
    return LeftOut(
        items=len(packed.left_out),
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
    )
