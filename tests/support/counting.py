"""An embedding model that tells what it was asked."""

from __future__ import annotations

from collections.abc import Sequence

from usrland.embedding import Embedder, Vectors


class Counting:
    """The real model, and which documents it was asked to embed."""

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self.generation = model.generation
        self.dimensions = model.dimensions
        self.ready = False
        self.embedded: list[str] = []

    def load(self) -> None:
        self._model.load()
        self.ready = True

    def documents(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        return self._model.documents(texts)

    def query(self, text: str) -> Vectors:
        return self._model.query(text)
