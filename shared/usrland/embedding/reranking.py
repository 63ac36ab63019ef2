"""Judge passages against their question, by a model that reads both together.

Such a cross-encoder orders better than vectors do and costs a run of the model for each passage. So it judges the
best that a search has found, in their order, for as long as the time given lasts; what it did not come to keeps
its place behind them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usrland.errors import Unavailable

if TYPE_CHECKING:
    from usrland.embedding.onnx import Judge

__all__ = ["Reranker"]

MODEL_FILES = ("model.onnx", "onnx/model.onnx")
MAX_TOKENS = 512


class Reranker:
    """A cross-encoder in a folder, as hubs keep them: `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json`."""

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._loading = threading.Lock()
        self._model: Judge | None = None

    def load(self) -> None:
        """Read the model. Twice costs nothing; raises `Unavailable` where it cannot be used."""
        self._loaded()

    def order(self, query: str, texts: Sequence[str]) -> list[int]:
        """The places of these texts, best first. Blocks as long as the time given, loading not counted."""
        model = self._loaded()
        begun = time.monotonic()
        scores: list[float] = []
        for text in texts:
            spent = time.monotonic() - begun
            if scores and spent + spent / len(scores) > self._seconds:
                break
            scores.append(model.score(query, text))
        judged = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [*judged, *range(len(scores), len(texts))]

    def _loaded(self) -> Judge:
        with self._loading:
            if self._model is None:
                self._model = self._read()
            return self._model

    def _read(self) -> Judge:
        from usrland.embedding.onnx import Judge

        try:
            file = next(path for name in MODEL_FILES if (path := self._folder / name).is_file())
            return Judge(file.read_bytes(), (self._folder / "tokenizer.json").read_bytes(), max_tokens=MAX_TOKENS)
        except StopIteration:
            reason = "holds no model.onnx"
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        except Exception as error:  # tokenizer and runtime have their own, which share nothing
            reason = f"holds no model that can be run ({type(error).__name__})"
        raise Unavailable(
            f"the folder of the reranking model {reason}.",
            fix="It takes a cross-encoder as ONNX: model.onnx and tokenizer.json.",
        )
