"""Operations as vectors, made while the server already answers.

Embedding ten thousand operations takes a minute, and finding must not wait for it: until all vectors are
there, operations are found by their words alone and the answer says so. Vectors are kept in one file by a hash
of their text, so a restart reads them in milliseconds and a changed description costs its own changes only.
The file is derived: deleting it loses nothing. It is no LanceDB table, because all of it is needed at every
search and a product of two arrays is faster than any index at this size.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from usrland.embedding import Embedder
from usrland.errors import Unavailable

__all__ = ["Meaning"]

logger = logging.getLogger(__name__)

AT_ONCE = 64
SAVE_SECONDS = 15.0
HASH_BYTES = 16

_Vectors = NDArray[float32]


class Meaning:
    """The vectors of some passages. `learn` makes them, in one thread; `scores` may be asked from any."""

    def __init__(self, passages: Sequence[str], embedder: Embedder, folder: Path) -> None:
        self._passages = passages
        self._embedder = embedder
        self._file = folder / f"operations.{embedder.generation}.npz"
        self._keys = [hashlib.sha256(passage.encode()).digest()[:HASH_BYTES] for passage in passages]
        self._known = _read(self._file, embedder.dimensions)
        self._vectors: _Vectors | None = None
        self._settled = threading.Event()
        self.failed = False
        """There will be no vectors: the model cannot be used. The log says why."""
        self._settle_if_whole()

    @property
    def whole(self) -> bool:
        """Every passage has its vector."""
        return self._settled.is_set() and not self.failed

    def wait(self, seconds: float) -> None:
        """Until all vectors are there or it is clear that they never will be, but no longer than this."""
        self._settled.wait(seconds)

    def scores(self, request: str) -> _Vectors | None:
        """The cosine of every passage; None until all are there."""
        if self._vectors is None or self.failed:
            return None
        try:
            found: _Vectors = self._vectors @ self._embedder.query(request)
        except Unavailable as error:
            self._fail(error)
            return None
        return found

    def learn(self, stopped: Callable[[], bool]) -> None:
        """Make what is missing. Blocks for long; looks at `stopped` every second or so."""
        passages = dict(zip(self._keys, self._passages, strict=True))
        missing = [(key, text) for key, text in passages.items() if key not in self._known]
        saved = time.monotonic()
        try:
            for start in range(0, len(missing), AT_ONCE):
                if stopped():
                    break
                part = missing[start : start + AT_ONCE]
                vectors = self._embedder.documents([text for _, text in part])
                self._known.update(zip((key for key, _ in part), vectors, strict=True))
                if time.monotonic() > saved + SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
            self._embedder.load()
        except Unavailable as error:
            self._fail(error)
            return
        if missing:
            self._save()
        self._settle_if_whole()

    def _fail(self, error: Unavailable) -> None:
        logger.warning("operations are found by their words alone: %s", error)
        self.failed = True
        self._settled.set()

    def _settle_if_whole(self) -> None:
        if all(key in self._known for key in self._keys):
            rows = [self._known[key] for key in self._keys]
            # by columns: with a large matrix by rows, BLAS wakes threads that cost more than they do
            self._vectors = np.asfortranarray(np.stack(rows), dtype=float32) if rows else None
            self._settled.set()

    def _save(self) -> None:
        kept = {key: self._known[key] for key in dict.fromkeys(self._keys) if key in self._known}
        if not kept:
            return
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            with draft.open("wb") as stream:
                keys = np.frombuffer(b"".join(kept), dtype=np.uint8).reshape(-1, HASH_BYTES)
                np.savez(stream, keys=keys, vectors=np.stack(list(kept.values())).astype(np.float16))
            draft.replace(self._file)
        except OSError as error:
            logger.warning("the vectors of operations cannot be kept in %s: %s", self._file.name, error)
            draft.unlink(missing_ok=True)


def _read(file: Path, dimensions: int) -> dict[bytes, _Vectors]:
    """What was kept; nothing where the file is missing or is not what was written."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            keys, vectors = content["keys"], content["vectors"].astype(float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if keys.ndim != 2 or keys.shape[1] != HASH_BYTES or vectors.shape != (len(keys), dimensions):
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
