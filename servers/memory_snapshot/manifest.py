"""A manifest (item → the version that stands) as an immutable Merkle map.

A change copies the path to what changed and shares the rest with the map it came from: a fork costs nothing, a
snapshot costs what changed since the last one, and two maps are compared by their hashes. The shape follows
from the items alone (up to `LEAF` of them lie together, more are parted by the next digit of their ids), so the
same items have the same root, whatever happened before.

A page is one node as it is hashed and stored: 0 and its entries (item id, version) for a leaf; 1, a bit for
each of 16 children, and their hashes for a branch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["EMPTY", "Manifest", "Pages", "children", "entries"]

Pages = dict[bytes, bytes]
"""Hash → content."""

ID_BYTES = 16
HASH_BYTES = 32
LEAF = 16
WAYS = 16

_ENTRY = ID_BYTES + HASH_BYTES


@dataclass(frozen=True, slots=True)
class _Node:
    """Either `entries` or `children` (None where there is nothing below)."""

    hash: bytes
    count: int
    entries: Mapping[str, str] | None
    children: tuple[_Node | None, ...] | None

    @property
    def page(self) -> bytes:
        if self.children is None:
            return _leaf_page(self.entries or {})
        return _branch_page(self.children)


class Manifest(Mapping[str, str]):
    """Item id → oid, both in hexadecimal."""

    __slots__ = ("_node",)

    def __init__(self, node: _Node | None = None) -> None:
        self._node = node or _leaf({})

    @property
    def root(self) -> str:
        return self._node.hash.hex()

    def __eq__(self, other: object) -> bool:
        return self.root == other.root if isinstance(other, Manifest) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self._node.hash)

    def __len__(self) -> int:
        return self._node.count

    def __iter__(self) -> Iterator[str]:
        return (item_id for item_id, _ in _walk(self._node))

    def __getitem__(self, item_id: str) -> str:
        node = _under(self._node, item_id)
        return ((node.entries if node else None) or {})[item_id]

    def beginning_with(self, prefix: str) -> list[str]:
        """The item ids that begin so."""
        node = _under(self._node, prefix)
        return [] if node is None else sorted(item for item, _ in _walk(node) if item.startswith(prefix))

    def changed(self, changes: Mapping[str, str | None]) -> Manifest:
        """The map with these versions in place of what was there; None takes an item out."""
        return Manifest(_change(self._node, changes, 0)) if changes else self

    def changes_to(self, other: Manifest) -> dict[str, str | None]:
        """What `changed` needs to make `other` of this map. Costs what differs, not what there is."""
        found: dict[str, str | None] = {}
        _compare(self._node, other._node, found)
        return found

    def pages(self) -> Pages:
        """Every node of it."""
        found: Pages = {}
        _collect(self._node, found)
        return found

    @classmethod
    def read(cls, root: str, fetch: Callable[[Iterable[bytes]], Mapping[bytes, bytes]]) -> Manifest:
        """The map under `root`; `fetch` gets pages by their hashes. Raises `KeyError` for a missing one."""
        found: dict[str, str] = {}
        wanted = [bytes.fromhex(root)]
        while wanted:
            pages = fetch(wanted)
            contents = [pages[name] for name in wanted]
            wanted = [child for content in contents for child in children(content)]
            for content in contents:
                found.update(entries(content))
        return cls(_build(found, 0))


def children(page: bytes) -> list[bytes]:
    """The pages under this one."""
    if page[0] == 0:
        return []
    return [page[start : start + HASH_BYTES] for start in range(3, len(page), HASH_BYTES)]


def entries(page: bytes) -> dict[str, str]:
    """The items of a leaf; a branch has none."""
    if page[0] != 0:
        return {}
    lines = (page[start : start + _ENTRY].hex() for start in range(1, len(page), _ENTRY))
    return {line[: 2 * ID_BYTES]: line[2 * ID_BYTES :] for line in lines}


def _leaf_page(found: Mapping[str, str]) -> bytes:
    return b"\0" + b"".join(bytes.fromhex(item + oid) for item, oid in sorted(found.items()))


def _branch_page(nodes: Iterable[_Node | None]) -> bytes:
    bits, hashes = 0, []
    for way, node in enumerate(nodes):
        if node is not None:
            bits |= 1 << way
            hashes.append(node.hash)
    return b"\1" + bits.to_bytes(2, "big") + b"".join(hashes)


def _leaf(found: Mapping[str, str]) -> _Node:
    return _Node(hashlib.sha256(_leaf_page(found)).digest(), len(found), found, None)


def _branch(nodes: tuple[_Node | None, ...]) -> _Node:
    count = sum(node.count for node in nodes if node is not None)
    return _Node(hashlib.sha256(_branch_page(nodes)).digest(), count, None, nodes)


def _build(found: Mapping[str, str], depth: int) -> _Node:
    if len(found) <= LEAF:
        return _leaf(found)
    parts = _parted(found, depth)
    return _branch(tuple(_build(parts[way], depth + 1) if way in parts else None for way in range(WAYS)))


def _parted(found: Mapping[str, str], depth: int) -> dict[int, dict[str, str]]:
    parts: dict[int, dict[str, str]] = {}
    for item_id, oid in found.items():
        parts.setdefault(int(item_id[depth], WAYS), {})[item_id] = oid
    return parts


def _change(node: _Node, changes: Mapping[str, str | None], depth: int) -> _Node:
    if node.children is None:
        merged = {**(node.entries or {}), **changes}
        return _build({item: oid for item, oid in merged.items() if oid is not None}, depth)
    parts: dict[int, dict[str, str | None]] = {}
    for item_id, oid in changes.items():
        parts.setdefault(int(item_id[depth], WAYS), {})[item_id] = oid
    below = list(node.children)
    for way, some in parts.items():
        child = _change(below[way] or _leaf({}), some, depth + 1)
        below[way] = child if child.count else None
    changed = _branch(tuple(below))
    return changed if changed.count > LEAF else _leaf(dict(_walk(changed)))


def _walk(node: _Node) -> Iterator[tuple[str, str]]:
    if node.children is None:
        yield from (node.entries or {}).items()
    else:
        for child in node.children:
            if child is not None:
                yield from _walk(child)


def _under(node: _Node | None, prefix: str) -> _Node | None:
    """The smallest node that holds all items beginning with `prefix`."""
    for digit in prefix:
        if node is None or node.children is None:
            break
        node = node.children[int(digit, WAYS)]
    return node


def _compare(ours: _Node, theirs: _Node, found: dict[str, str | None]) -> None:
    if ours.hash == theirs.hash:
        return
    if ours.children is not None and theirs.children is not None:
        for one, other in zip(ours.children, theirs.children, strict=True):
            _compare(one or EMPTY._node, other or EMPTY._node, found)
        return
    before, after = dict(_walk(ours)), dict(_walk(theirs))
    found.update({item: oid for item, oid in after.items() if before.get(item) != oid})
    found.update(dict.fromkeys(before.keys() - after.keys()))


def _collect(node: _Node, found: Pages) -> None:
    found[node.hash] = node.page
    for child in node.children or ():
        if child is not None:
            _collect(child, found)


EMPTY = Manifest()
