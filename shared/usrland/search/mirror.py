"""What searches read of a table, kept in memory for as long as the table stays as it is.

Opening a scan costs LanceDB some milliseconds of CPU, whatever is read, and more where hundreds of strings come
with it. Of a table that fits, the vectors and what is shown of a row are therefore held here.

Of many vectors, one bit for each number says which are likely: the bits that differ are counted in a twentieth of
the time that products take, and of the likeliest the cosines are computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
import pyarrow as pa
import pyarrow.compute as pc

from usrland.embedding import Vectors
from usrland.search.record import Filter, Match

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["READ", "SHOWN", "Mirror"]

SHOWN = ("id", "group", "extra")
READ = (*SHOWN, "scope")
EXACT_ROWS = 20_000
"""So many are compared without looking at bits first."""
LIKELY = 16
"""Rows whose cosine is computed, for each that is wanted."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """One version of a table. `addresses` are ascending."""

    addresses: NDArray[numpy.uint64]
    matches: Sequence[Match]
    groups: pa.ChunkedArray
    scopes: Sequence[str]
    scope_of: NDArray[numpy.int32]
    """The place in `scopes` of each row's."""
    vectors: Vectors | None
    bits: NDArray[numpy.uint64] | None
    """Of each vector, which numbers are above zero: the first 64 of all rows, then the next."""

    @classmethod
    def of(cls, rows: pa.Table, vectors: Vectors | None, shared: Mapping[str, Match]) -> Mirror:
        """Of the columns `READ` and `_rowid`, and the vectors of these rows where the table has any.

        Rows that are in another mirror as well are `shared` with it, by their ids.
        """
        addresses = rows["_rowid"].to_numpy()
        if (numpy.diff(addresses) < 0).any():
            order = numpy.argsort(addresses)
            addresses, rows = addresses[order], rows.take(order)
            vectors = None if vectors is None else vectors[order]
        scopes = rows["scope"].combine_chunks().dictionary_encode()
        matches = (Match(*row) for row in zip(*(rows[name].to_pylist() for name in SHOWN), strict=True))
        return cls(
            addresses=addresses,
            matches=[match if shared.get(match.id) != match else shared[match.id] for match in matches],
            groups=rows["group"],
            scopes=scopes.dictionary.to_pylist(),
            scope_of=scopes.indices.to_numpy(),
            vectors=vectors,
            bits=None if vectors is None or len(vectors) <= EXACT_ROWS else _bits(vectors),
        )

    def at(self, addresses: NDArray[numpy.uint64], scopes: Collection[str]) -> list[Match | None]:
        """The rows at these addresses of this version; None for those in other scopes."""
        places = numpy.searchsorted(self.addresses, addresses)
        seen = self._seen(scopes)[self.scope_of[places]]
        return [
            self.matches[place] if mine else None
            for place, mine in zip(places.tolist(), seen.tolist(), strict=True)
        ]

    def nearest(self, vector: Vectors, where: Filter, limit: int) -> list[tuple[Match, float]]:
        """Rows by cosine, best first; vectors have length 1, as embedders make them."""
        assert self.vectors is not None
        places = self._allowed(where)
        if self.bits is not None and (places is None or len(places) > EXACT_ROWS):
            places = _fewest_differ(self.bits, _bits(vector[None]), places, LIKELY * limit)
        # not a matrix product, whose threads wait for each other, on a busy machine a hundred times as long
        cosines = numpy.vecdot(self.vectors if places is None else self.vectors[places], vector)
        best = numpy.argpartition(-cosines, limit)[:limit] if len(cosines) > limit else numpy.arange(len(cosines))
        best = best[numpy.lexsort((best, -cosines[best]))]
        found = best if places is None else places[best]
        return [
            (self.matches[place], cosine)
            for place, cosine in zip(found.tolist(), cosines[best].tolist(), strict=True)
        ]

    def covers(self, scopes: Collection[str]) -> bool:
        """Whether no row is in another scope."""
        return bool(self._seen(scopes).all())

    def _seen(self, scopes: Collection[str]) -> NDArray[numpy.bool_]:
        return numpy.array([scope in scopes for scope in self.scopes], dtype=bool)

    def _allowed(self, where: Filter) -> NDArray[numpy.int64] | None:
        """Places of the rows that may be found; None for all."""
        mask = None
        if not self.covers(where.scopes):
            mask = self._seen(where.scopes)[self.scope_of]
        if where.groups is not None:
            among = _among(self.groups, where.groups)
            mask = among if mask is None else mask & among
        return None if mask is None else numpy.flatnonzero(mask)


def _bits(vectors: Vectors) -> NDArray[numpy.uint64]:
    packed = numpy.packbits(vectors > 0, axis=1)
    packed = numpy.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return numpy.ascontiguousarray(packed.view(numpy.uint64).T)


def _fewest_differ(
    bits: NDArray[numpy.uint64],
    wanted: NDArray[numpy.uint64],
    places: NDArray[numpy.int64] | None,
    limit: int,
) -> NDArray[numpy.int64]:
    """The places, among these, of the rows that differ from what is wanted in the fewest bits; ascending."""
    differing = numpy.zeros(bits.shape[1], dtype=numpy.uint16)
    for row, (word,) in zip(bits, wanted, strict=True):
        differing += numpy.bitwise_count(row ^ word)
    if places is not None:
        differing = differing[places]
    if len(differing) <= limit:
        return numpy.arange(len(differing)) if places is None else places
    likely = numpy.sort(numpy.argpartition(differing, limit)[:limit])
    return likely if places is None else places[likely]


def _among(column: pa.ChunkedArray, values: Collection[str]) -> NDArray[numpy.bool_]:
    wanted: Sequence[str] = sorted(values)
    mask: NDArray[numpy.bool_] = pc.is_in(column, value_set=pa.array(wanted, pa.string())).to_numpy()
    return mask
