"""The two LanceDB tables behind an index: `lexical`, and one of vectors for each embedding generation.

The one module that imports lancedb and pyarrow, which together cost more than a second: import it in a
thread. Filters are expressions over values and never strings with values in them, which a quote in an id
could rewrite.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import anyio.to_thread
import lancedb
import numpy
import pyarrow as pa
from lancedb.expr import Expr, col
from lancedb.index import FTS, Bitmap, IvfSq
from lancedb.query import AsyncFTSQuery, MatchQuery

from usrland import heap
from usrland.embedding import Vectors
from usrland.search.mirror import READ, SHOWN, Mirror
from usrland.search.record import Filter, Match, Record

__all__ = ["Tables", "vector_rows", "vectors_in"]

logger = logging.getLogger(__name__)

State = tuple[int, int, frozenset[str]]
"""A table's folder of versions and their names: while they are the same, so is what the table holds."""

LEXICAL = "lexical"
MIN_UNINDEXED_ROWS, MAX_UNINDEXED_SHARE = 200, 0.05
MIN_WHILE_MORE, SHARE_WHILE_MORE = 5_000, 0.5
"""While rows pour in: folding costs more than all else, and a search over that many unfolded ones 0.1 s."""
MIN_FOR_INDEX = 40_000
"""Fewer vectors are compared one by one on the disk, which is exact, and of fewer rows all scopes are read."""
PARTITION_ROWS = 8_000
"""With 400 an index costs twenty times as much to make, finds no more, and LanceDB joins what is so small when it
tidies up."""
PARTITIONS_LOOKED_INTO = 15
TRAINING_ROWS, TRAINING_ROUNDS = 64, 8
"""Vectors of each partition, and times that they are gone through, to find out where partitions lie."""
MOST_INDICES = 16
"""What is new when a table is tidied up becomes an index beside the others, each of which a search looks into."""
REFINE = 1
"""So many times the rows asked for are compared exactly; what is found has its exact cosine at 1 already."""
WRITES_BETWEEN, WRITES_SHARE = 32, 0.002
"""Every write leaves files, and a version that names them all; optimising costs more the more rows there are."""
VERSIONS_PER_CONNECTION = 128
"""Of all tables together. LanceDB keeps something of each in caches of 7 GB, which go with the connection."""
MIRRORED_ROWS = 150_000
"""Larger tables are read through LanceDB: their vectors would take more than 230 MB."""
SOON_READ_ROWS, QUIET_SECONDS = 20_000, 5.0
"""It takes a second to read 100,000 rows: so more than so many are read once they have stayed the same so long."""

_KEYS = [pa.field(name, pa.string(), nullable=False) for name in ("id", "scope", "group", "digest", "extra")]
_LEXICAL_SCHEMA = pa.schema([*_KEYS, *(pa.field(name, pa.string(), nullable=False) for name in ("terms", "text"))])


