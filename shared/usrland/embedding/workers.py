"""An embedder spread over processes, for a first indexing on a machine with many cores.

In one process the model runs in threads, which is enough for most: threads do not spread the tokenizer, nor
what Python does around it. Each worker loads the model for itself and runs it in one thread.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from usrland.embedding import Embedder, Vectors, of_generation
from usrland.errors import Unavailable

__all__ = ["Workers"]

_model: Embedder | None = None


class Workers:
    """The same vectors as the model's own; end it with `close`."""

    def __init__(self, model: Embedder, count: int) -> None:
        self.generation = model.generation
        self.dimensions = model.dimensions
        self.query = model.query
        self.ready = True
        self._count = count
        # not forked: threads of this process, onnxruntime's among them, would be missing there
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, spawn, initializer=_begin, initargs=(model.generation,))

    def load(self) -> None:
        """Each worker has done so before its first text."""

    def documents(self, texts: Sequence[str]) -> Vectors:
        import numpy

        size = max(1, math.ceil(len(texts) / self._count))
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        return numpy.concatenate(list(self._pool.map(_documents, parts)))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _begin(generation: str) -> None:
    global _model
    _model = of_generation(generation, threads=1)
    if _model is None:
        raise Unavailable(f"no worker can load the model of {generation!r}.", fix="Index without --workers.")
    _model.load()


def _documents(texts: Sequence[str]) -> Vectors:
    assert _model is not None
    return _model.documents(texts)
