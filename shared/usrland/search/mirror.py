"""What searches read of a table, kept in memory for as long as the table stays as it is.

Opening a scan costs LanceDB some milliseconds of CPU, whatever is read, and more where hundreds of strings come
with it. Of a table that fits, the vectors and what is shown of a row are therefore held here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


@dataclass(frozen=True, slots=True)
class Mirror:
    """One version of a table. `addresses` are ascending."""

    addresses: NDArray[numpy.uint64]
    rows: pa.Table
    scopes: frozenset[str]
    vectors: Vectors | None

    @classmethod
    def of(cls, read: pa.Table, dimensions: int = 0) -> Mirror:
        """`read` has the columns `READ`, `_rowid`, and of a table with vectors `vector`."""
        read = read.sort_by("_rowid").combine_chunks()
        vectors = None
        if dimensions:
            flat = read["vector"].combine_chunks().flatten().to_numpy()
            vectors = flat.reshape(-1, dimensions)
        return cls(
            addresses=read["_rowid"].to_numpy(),
            rows=read.select(READ),
            scopes=frozenset(pc.unique(read["scope"]).to_pylist()),
            vectors=vectors,
        )

    def at(self, addresses: NDArray[numpy.uint64], scopes: Collection[str]) -> list[Match | None]:
        """The rows at these addresses of this version; None for those in other scopes."""
        found = self.rows.take(numpy.searchsorted(self.addresses, addresses))
        columns = [found[name].to_pylist() for name in READ]
        return [Match(*row) if scope in scopes else None for *row, scope in zip(*columns, strict=True)]

    def nearest(self, vector: Vectors, where: Filter, limit: int) -> list[tuple[Match, float]]:
        """Rows by cosine, best first; vectors have length 1, as embedders make them."""
        assert self.vectors is not None
        # not a matrix product, whose threads wait for each other, on a busy machine a hundred times as long
        cosines = numpy.vecdot(self.vectors, vector)
        allowed = self._allowed(where)
        places = numpy.arange(len(cosines)) if allowed is None else allowed
        if len(places) > limit:
            best = numpy.argpartition(-cosines[places], limit)[:limit]
            places = places[best]
        places = places[numpy.argsort(-cosines[places], kind="stable")]
        found = self.rows.take(places)
        columns = [found[name].to_pylist() for name in SHOWN]
        return [
            (Match(*row), float(cosine)) for *row, cosine in zip(*columns, cosines[places].tolist(), strict=True)
        ]

    def _allowed(self, where: Filter) -> NDArray[numpy.int64] | None:
        """Places of the rows that may be found; None for all."""
        mask = None
        if not self.scopes <= set(where.scopes):
            mask = _among(self.rows["scope"], where.scopes)
        if where.groups is not None:
            among = _among(self.rows["group"], where.groups)
            mask = among if mask is None else mask & among
        return None if mask is None else numpy.flatnonzero(mask)


def _among(column: pa.ChunkedArray, values: Collection[str]) -> NDArray[numpy.bool_]:
    wanted: Sequence[str] = sorted(values)
    mask: NDArray[numpy.bool_] = pc.is_in(column, value_set=pa.array(wanted, pa.string())).to_numpy()
    return mask
