"""What the C library's allocator keeps of memory that is free again; elsewhere than on glibc nothing is done.

LanceDB and the model allocate from many threads. Each thread would have a heap of its own, up to eight for each
processor, with holes that none of the others can use: some 30 KB for each write to an index.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back", "share"]

M_ARENA_MAX, ARENAS = -8, 2


def share() -> None:
    """Have all threads allocate from few heaps. For a process that serves, before it has made any thread."""
    if _libc is not None:
        _libc.mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return free memory to the system, which takes some milliseconds: after work that took much for a while."""
    if _libc is not None:
        _libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


_libc = _glibc()