class Tables:
    """Open tables. Reads see the last commit of any process; writers must have the turn."""

    def __init__(
        self,
        address: str,
        options: Mapping[str, str] | None,
        database: lancedb.AsyncConnection,
        lexical: lancedb.AsyncTable,
    ) -> None:
        self._address, self._options = address, options
        self._folder = None if "://" in address else Path(address)
        self._database = database
        self._lexical = lexical
        self._vectors: dict[str, lancedb.AsyncTable] = {}
        self._commits = self._writes = 0
        self._new_vectors = 0
        """Since vectors were joined and indexed."""
        self._met: object = None
        """The tables as this connection met them last."""
        self._versions_met = 0
        self._counts: dict[str, tuple[State | None, int]] = {}
        self._mirrors: dict[str, tuple[State, Mirror]] = {}
        self._seen: dict[str, tuple[State, float]] = {}
        """Of each table: its state, and when it was first seen."""

    @classmethod
    async def open(cls, address: str, options: Mapping[str, str] | None = None) -> Tables:
        """Open the tables there, making them where they are missing (which needs the turn to write)."""
        database = await _connected(address, options)
        lexical = await database.create_table(LEXICAL, schema=_LEXICAL_SCHEMA, exist_ok=True)
        if not list(await lexical.list_indices()):
            await lexical.create_index("terms", config=FTS(base_tokenizer="whitespace"))
        return cls(address, options, database, lexical)

    async def refresh(self) -> None:
        """Connect anew, where so many versions were met that it is due; in a bucket, one a second is counted."""
        names = [LEXICAL, *map(_vectors_of, self._vectors)]
        met = [self._state(name) for name in names] if self._folder is not None else int(monotonic())
        if met != self._met:
            self._met = met
            self._versions_met += 1
        if self._versions_met >= VERSIONS_PER_CONNECTION:
            self._database = await _connected(self._address, self._options)
            self._lexical = await self._database.open_table(LEXICAL)
            self._vectors.clear()
            self._versions_met = 0

    async def read_through(self) -> None:
        """Read every row; raises where one cannot be read."""
        for name in await self._table_names():
            table = await self._database.open_table(name)
            async for _ in await table.query().to_batches():
                pass

    async def index_anew(self) -> None:
        """Make what is derived from the rows anew. Vectors are compared one by one until they are tidied."""
        for name in await self._table_names():
            table = await self._database.open_table(name)
            for index in await table.list_indices():
                await table.drop_index(index.name)
        await self._index_words()

    async def drop(self) -> None:
        await self._database.drop_all_tables()

    async def match(self, terms: str, where: Filter, limit: int) -> list[tuple[Match, float]]:
        """Rows by BM25, best first."""
        found = await self._match_in_mirror(terms, where, limit) if where.groups is None else None
        if found is not None:
            return found
        query = self._by_words(terms).where(_expression(where))
        read = await query.limit(limit).select([*SHOWN, "_score"]).to_arrow()
        return _scored(read, read["_score"].to_pylist())

    async def _match_in_mirror(self, terms: str, where: Filter, limit: int) -> list[tuple[Match, float]] | None:
        """None without a mirror, where too many of the best are in other scopes, or where the table changes just
        now."""
        mirror = await self._mirror(self._lexical)
        if mirror is None:
            return None
        state, _ = self._mirrors[LEXICAL]
        at_most = limit if mirror.covers(where.scopes) else 2 * limit
        read = await self._by_words(terms).limit(at_most).select(["_score"]).with_row_id().to_arrow()
        if self._state(LEXICAL) != state:
            return None
        matches = mirror.at(read["_rowid"].to_numpy(), where.scopes)
        scores = read["_score"].to_pylist()
        found = [(match, score) for match, score in zip(matches, scores, strict=True) if match is not None]
        return found[:limit] if len(found) >= limit or len(matches) < at_most else None

    def _by_words(self, terms: str) -> AsyncFTSQuery:
        # its stub forgets that the other arguments have defaults
        return self._lexical.query().nearest_to_text(MatchQuery(terms, "terms"))  # type: ignore[call-arg]

    async def nearest(
        self, generation: str, vector: Vectors, where: Filter, limit: int
    ) -> list[tuple[Match, float]]:
        """Rows by cosine, best first; where there is a mirror, that is quicker."""
        table = await self._vector_table(generation, len(vector))
        query = table.query().nearest_to(vector).distance_type("cosine").where(_expression(where))
        if where.groups is not None:
            query = query.bypass_vector_index()  # few rows, which may stand in any partition
        else:
            query = query.nprobes(PARTITIONS_LOOKED_INTO).refine_factor(REFINE)
        found = await query.limit(limit).select([*SHOWN, "_distance"]).to_arrow()
        return _scored(found, [1.0 - distance for distance in found["_distance"].to_pylist()])

    async def mirror(self, generation: str, dimensions: int) -> Mirror | None:
        """The vectors of this generation in memory, where they can be held there."""
        return await self._mirror(await self._vector_table(generation, dimensions), dimensions)

    async def _mirror(self, table: lancedb.AsyncTable, dimensions: int = 0) -> Mirror | None:
        """The table as it is now, in memory.

        None where the table is too large, or has changed since the last search, or lately where it is large: it
        may be about to change again, and making a mirror costs more than a search through LanceDB.
        """
        state = self._state(table.name)
        if state is None:
            return None
        of, mirror = self._mirrors.get(table.name, (None, None))
        if of == state:
            return mirror
        seen, since = self._seen.get(table.name, (None, 0.0))
        if seen != state:
            self._seen[table.name] = state, monotonic()
            return None
        count = await self._count(table)
        if not 0 < count <= MIRRORED_ROWS or (count > SOON_READ_ROWS and monotonic() - since < QUIET_SECONDS):
            return None
        self._mirrors.pop(table.name, None)  # its memory goes before more is taken
        read = await _read(table, count, dimensions)
        if read is None or self._state(table.name) != state:
            return None
        shared = {match.id: match for _, other in self._mirrors.values() for match in other.matches}
        mirror = await anyio.to_thread.run_sync(Mirror.of, *read, shared)
        self._mirrors[table.name] = state, mirror
        return mirror

    def _state(self, name: str) -> State | None:
        """Looked up in the folder and not asked of LanceDB, whose answer takes a turn of its threads; None where
        that cannot be told: in a bucket, or where another process has dropped the table."""
        if self._folder is None:
            return None
        folder = self._folder / f"{name}.lance" / "_versions"
        try:
            status = folder.stat()
            return status.st_ino, status.st_mtime_ns, frozenset(os.listdir(folder))  # noqa: PTH208 many a second
        except FileNotFoundError:
            return None

    async def _count(self, table: lancedb.AsyncTable) -> int:
        state = self._state(table.name)
        of, count = self._counts.get(table.name, (None, 0))
        if of != state or state is None:
            count = await table.count_rows()
            self._counts[table.name] = state, count
        return count

    async def put(self, records: Sequence[Record]) -> None:
        """Add rows, or replace those with the same id."""
        columns = {name: [getattr(record, name) for record in records] for name in _LEXICAL_SCHEMA.names}
        await _merge(self._lexical, pa.table(columns, schema=_LEXICAL_SCHEMA))

    async def put_vectors(self, generation: str, records: Sequence[Record], vectors: Sequence[Vectors]) -> None:
        await _merge(await self._vector_table(generation, len(vectors[0])), vector_rows(records, vectors))
        self.count_new(len(records))

    def count_new(self, vectors: int) -> None:
        """So many were added, by whatever hand; they are indexed when they are enough."""
        self._new_vectors += vectors

    async def with_vectors(self, generation: str, dimensions: int, ids: Collection[str]) -> set[str]:
        """Which of these ids have a vector of this generation, be it of an earlier text."""
        table = await self._vector_table(generation, dimensions)
        found = await table.query().where(col("id").isin(sorted(ids))).select(["id"]).to_arrow()
        return set(found["id"].to_pylist())

    def vectors_address(self, generation: str) -> str:
        """Where the vectors lie, as Lance takes it."""
        return f"{self._address}/{_vectors_of(generation)}.lance"

    async def known_vectors(self, generation: str, dimensions: int, digests: Collection[str]) -> Mapping[str, Any]:
        """Vectors already made for these texts, whichever rows they were made for."""
        table = await self._vector_table(generation, dimensions)
        if not await table.count_rows():
            return {}
        query = table.query().where(col("digest").isin(sorted(digests))).select(["digest", "vector"])
        return vectors_in(await query.to_arrow())

    async def without_vectors(self, generation: str, dimensions: int) -> list[str]:
        """Ids of rows that have no vector of this generation, or one of an earlier text."""
        table = await self._vector_table(generation, dimensions)
        pairs = ["id", "digest"]
        done = await table.query().select(pairs).to_arrow()
        rows = await self._lexical.query().select(pairs).to_arrow()
        finished = set(zip(done["id"].to_pylist(), done["digest"].to_pylist(), strict=True))
        pending = zip(rows["id"].to_pylist(), rows["digest"].to_pylist(), strict=True)
        return [key for key, digest in pending if (key, digest) not in finished]

    async def records(self, ids: Collection[str]) -> list[Record]:
        """Whole rows, text included."""
        found = await self._lexical.query().where(col("id").isin(sorted(ids))).to_arrow()
        return [Record(**row) for row in found.to_pylist()]

    async def remove(self, column: str, values: Collection[str]) -> None:
        """Remove rows by `id` or `group` from every table; vectors first, so that none outlives its row."""
        await self._delete_vectors(col(column).isin(sorted(values)))
        await self._lexical.delete(col(column).isin(sorted(values)))

    async def move(self, groups: Collection[str], scope: str) -> None:
        """Give all rows of these groups another scope."""
        condition = col("group").isin(sorted(groups))
        for name in await self._table_names():
            table = await self._database.open_table(name)
            if await table.count_rows():
                await table.update({"scope": scope}, where=condition)

    async def remove_vectors(self, ids: Collection[str]) -> None:
        """Take these rows' vectors away, of all generations."""
        if ids:
            await self._delete_vectors(col("id").isin(sorted(ids)))

    async def _delete_vectors(self, condition: Expr) -> None:
        for name in await self._table_names():
            table = None if name == LEXICAL else await self._database.open_table(name)
            if table is not None and await table.count_rows():
                await table.delete(condition)

    async def drop_generations_but(self, generation: str) -> None:
        for name in await self._table_names():
            if name not in (LEXICAL, _vectors_of(generation)):
                await self._database.drop_table(name)
        self._vectors = {kept: table for kept, table in self._vectors.items() if kept == generation}
        self._mirrors.clear()

    async def has_vectors(self) -> bool:
        """Whether any row has one, of any generation."""
        for name in await self._table_names():
            if name != LEXICAL and await self._count(await self._database.open_table(name)):
                return True
        return False

    async def count(self) -> int:
        return await self._count(self._lexical)

    async def count_vectors(self, generation: str, dimensions: int) -> int:
        return await self._count(await self._vector_table(generation, dimensions))

    async def tidy(self, keep: timedelta, *, more: bool = False) -> None:
        """After a write: fold what was added since into the word index, when it is enough to slow queries down,
        and join the small files of many writes."""
        self._writes += 1
        statistics = await self._lexical.index_stats("terms_idx")
        waiting = statistics.num_unindexed_rows if statistics else 0
        least, share = (MIN_WHILE_MORE, SHARE_WHILE_MORE) if more else (MIN_UNINDEXED_ROWS, MAX_UNINDEXED_SHARE)
        rows = await self.count()
        scattered = not more and self._writes > max(WRITES_BETWEEN, WRITES_SHARE * rows)
        if scattered or waiting > max(least, share * rows):
            await self.optimise(keep)

    async def tidy_vectors(self, generation: str, dimensions: int, keep: timedelta, *, last: bool) -> None:
        """Join the small files that many writes leave; index what is new, where that would slow queries down."""
        self._commits += 1
        scattered = self._commits % WRITES_BETWEEN == 0
        if not (last or scattered):
            return
        table = await self._vector_table(generation, dimensions)
        rows = await table.count_rows()
        try:
            if last and self._new_vectors > max(MIN_UNINDEXED_ROWS, MAX_UNINDEXED_SHARE * rows):
                self._new_vectors = 0
                await _optimise(table, keep)
            elif scattered:
                await table.optimize(cleanup_older_than=keep)
        except Exception:  # as in `optimise`: the vectors stay right, only slower to look through
            logger.exception("tidying the vectors failed")

    async def optimise(self, keep: timedelta) -> None:
        """Fold, compact, and let go of versions older than `keep`."""
        self._writes = self._new_vectors = 0
        try:
            for name in await self._table_names():
                await _optimise(await self._database.open_table(name), keep)
        except Exception:  # upstream has had several bugs here; the index stays right, only slower
            logger.exception("optimising the search index failed; building its word index anew")
            await self._index_words()
        await anyio.to_thread.run_sync(heap.give_back)

    async def versions(self) -> int:
        """How many versions of a table are kept, of that which has most; all but one are of what was replaced."""
        most = 0
        for name in await self._table_names():
            table = await self._database.open_table(name)
            most = max(most, len(await table.list_versions()))  # type: ignore[no-untyped-call]  # its package forgot it
        return most

    async def forget(self) -> None:
        """Take deleted rows off the disk: no file written before this call remains.

        Every table is written anew, since compaction leaves files alone in which only few rows are deleted;
        costs as much memory as the largest table.
        """
        for name in await self._table_names():
            table = await self._database.open_table(name)
            await table.add(await table.query().to_arrow(), mode="overwrite")
        await self._index_words()
        await self.optimise(timedelta(milliseconds=1))

    async def _index_words(self) -> None:
        await self._lexical.create_index("terms", config=FTS(base_tokenizer="whitespace"), replace=True)

    async def _table_names(self) -> list[str]:
        return list((await self._database.list_tables()).tables)

    async def _vector_table(self, generation: str, dimensions: int) -> lancedb.AsyncTable:
        table = self._vectors.get(generation)
        if table is None:
            schema = _vector_schema(dimensions)
            table = await self._database.create_table(_vectors_of(generation), schema=schema, exist_ok=True)
            self._vectors[generation] = table
        return table


