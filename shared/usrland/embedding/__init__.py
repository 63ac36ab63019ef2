"""Text → vectors, by generation.

Importing this package imports nothing heavy; `embedder` is cheap too, and only `Embedder.load` reads a model.
Vectors of two generations are never compared: whoever stores vectors keys them by `Embedder.generation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from usrland.errors import InvalidInput

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Vectors = NDArray[float32]
else:
    Vectors = Any

__all__ = ["DEFAULT", "Embedder", "Vectors", "embedder", "of_generation"]

DEFAULT = "minilm"


class Embedder(Protocol):
    """One model in one revision with one way of pooling. Its methods block, in any thread."""

    @property
    def generation(self) -> str:
        """A stable name of everything that shapes a vector: model, revision, dimensions, pooling."""
        ...

    @property
    def dimensions(self) -> int: ...

    @property
    def ready(self) -> bool:
        """`load` has finished: `documents` and `query` answer at once."""
        ...

    def load(self) -> None:
        """Read the model. Twice costs nothing; raises `Unavailable` where it cannot be used."""
        ...

    def documents(self, texts: Sequence[str]) -> Vectors:
        """One row of length 1 for each text, in the order given."""
        ...

    def query(self, text: str) -> Vectors:
        """One vector of length 1. Some models embed questions differently from what answers them."""
        ...


def embedder(name: str = DEFAULT, *, home: Path | None = None) -> Embedder | None:
    """The embedder of that name: `minilm`, `sentence-transformers:<model>`, or `none` for words alone.

    With a `home`, the model that `usrland model` holds for all processes of that home is asked where there is one.
    """
    own = _own(name)
    if own is None or home is None:
        return own
    from usrland.embedding.sharing import Shared

    return Shared(own, name, home)


def _own(name: str) -> Embedder | None:
    kind, _, model = name.partition(":")
    if kind == "minilm" and not model:
        from usrland.embedding.minilm import MiniLM

        return MiniLM()
    if kind == "sentence-transformers" and model:
        from usrland.embedding.transformers import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder(model)
    if name == "none":
        return None
    raise InvalidInput(
        f"there is no embedding {name!r}.",
        fix="Use 'minilm', 'none', or 'sentence-transformers:<model>' with the extra of that name installed.",
    )


def of_generation(generation: str, threads: int | None = None) -> Embedder | None:
    """The embedder whose vectors are of that generation; None where none of today makes them."""
    from usrland.embedding.minilm import MiniLM
    from usrland.embedding.transformers import PREFIX, SentenceTransformersEmbedder

    if generation == MiniLM.generation:
        return MiniLM(threads)
    if generation.startswith(PREFIX):
        return SentenceTransformersEmbedder(generation.removeprefix(PREFIX).rpartition(".")[0])
    return None
