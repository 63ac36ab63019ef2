"""An index in a temporary folder, with the real model behind a counter."""

from __future__ import annotations

from pathlib import Path

import pytest
from counting import Counting

from usrland.embedding import Embedder
from usrland.search import HybridIndex


@pytest.fixture
def model(minilm: Embedder) -> Counting:
    return Counting(minilm)


@pytest.fixture
def index(tmp_path: Path, model: Counting) -> HybridIndex:
    return HybridIndex(tmp_path / "index", model)
