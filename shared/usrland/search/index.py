"""The hybrid index: rows go in as text and come out ranked by words and by meaning together.

The index is derived. Whoever owns the truth writes there first, then here, and can `drop` and fill it again. What
was written here is on the disk when the call returns: LanceDB leaves that to the operating system, and who loses
power would find tables without what the truth says they hold. Tables that cannot be read are made anew, empty.
A row is found by its words as soon as `upsert` returns, and by its meaning once it has a vector: at once
where the model is loaded, else after `embed_pending`. Until then every answer says what it lacks.

Where there are no tables yet, whoever asks for it has rows found while the tables are still being made (`held`):
the first files of a folder are read sooner than LanceDB is imported; and a search that could find nothing waits
for nothing. An index that has tables waits for them, since most of what it holds would be missing from the answer.

The first search of a process waits a moment for the model, where there are vectors. The embedded one costs a third
of what LanceDB's import costs, and clients that start a process for each call would otherwise never search by
meaning.

LanceDB's own hybrid query is not used: it joins ranks, cannot say "nothing relevant", and is slower than two
queries side by side.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import anyio
import anyio.to_thread

from usrland.embedding import Embedder, Vectors
from usrland.errors import Unavailable, UsrlandError
from usrland.search.analysis import terms
from usrland.search.fusion import CANDIDATES, FLOOR, Hit, fuse, lexical_weight
from usrland.search.held import Held
from usrland.search.loading import tables_module
from usrland.search.place import Folder, Place
from usrland.search.record import Filter, Match, Record
from usrland.search.serving import Serving

if TYPE_CHECKING:
    from types import ModuleType

    from usrland.search.fragments import Shard
    from usrland.search.lance import Tables
    from usrland.search.mirror import Mirror

__all__ = ["KEEP_VERSIONS", "HybridIndex", "IndexRow", "Mode", "SearchAnswer", "Sizes"]

logger = logging.getLogger(__name__)

Mode = Literal["hybrid", "lexical", "semantic"]

KEEP_VERSIONS = timedelta(minutes=1)
"""Long enough for a reader in another process to finish with the version it opened."""
SETTLE_REST = 20
"""So many times as long as tidying up took it is left be: of a million rows it takes half a minute."""
TIDY_VERSIONS = 6
"""A table that was optimised has no more, but for what a single change adds."""
EMBED_BATCH = 32
"""Texts between two looks at whether somebody wants this to stop."""
READ_ROWS = 2_048
"""Texts read at a time: of a million rows LanceDB finds 32 in the time that it takes for these."""
COMMIT_ROWS, COMMIT_SHARE, COMMIT_SECONDS = 512, 1 / 16, 20.0
"""Vectors are written so many at a time, or that share of those before: every write is a version, and each costs
more the more there are."""
MODEL_SECONDS = 5.0
"""How long a search waits for the model, the first time; larger models are loaded behind it."""
LOCK_SECONDS = 60.0
MAX_QUERY_CHARS = 2_000
REMEMBERED_VECTORS = 512
OPENING = "the search index is still being opened: these are matches by words alone, in a rough order."


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """One thing to be found."""

    id: str
    scope: str
    """Tenant, namespace, root: searches name the scopes they may see, and see nothing else."""
    text: str
    extra: str = ""
    """Opaque; comes back with a hit."""
    group: str = ""
    """What the row is a part of; rows can be removed and searched by it."""
    words: str = ""
    """Also found by these words; no part of what is embedded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """Hits, best first; none where nothing was relevant. `degraded` says why more might have been found."""

    hits: Sequence[Hit]
    degraded: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is in the index."""

    rows: int
    vectors: int


class HybridIndex:
    """The search tables of one place.

    Any number of processes may read; writers of all processes take turns. A write that waits longer than a minute
    raises `Unavailable`, as everything does while a bucket cannot be reached.
    """

    def __init__(
        self, place: Path | Place, embedder: Embedder | None, *, model_seconds: float = MODEL_SECONDS
    ) -> None:
        self._place = Folder(place) if isinstance(place, Path) else place
        self._model_seconds = model_seconds
        self._embedder = embedder
        self._problem: str | None = None
        self._serving = Serving(self._place)
        self._tables: Tables | None = None
        self._held = Held()
        self._suspect = False
        """Something of it could not be read or written."""
        self._settled_until = float("-inf")
        self._turn = anyio.Lock()
        self._opening = anyio.Lock()
        self._remembered: dict[str, Vectors] = {}
        """By digest: of texts that were compared before they came in, oldest first."""

    async def warm(self) -> None:
        """Load the model and open the tables. Never raises for the model: answers say that it is missing."""
        await self._open()
        if self._embedder is not None and not self._embedder.ready:
            await self._load(self._embedder)

    async def model(self) -> Embedder | None:
        """The embedder, where it can answer now or in a moment."""
        embedder = self._embedder
        if embedder is not None and not embedder.ready and self._problem is None:
            with anyio.move_on_after(self._model_seconds):
                await self._load(embedder)
        return embedder if embedder is not None and embedder.ready else None

    @property
    def is_open(self) -> bool:
        """Whether the tables have been opened, so that a search need not wait for that."""
        return self._tables is not None

    async def upsert(
        self,
        rows: Sequence[IndexRow],
        *,
        embed: bool = True,
        more: bool = False,
        held: Callable[[], None] | None = None,
    ) -> None:
        """Add rows, or replace those with the same id; the last of equal ids wins.

        `embed=False` leaves new texts to `embed_pending`; texts that have a vector already keep it. Where `more`
        are to follow, the word index is folded seldom; call `tidy` after the last. With `held`, rows are found by
        their words at once where there are no tables yet, also after a write that was cancelled or failed, until
        another has come through; it is called before the tables are opened.
        """
        records = await anyio.to_thread.run_sync(_records, rows)  # finding the terms takes as long as all the rest
        if not records:
            return
        embedder = self._embedder if self._embedder is not None and self._embedder.ready else None
        if held is not None and not self.is_open and await self._place.is_new() and self._held.add(records):
            held()
        made: Mapping[str, Vectors] = {}
        if embedder is not None and embed:
            made = await self._embedded(embedder, records)
        async with self._writing() as tables:
            if embedder is not None:
                made = made or await _known(tables, embedder, records)
            # what has no vector yet must not be found by that of its earlier text
            await tables.remove_vectors([record.id for record in records if record.digest not in made])
            await tables.put(records)
            if embedder is not None:
                await _put_vectors(tables, embedder, records, made)
            await tables.tidy(KEEP_VERSIONS, more=more)

    async def tidy(self) -> None:
        """Fold what was added since into the word index, where that is enough to slow searches down."""
        async with self._writing() as tables:
            await tables.tidy(KEEP_VERSIONS)

    async def embed_pending(
        self,
        progress: Callable[[int, int], Awaitable[None]] | None = None,
        *,
        workers: int = 1,
        ray: str | None = None,
    ) -> int:
        """Give every row its vector; how many were missing. Others can write between the batches.

        More `workers` are processes, of which each loads the model; those of the Ray at that address, where given.
        """
        await self.warm()
        embedder = self._embedder
        if embedder is None or not embedder.ready:
            return 0
        tables = await self._open()
        with self._reached():
            pending = await tables.without_vectors(embedder.generation, embedder.dimensions)
        if ray is not None:
            await self._embed_on(ray, embedder, pending, progress, workers)
        elif workers == 1:
            await self._embed_here(embedder, pending, progress, EMBED_BATCH)
        else:
            from usrland.embedding.workers import Workers

            crew = Workers(embedder, workers)
            try:
                await self._embed_here(crew, pending, progress, EMBED_BATCH * workers)
            finally:
                await anyio.to_thread.run_sync(crew.close)
        await self._switch(embedder)
        return len(pending)

    async def _embed_here(
        self,
        embedder: Embedder,
        pending: Sequence[str],
        progress: Callable[[int, int], Awaitable[None]] | None,
        at_once: int,
    ) -> None:
        written, made, since = 0, dict[str, Vectors](), time.monotonic()
        for first in range(0, len(pending), READ_ROWS):
            ids = pending[first : first + READ_ROWS]
            tables = await self._open()
            with self._reached():
                records = {record.id: record for record in await tables.records(ids)}
                known = dict(await _known(tables, embedder, [*records.values()]))
            for start in range(0, len(ids), at_once):
                batch = [records[key] for key in ids[start : start + at_once] if key in records]
                known |= await self._made(embedder, [record for record in batch if record.digest not in known])
                made |= {record.digest: known[record.digest] for record in batch}
                done = first + min(start + at_once, len(ids))
                due = done - written >= max(COMMIT_ROWS, COMMIT_SHARE * written)
                if due or time.monotonic() - since > COMMIT_SECONDS or done == len(pending):
                    await self._commit(embedder, pending[written:done], made, last=done == len(pending))
                    written, made, since = done, {}, time.monotonic()
                if progress is not None:
                    await progress(done, len(pending))

    async def _embed_on(
        self,
        ray: str,
        embedder: Embedder,
        pending: Sequence[str],
        progress: Callable[[int, int], Awaitable[None]] | None,
        workers: int,
    ) -> None:
        from usrland.search.cluster import embedded_on

        waiting: list[Shard] = []
        done, since = 0, time.monotonic()
        place, options, generation = self._place.address, self._place.options, embedder.generation
        made = embedded_on(ray, workers, pending, place=place, options=options, generation=generation)
        async with aclosing(made) as shards:
            async for shard in shards:
                waiting.append(shard)
                done += shard.asked
                if progress is not None:
                    await progress(done, len(pending))
                if time.monotonic() - since > COMMIT_SECONDS or done == len(pending):
                    await self._take_in(embedder, waiting, last=done == len(pending))
                    waiting, since = [], time.monotonic()

    async def _take_in(self, embedder: Embedder, shards: Sequence[Shard], *, last: bool) -> None:
        from usrland.search.fragments import take_in

        generation, dimensions = embedder.generation, embedder.dimensions
        async with self._writing() as tables:
            await take_in(tables, self._place.options, generation, dimensions, shards)
            await tables.tidy_vectors(generation, dimensions, KEEP_VERSIONS, last=last)

    async def _commit(
        self, embedder: Embedder, ids: Sequence[str], vectors: Mapping[str, Vectors], *, last: bool
    ) -> None:
        async with self._writing() as tables:  # rows that changed or went in the meantime are not in `vectors`
            await _put_vectors(tables, embedder, await tables.records(ids), vectors)
            await tables.tidy_vectors(embedder.generation, embedder.dimensions, KEEP_VERSIONS, last=last)

    async def delete(self, ids: Collection[str]) -> None:
        """Remove rows; ids that are not there are no error."""
        if ids:
            async with self._writing() as tables:
                await tables.remove("id", ids)

    async def delete_groups(self, groups: Collection[str]) -> None:
        """Remove all rows of these groups."""
        if groups:
            async with self._writing() as tables:
                await tables.remove("group", groups)

    async def move_groups(self, groups: Collection[str], scope: str) -> None:
        """Have all rows of these groups found in another scope; they keep their vectors."""
        if groups:
            async with self._writing() as tables:
                await tables.move(groups, scope)
                await tables.tidy(KEEP_VERSIONS)

    async def search(
        self,
        query: str,
        *,
        scopes: Collection[str],
        words: str = "",
        k: int = 10,
        mode: Mode = "hybrid",
        groups: Collection[str] | None = None,
        floor: float = FLOOR,
        candidates: int = CANDIDATES,
        neighbours: Callable[[str], Sequence[str]] | None = None,
        language: Callable[[str], str | None] | None = None,
    ) -> SearchAnswer:
        """The `k` best rows in these scopes (and groups, where given), above the floor of confidence.

        They are chosen from so many `candidates` by words, and as many by meaning; `words` are looked up instead
        of the query's own, where the caller knows better. `neighbours` says which ids stand beside an id, where
        rows are passages of documents; `language` in which programming language an id is, if any.
        Where there is no model, every mode goes by words, and the answer says so.
        """
        if not scopes or (groups is not None and not groups):
            return SearchAnswer(hits=[])
        where = Filter(scopes=scopes, groups=groups)
        query = query[:MAX_QUERY_CHARS]
        words = terms(words[:MAX_QUERY_CHARS] or query)
        ranked = partial(
            _hits,
            query=query,
            words=len(set(words.split())),
            floor=floor,
            candidates=candidates,
            neighbours=neighbours,
            language=language,
            most=k,
        )
        if self._held and mode != "semantic":
            matches = await anyio.to_thread.run_sync(self._held.match, words, where, candidates)
            return SearchAnswer(hits=ranked(matches, None), degraded=OPENING)
        if not (self.is_open or self._held) and await self._place.is_new():
            return SearchAnswer(hits=[])
        tables = await self._open()
        with self._reached():
            embedder, degraded = (None, None) if mode == "lexical" else await self._usable(tables)
        lexical: list[tuple[Match, float]] | None = None if mode == "semantic" and embedder is not None else []
        dense: list[tuple[Match, float]] | None = None if embedder is None else []

        async def by_words(found: list[tuple[Match, float]]) -> None:
            if words:
                found += await tables.match(words, where, candidates)

        async def by_meaning(found: list[tuple[Match, float]], embedder: Embedder) -> None:
            mirror = await tables.mirror(embedder.generation, embedder.dimensions)
            if mirror is not None:  # one turn of a thread for both
                found += await anyio.to_thread.run_sync(_nearest, embedder, query, mirror, where, candidates)
                return
            vector = await anyio.to_thread.run_sync(embedder.query, query)
            found += await tables.nearest(embedder.generation, vector, where, candidates)

        with self._reached():
            async with anyio.create_task_group() as tasks:
                if lexical is not None:
                    tasks.start_soon(by_words, lexical)
                if dense is not None and embedder is not None:
                    tasks.start_soon(by_meaning, dense, embedder)
        return SearchAnswer(hits=ranked(lexical, dense), degraded=degraded)

    async def cosines(self, query: str, texts: Sequence[str]) -> Sequence[float] | None:
        """How near each text is to the query, whether or not it is in a row; None where no model can answer now.

        The vectors are remembered for whoever asks again, and for the rows that these texts come to stand in.
        """
        embedder = await self.model()
        if embedder is None:
            return None
        digests = [_digest(text) for text in texts]
        vectors = {digest: self._remembered[digest] for digest in digests if digest in self._remembered}
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in vectors}
        asked, made = await anyio.to_thread.run_sync(_both, embedder, query[:MAX_QUERY_CHARS], [*missing.values()])
        new = dict(zip(missing, made, strict=True))
        self._remembered |= new
        for digest in [*self._remembered][:-REMEMBERED_VECTORS]:
            del self._remembered[digest]
        vectors |= new
        return [float(vectors[digest] @ asked) for digest in digests]

    async def sizes(self) -> Sizes:
        tables = await self._open()
        embedder = await self.model()
        with self._reached():
            vectors = await tables.count_vectors(embedder.generation, embedder.dimensions) if embedder else 0
            return Sizes(rows=await tables.count(), vectors=vectors)

    async def count(self) -> int:
        """How many rows can be found by their words."""
        tables = await self._open()
        with self._reached():
            return await tables.count()

    async def is_untidy(self) -> bool:
        """Whether `optimise` is worth its while, as after a process that wrote much and ended at once."""
        tables = await self._open()
        with self._reached():
            return await tables.versions() > TIDY_VERSIONS

    async def optimise(self, *, forget: bool = False) -> bool:
        """Fold and compact now. `forget` also takes deleted rows off the disk, at once.

        Returns whether what was replaced is still on the disk, for whoever may be reading it; it goes with a call
        that is `KEEP_VERSIONS` later. A search of another process that runs just then may fail, and can be
        repeated.
        """
        if forget:
            self._remembered.clear()
        async with self._writing() as tables:
            await (tables.forget() if forget else tables.optimise(KEEP_VERSIONS))
            return await tables.versions() > 1

    async def settle(self) -> bool:
        """`optimise`, for whoever calls each time nothing was written for a while; seldom, where it takes long."""
        if time.monotonic() < self._settled_until:
            return True
        begun = time.monotonic()
        left = await self.optimise()
        self._settled_until = time.monotonic() + SETTLE_REST * (time.monotonic() - begun)
        return left

    async def drop(self) -> None:
        """Empty the index, all generations; fill it again from the truth."""
        async with self._writing() as tables:
            await tables.drop()
            await self._serving.forget()
            self._tables = None

    async def _usable(self, tables: Tables) -> tuple[Embedder | None, str | None]:
        """The embedder if it can answer now, and what is missing from the answer."""
        if self._embedder is None:
            return None, "no embedding model is configured: these are matches by words alone."
        if not self._embedder.ready and self._problem is None and not await tables.has_vectors():
            rows = await tables.count()  # nothing to compare with yet, and so no need to wait for the model
            return None, _waiting(rows, rows) if rows else None
        embedder = await self.model()
        if embedder is None:
            reason = self._problem or "the embedding model is still loading"
            return None, f"{reason.rstrip('.')}: these are matches by words alone."
        rows, made = await tables.count(), await tables.count_vectors(embedder.generation, embedder.dimensions)
        if made >= rows:
            return embedder, None
        before = await self._before(embedder)
        if before is not None and await tables.count_vectors(before.generation, before.dimensions) > made:
            return (
                before,
                f"a new embedding model has read {made} of {rows} passages; until then the one before it answers.",
            )
        return embedder, _waiting(rows - made, rows)

    async def _before(self, chosen: Embedder) -> Embedder | None:
        """The model before the chosen one, loaded, where it can be."""
        before = await self._serving.before(chosen)
        if before is not None and not before.ready:
            try:
                await anyio.to_thread.run_sync(before.load)
            except Unavailable:
                return None
        return before

    async def _switch(self, embedder: Embedder) -> None:
        """Everything has its vector: from now on this generation answers, and soon there is no other."""
        if await self._serving.generation() != embedder.generation:
            await self._serving.switch(embedder.generation)
            return
        async with self._writing() as tables:
            await tables.drop_generations_but(embedder.generation)

    async def _load(self, embedder: Embedder) -> None:
        """Once for all who wait; whoever stops waiting leaves it to go on."""
        try:
            await anyio.to_thread.run_sync(embedder.load, abandon_on_cancel=True)
            self._problem = None
        except Unavailable as error:
            logger.warning("search works by words alone: %s", error.fact)
            self._problem = error.fact

    async def _embedded(self, embedder: Embedder, records: Sequence[Record]) -> Mapping[str, Vectors]:
        """Vectors of these texts, by digest. Takes as long as the model; hold no lock meanwhile."""
        tables = await self._open()
        with self._reached():
            known = await _known(tables, embedder, records)
        return {**known, **await self._made(embedder, [each for each in records if each.digest not in known])}

    async def _made(self, embedder: Embedder, records: Sequence[Record]) -> Mapping[str, Vectors]:
        """As `_embedded`, of texts that the index does not know."""
        vectors = {
            record.digest: self._remembered[record.digest]
            for record in records
            if record.digest in self._remembered
        }
        missing = {record.digest: record.text for record in records if record.digest not in vectors}
        if missing:
            made = await anyio.to_thread.run_sync(embedder.documents, list(missing.values()))
            vectors.update(zip(missing, made, strict=True))
        return vectors

    async def _open(self) -> Tables:
        async with self._opening:
            if self._tables is None or self._suspect:
                lance = await anyio.to_thread.run_sync(tables_module)
                async with self._locked():
                    with self._reached():
                        self._tables = await self._opened(lance)
                        self._suspect = False
            with self._reached():
                await self._tables.refresh()
            return self._tables

    async def _opened(self, lance: ModuleType) -> Tables:
        """The tables; where their rows cannot be read, as after a loss of power, empty ones in their place."""
        look_over = self._suspect and isinstance(self._place, Folder)
        try:
            tables: Tables = await lance.Tables.open(self._place.address, self._place.options)
            if look_over:
                await tables.read_through()
        except Exception as error:  # of whatever kind, see `_reached`
            if not isinstance(self._place, Folder):
                raise
            await self._place.clear()
            logger.warning("the search index was damaged and is made anew: %s", error)
            return cast("Tables", await lance.Tables.open(self._place.address, self._place.options))
        if look_over:  # where this fails, as on a full disk, the rows and their vectors are still good
            await tables.index_anew()
        return tables

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Tables]:
        """When this ends, what was written survives a loss of power: others take note of how far the index is."""
        tables = await self._open()
        async with self._locked():
            with self._reached():
                yield tables
                await self._place.sync()
        self._held.clear()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What LanceDB raises is a system that is not there, and no bug of ours. In a folder, look why: the next
        call does."""
        try:
            yield
        except UsrlandError:
            raise
        except Exception as error:  # of whatever kind: it has none of its own
            logger.exception("the search index failed")
            self._suspect = True
            what = "search index" if isinstance(self._place, Folder) else "bucket of the search index"
            raise Unavailable(f"the {what} cannot be used now.") from error

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """The turn among this process's tasks, then the one among all processes."""
        async with self._turn, self._place.turn("write", LOCK_SECONDS) as mine:
            if not mine:
                raise Unavailable("another process has been writing to the search index for a minute.")
            yield


