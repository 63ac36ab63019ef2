"""An index in a temporary folder, with the real model behind a counter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from usrland.embedding import Embedder, Vectors, embedder
from usrland.search import HybridIndex


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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    model = embedder("minilm")
    assert model is not None
    model.load()
    return model


@pytest.fixture
def model(minilm: Embedder) -> Counting:
    return Counting(minilm)


@pytest.fixture
def index(tmp_path: Path, model: Counting) -> HybridIndex:
    return HybridIndex(tmp_path / "index", model)
