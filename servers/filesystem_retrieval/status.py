"""`fs_status`: whether search is complete, and what it lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from filesystem_retrieval.answers import Failure, RootStatus, Status
from filesystem_retrieval.library import PAUSED, Library
from filesystem_retrieval.roots import Root
from usrland.connector import Call

__all__ = ["status"]

MAX_FAILURES = 10


async def status(library: Library, call: Call) -> Status:
    """How far each of the caller's roots is."""
    roots = library.visible(call.principal)
    behind = await library.refresh()
    return Status(
        roots=[await _root_status(library, root) for root in roots],
        embedding=_embedding(library),
        degraded=" ".join([reason async for reason in _lacking(library, behind)]) or None,
    )


async def _lacking(library: Library, behind: str | None) -> AsyncIterator[str]:
    if library.indexer.paused and not library.indexer.barred:
        yield PAUSED
    elif behind:
        yield behind
    if library.indexer.barred:
        return  # the index is of no use, and may be emptied now
    sizes = await library.index.sizes()
    if sizes.vectors < sizes.rows:
        yield "some passages have no vectors yet and are found by words alone."


async def _root_status(library: Library, root: Root) -> RootStatus:
    summary = await library.catalogue.summary(root.keys, MAX_FAILURES)
    return RootStatus(
        root=root.name,
        reachable=root.name not in library.indexer.last.unreachable,
        indexed=summary.states.get("ok", 0),
        pending=summary.states.get("pending", 0),
        failed=summary.states.get("failed", 0),
        passages=summary.chunks,
        failures=[Failure(path=path, reason=reason) for path, reason in summary.failures],
        note=root.bucket.problem if root.bucket is not None else None,
    )


def _embedding(library: Library) -> str:
    if library.model is None:
        return "none: configured so"
    return library.model.generation if library.model.ready else "none: the model is not loaded"