async def _known(tables: Tables, embedder: Embedder, records: Sequence[Record]) -> Mapping[str, Vectors]:
    """Vectors that were made for other rows of the same texts."""
    digests = {record.digest for record in records}
    return await tables.known_vectors(embedder.generation, embedder.dimensions, digests)


async def _put_vectors(
    tables: Tables, embedder: Embedder, records: Sequence[Record], vectors: Mapping[str, Vectors]
) -> None:
    ready = [record for record in records if record.digest in vectors]
    if ready:
        await tables.put_vectors(embedder.generation, ready, [vectors[record.digest] for record in ready])


def _waiting(count: int, rows: int) -> str:
    return f"{count} of {rows} passages wait for their vectors and are found by words alone."


def _records(rows: Sequence[IndexRow]) -> list[Record]:
    return list({row.id: _record(row) for row in rows}.values())


def _both(embedder: Embedder, query: str, texts: Sequence[str]) -> tuple[Vectors, Sequence[Vectors]]:
    return embedder.query(query), list(embedder.documents(texts)) if texts else []


def _nearest(
    embedder: Embedder, query: str, mirror: Mirror, where: Filter, limit: int
) -> list[tuple[Match, float]]:
    return mirror.nearest(embedder.query(query), where, limit)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _record(row: IndexRow) -> Record:
    return Record(
        id=row.id,
        scope=row.scope,
        group=row.group,
        digest=_digest(row.text),
        extra=row.extra,
        terms=terms(f"{row.text} {row.words}" if row.words else row.text),
        text=row.text,
    )


def _hits(
    lexical: Sequence[tuple[Match, float]] | None,
    dense: Sequence[tuple[Match, float]] | None,
    *,
    query: str,
    words: int,
    floor: float,
    candidates: int,
    neighbours: Callable[[str], Sequence[str]] | None,
    language: Callable[[str], str | None] | None,
    most: int,
) -> Sequence[Hit]:
    matches = {match.id: match for match, _ in (*(dense or ()), *(lexical or ()))}
    by_words, by_meaning = _scores(lexical), _scores(dense)
    return [
        Hit(
            id=key,
            score=score,
            confidence=sure,
            lexical=(by_words or {}).get(key),
            dense=(by_meaning or {}).get(key),
            extra=matches[key].extra,
            group=matches[key].group,
        )
        for key, score, sure in fuse(
            by_words,
            by_meaning,
            words=words,
            weight=lexical_weight(query, words, by_meaning, language),
            floor=floor,
            candidates=candidates,
            neighbours=neighbours,
            most=most,
        )
    ]


def _scores(found: Sequence[tuple[Match, float]] | None) -> Mapping[str, float] | None:
    return None if found is None else {match.id: score for match, score in found}
