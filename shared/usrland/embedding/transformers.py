"""Any model that sentence-transformers can load, for those who have chosen one: embedders and cross-encoders."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from usrland.errors import Unavailable

if TYPE_CHECKING:
    from usrland.embedding import Vectors

__all__ = ["PREFIX", "SentenceTransformersEmbedder", "SentenceTransformersJudge"]

PREFIX = "sentence-transformers:"
BATCH = 32


class SentenceTransformersEmbedder:
    """A model by its hub name or by a local folder.

    Its revision is whatever the hub or the folder holds at the first load; pin one by giving a folder.
    """

    def __init__(self, model: str) -> None:
        self._name = model
        self._loading = threading.Lock()
        self._model: Any = None

    @property
    def generation(self) -> str:
        return f"{PREFIX}{self._name}.{self.dimensions}"

    @property
    def dimensions(self) -> int:
        return int(self._loaded().get_embedding_dimension())

    @property
    def ready(self) -> bool:
        return self._model is not None

    def load(self) -> None:
        self._loaded()

    def documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._loaded().encode_document, list(texts))

    def query(self, text: str) -> Vectors:
        return self._encode(self._loaded().encode_query, text)

    def _encode(self, encode: Any, text: str | list[str]) -> Vectors:
        vectors: Vectors = encode(text, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
        return vectors

    def _loaded(self) -> Any:
        with self._loading:
            if self._model is None:
                self._model = _load(self._name, "SentenceTransformer", "embedding", 'set embedding = "minilm"')
            return self._model


class SentenceTransformersJudge:
    """A cross-encoder by its hub name or by a local folder, loaded at once."""

    def __init__(self, model: str, *, max_tokens: int) -> None:
        self._model = _load(model, "CrossEncoder", "reranking", "leave rerank empty", max_length=max_tokens)

    def score(self, query: str, text: str) -> float:
        (scores,) = self._model.predict([(query, text)], show_progress_bar=False)
        return float(scores.reshape(-1)[-1])  # of two classes the second is that it answers


def _load(name: str, kind: str, use: str, otherwise: str, **options: Any) -> Any:
    try:
        import sentence_transformers
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"{use} by {name!r} needs: pip install 'usrland[sentence-transformers]'.",
            fix=f"Install it, or {otherwise}.",
        ) from error
    try:
        return getattr(sentence_transformers, kind)(name, device="cpu", **options)
    except (OSError, ValueError) as error:  # no such model, no network, an unreadable folder
        raise Unavailable(
            f"the {use} model {name!r} cannot be loaded.", fix="Check its name and the network."
        ) from error
