"""`fs_status`: whether search is complete, and what it lacks."""

from __future__ import annotations

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
    sizes = await library.index.sizes()
    reasons = [PAUSED] if library.indexer.paused else [behind] if behind else []
    if sizes.vectors < sizes.rows:
        reasons.append("some passages have no vectors yet and are found by words alone.")
    return Status(
        roots=[await _root_status(library, root) for root in roots],
        embedding=_embedding(library),
        degraded=" ".join(reasons) or None,
    )


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