async def _connected(address: str, options: Mapping[str, str] | None) -> lancedb.AsyncConnection:
    return await lancedb.connect_async(
        address, read_consistency_interval=timedelta(0), storage_options=dict(options) if options else None
    )


async def _read(table: lancedb.AsyncTable, count: int, dimensions: int) -> tuple[pa.Table, Vectors | None] | None:
    """What a mirror is made of, vectors copied as they come, or both would be in memory; None where there are not
    so many rows."""
    columns = [*READ, "vector"] if dimensions else list(READ)
    vectors = numpy.empty((count, dimensions), dtype=numpy.float32) if dimensions else None
    rows, done = [], 0
    async for batch in await table.query().select(columns).with_row_id().to_batches():
        if done + len(batch) > count:
            return None
        if vectors is not None:
            vectors[done : done + len(batch)] = batch["vector"].flatten().to_numpy().reshape(-1, dimensions)
        done += len(batch)
        # taken, which copies: what came together is let go of together, the vectors with the last of the names
        rows.append(batch.select([*READ, "_rowid"]).take(numpy.arange(len(batch))))
    return (pa.Table.from_batches(rows), vectors) if done == count else None


def _vectors_of(generation: str) -> str:
    return "vectors16-" + re.sub(r"[^A-Za-z0-9.-]", "_", generation)


