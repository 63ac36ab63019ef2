"""Which generation of vectors answers: the chosen model's once it has read everything, until then the one before.

A file beside the tables names the generation that was complete last. A generation that is no longer needed is
removed the next time there is nothing to embed, so that a search which had just begun still finds its table.
"""

from __future__ import annotations

from pathlib import Path

from usrland.embedding import Embedder, of_generation

__all__ = ["Serving"]


class Serving:
    """The file, and the model that goes with what it names."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "serving"
        self._model: Embedder | None = None

    def generation(self) -> str | None:
        """What was complete last; None before anything was."""
        try:
            return self._file.read_text(encoding="utf-8") or None
        except FileNotFoundError:
            return None

    def before(self, chosen: Embedder) -> Embedder | None:
        """The model that answered before the chosen one, perhaps not loaded yet; None where there is none."""
        generation = self.generation()
        if generation is None or generation == chosen.generation:
            return None
        if self._model is None or self._model.generation != generation:
            self._model = of_generation(generation)
        return self._model

    def switch(self, generation: str) -> None:
        draft = self._file.with_suffix(".draft")
        draft.write_text(generation, encoding="utf-8")
        draft.replace(self._file)

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)
