"""Judge passages against their question, by a model that reads both together.

Such a cross-encoder orders better than vectors do and costs a run of the model for each passage. So it judges the
best that a search has found, in their order, for as long as the time given lasts; what it did not come to keeps
its place behind them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from usrland.errors import Unavailable

__all__ = ["Judge", "Reranker", "reranker"]

MODEL_FILES = ("model.onnx", "onnx/model.onnx")
MAX_TOKENS = 512


class Judge(Protocol):
    """One cross-encoder, loaded."""

    def score(self, query: str, text: str) -> float:
        """How well the text answers; compares for one query only. Blocks, in any thread."""
        ...


class Reranker:
    """A cross-encoder that is read when it is first needed."""

    def __init__(self, read: Callable[[], Judge], *, seconds: float) -> None:
        self._read = read
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


def reranker(name: str, *, seconds: float) -> Reranker | None:
    """The cross-encoder of that name, not loaded yet; None where the name is empty.

    It is `sentence-transformers:<model>`, or a folder as hubs keep them: `model.onnx` (or `onnx/model.onnx`) and
    `tokenizer.json`.
    """
    if not name:
        return None
    kind, _, model = name.partition(":")
    if kind == "sentence-transformers" and model:
        return Reranker(partial(_by_name, model), seconds=seconds)
    return Reranker(partial(_in_folder, Path(name).expanduser()), seconds=seconds)


def _by_name(model: str) -> Judge:
    from usrland.embedding.transformers import SentenceTransformersJudge

    return SentenceTransformersJudge(model, max_tokens=MAX_TOKENS)


def _in_folder(folder: Path) -> Judge:
    from usrland.embedding.onnx import OnnxJudge

    try:
        file = next(path for name in MODEL_FILES if (path := folder / name).is_file())
        return OnnxJudge(file.read_bytes(), (folder / "tokenizer.json").read_bytes(), max_tokens=MAX_TOKENS)
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