def _expression(where: Filter) -> Expr:
    condition = col("scope").isin(sorted(where.scopes))
    return condition if where.groups is None else condition & col("group").isin(sorted(where.groups))


async def _merge(table: lancedb.AsyncTable, rows: pa.Table) -> None:
    await table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def vector_rows(records: Sequence[Record], vectors: Sequence[Vectors]) -> pa.Table:
    """As they stand in a table of vectors; there must be some."""
    columns: dict[str, Any] = {name: [getattr(record, name) for record in records] for name in _names(_KEYS)}
    schema = _vector_schema(len(vectors[0]))
    flat = pa.array(numpy.concatenate(vectors).astype(numpy.float16))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type)
    return pa.table(columns, schema=schema)


def vectors_in(rows: pa.Table) -> dict[str, Vectors]:
    """Those of rows of a table of vectors, by digest."""
    dimensions = rows.schema.field("vector").type.list_size
    flat = rows["vector"].combine_chunks().flatten().to_numpy().astype(numpy.float32).reshape(-1, dimensions)
    return dict(zip(rows["digest"].to_pylist(), flat, strict=True))


def _vector_schema(dimensions: int) -> pa.Schema:
    """In 16 bits, which a cosine does not feel (less than .0003), and half as many bytes on the disk."""
    return pa.schema([*_KEYS, pa.field("vector", pa.list_(pa.float16(), dimensions), nullable=False)])


