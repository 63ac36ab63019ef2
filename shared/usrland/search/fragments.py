"""Files of vectors that were written anywhere, and become part of their table in one commit.

LanceDB writes and commits in one step, Lance beneath it in two, which `pylance` offers. The extra asks for the
version of Lance that lancedb carries: both write the same format then, and read each other's.

A commit takes files as they are. So one in which every row still says what it said is taken over whole; of one in
which a row has changed, moved, gone or got a vector since, the vectors are read and written like those of a single
process, for the rows whose text is still the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import anyio.to_thread
from lance import LanceDataset, LanceOperation
from lance.file import LanceFileReader
from lance.fragment import FragmentMetadata, write_fragments

from usrland.embedding import Vectors
from usrland.search.lance import Tables, vector_rows, vectors_in
from usrland.search.record import Record

__all__ = ["Shard", "take_in", "written"]

Options = Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Rows that were embedded together, without their texts, and the files of their vectors."""

    asked: int
    """For so many ids; fewer rows where some had gone."""
    rows: Sequence[Record]
    files: Sequence[FragmentMetadata]


def written(
    tables: Tables, options: Options, generation: str, records: Sequence[Record], vectors: Sequence[Vectors]
) -> Sequence[FragmentMetadata]:
    """Write files that are in no version of the table yet; they are found by nobody until they are taken in."""
    rows, address = vector_rows(records, vectors), tables.vectors_address(generation)
    files: list[FragmentMetadata] = write_fragments(
        rows, address, schema=rows.schema, storage_options=_given(options)
    )
    return files


async def take_in(
    tables: Tables, options: Options, generation: str, dimensions: int, shards: Sequence[Shard]
) -> None:
    """Make the shards part of the table; needs the turn to write. No row has two vectors then, or an old one."""
    ids = [row.id for shard in shards for row in shard.rows]
    now = {record.id: record for record in await tables.records(ids)}
    given = await tables.with_vectors(generation, dimensions, ids)
    same = {record.keys() for record in now.values() if record.id not in given}
    address = tables.vectors_address(generation)
    whole = [shard for shard in shards if same.issuperset(shard.rows)]
    await anyio.to_thread.run_sync(_append, address, options, whole)
    tables.count_new(sum(len(shard.rows) for shard in whole))
    for shard in shards:
        if shard not in whole:
            made = await anyio.to_thread.run_sync(_read, address, options, shard)
            ready = [now[row.id] for row in shard.rows if row.id in now and now[row.id].digest == row.digest]
            if ready:
                await tables.put_vectors(generation, ready, [made[record.digest] for record in ready])


def _append(address: str, options: Options, shards: Sequence[Shard]) -> None:
    files = [file for shard in shards for file in shard.files]
    if not files:
        return
    for reader in _readers(address, options, files):
        reader.num_rows()  # a commit would name a file that is gone, and stay unreadable
    table = LanceDataset(address, storage_options=_given(options))
    LanceDataset.commit(table, LanceOperation.Append(files), read_version=table.version)


def _read(address: str, options: Options, shard: Shard) -> Mapping[str, Vectors]:
    """By digest."""
    made: dict[str, Vectors] = {}
    for reader in _readers(address, options, shard.files):
        made |= vectors_in(reader.read_all().to_table())
    return made


def _readers(address: str, options: Options, files: Sequence[FragmentMetadata]) -> Iterator[LanceFileReader]:
    for file in files:
        for part in file.files:
            yield LanceFileReader(f"{address}/data/{part.path}", storage_options=_given(options))


def _given(options: Options) -> dict[str, str] | None:
    return dict(options) if options else None
