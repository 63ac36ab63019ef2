"""The tree over the entries of a log, as RFC 6962 builds it: one root for all of them, short proofs for one.

A leaf is SHA-256(0x00 ‖ entry), a node SHA-256(0x01 ‖ left ‖ right); a tree of n leaves is split at the largest
power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Frontier", "inclusion_proof", "leaf_hash", "proves_inclusion"]


def leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + body).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A growing tree, as far as it takes to go on: the roots of its full subtrees, the largest first."""

    size: int = 0
    _roots: list[bytes] = field(default_factory=list)

    def copy(self) -> Frontier:
        return Frontier(self.size, list(self._roots))

    def add(self, leaf: bytes) -> None:
        """Append a leaf's hash."""
        self._roots.append(leaf)
        self.size += 1
        full = self.size
        while full % 2 == 0:  # two subtrees of one size are a subtree of the next
            right, left = self._roots.pop(), self._roots.pop()
            self._roots.append(_node(left, right))
            full //= 2

    def root(self) -> bytes:
        """Of all leaves so far; SHA-256 of nothing where there are none."""
        if not self._roots:
            return hashlib.sha256().digest()
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = _node(left, root)
        return root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from the leaf at `index` (from 0) to the root of all `leaves`."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*inclusion_proof(leaves[:split], index), _root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), _root(leaves[:split])]


def proves_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is the one at `index` of the tree of `size` leaves with that root."""
    if not 0 <= index < size:
        return False
    position, last, made = index, size - 1, leaf
    for hashed in proof:
        if last == 0:
            return False
        if position % 2 or position == last:
            made = _node(hashed, made)
            while position % 2 == 0 and position:  # a last node without a neighbour rises unchanged
                position, last = position // 2, last // 2
        else:
            made = _node(made, hashed)
        position, last = position // 2, last // 2
    return last == 0 and made == root


def _root(leaves: Sequence[bytes]) -> bytes:
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()