def _names(fields: Iterable[pa.Field]) -> list[str]:
    return [field.name for field in fields]


def _scored(found: pa.Table, scores: Sequence[float]) -> list[tuple[Match, float]]:
    columns = [found[name].to_pylist() for name in SHOWN]
    return [(Match(*row), score) for *row, score in zip(*columns, scores, strict=True)]


async def _optimise(table: lancedb.AsyncTable, keep: timedelta) -> None:
    """Compact a table, with what makes searches in many rows quick, and let go of versions older than `keep`."""
    rows = await table.count_rows()
    if rows >= MIN_FOR_INDEX:
        indexed = {column: index.name for index in await table.list_indices() for column in index.columns}
        if "scope" not in indexed:
            await table.create_index("scope", config=Bitmap())
        if table.name != LEXICAL:
            await _index_vectors(table, rows, indexed.get("vector"))
    await table.optimize(cleanup_older_than=keep)


async def _index_vectors(table: lancedb.AsyncTable, rows: int, index: str | None) -> None:
    """Make the index anew where there is none, where it was made of less than half of what there is now, or where
    too many have come beside it."""
    known = None if index is None else await table.index_stats(index)
    if known is not None and known.num_unindexed_rows < 0.5 * rows and (known.num_indices or 1) < MOST_INDICES:
        return
    kind = IvfSq(
        distance_type="cosine",
        num_partitions=max(1, rows // PARTITION_ROWS),
        sample_rate=TRAINING_ROWS,
        max_iterations=TRAINING_ROUNDS,
    )
    # its annotation forgets this kind, which it takes
    await table.create_index("vector", config=kind, replace=True)  # type: ignore[arg-type]
