"""A manifest (item → version) as pages that are found by their hash.

Pages are cut where the ids of items say so, not where a counter says so: changing one item changes one page
on each level and no other, whatever was there before, and the same items always make the same pages. About
eight entries a page cost a snapshot about 0.9 kB for every item that changed since the last one.

A page is a level byte and its entries: item id and version on level 0, the hashes of lower pages above it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Manifest", "Pages", "children", "entries", "pages_of", "read"]

Manifest = Mapping[str, str]
"""Item id → oid of the version that stands."""

Pages = dict[bytes, bytes]
"""Hash → content."""

ID_BYTES = 16
HASH_BYTES = 32
CUT_BITS = 3
"""A page ends at an item id with this many zero bits at its end, on level 1 twice as many, and so on."""

_ENTRY = ID_BYTES + HASH_BYTES


def pages_of(manifest: Manifest) -> tuple[bytes, Pages]:
    """The root's hash and all pages."""
    pages: Pages = {}
    row = [(bytes.fromhex(item), bytes.fromhex(item + oid)) for item, oid in sorted(manifest.items())]
    level = 0
    while level == 0 or len(row) > 1:
        row = [_page(level, group, pages) for group in _cut(row, level)]
        level += 1
    return row[0][1], pages


def _page(level: int, group: list[tuple[bytes, bytes]], pages: Pages) -> tuple[bytes, bytes]:
    content = bytes([level]) + b"".join(entry for _, entry in group)
    name = hashlib.sha256(content).digest()
    pages[name] = content
    return (group[-1][0] if group else b"", name)


def _cut(row: list[tuple[bytes, bytes]], level: int) -> Iterator[list[tuple[bytes, bytes]]]:
    bits = CUT_BITS * (level + 1)
    mask = (1 << bits) - 1
    group: list[tuple[bytes, bytes]] = []
    for last_id, entry in row:
        group.append((last_id, entry))
        if bits <= 8 * ID_BYTES and int.from_bytes(last_id, "big") & mask == 0:
            yield group
            group = []
    if group or not row:
        yield group


def read(root: bytes, fetch: Callable[[Iterable[bytes]], Mapping[bytes, bytes]]) -> dict[str, str]:
    """The manifest under `root`; `fetch` gets pages by their hashes. Raises `KeyError` for a missing one."""
    manifest: dict[str, str] = {}
    wanted = [root]
    while wanted:
        found = fetch(wanted)
        contents = [found[name] for name in wanted]
        wanted = [child for content in contents for child in children(content)]
        for content in contents:
            manifest.update(entries(content))
    return manifest


def children(content: bytes) -> list[bytes]:
    """The pages under this one."""
    if content[0] == 0:
        return []
    return [content[start : start + HASH_BYTES] for start in range(1, len(content), HASH_BYTES)]


def entries(content: bytes) -> dict[str, str]:
    """The items of a page of level 0."""
    if content[0] != 0:
        return {}
    lines = (content[start : start + _ENTRY].hex() for start in range(1, len(content), _ENTRY))
    return {line[: 2 * ID_BYTES]: line[2 * ID_BYTES :] for line in lines}
