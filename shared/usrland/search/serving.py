"""Which generation of vectors answers: the chosen model's once it has read everything, until then the one before.

A note beside the tables names the generation that was complete last. A generation that is no longer needed is
removed the next time there is nothing to embed, so that a search which had just begun still finds its table.
"""

from __future__ import annotations

import anyio.to_thread

from usrland.embedding import Embedder, of_generation
from usrland.search.place import Place

__all__ = ["Serving"]

NOTE = "serving"


class Serving:
    """The note, and the model that goes with what it names."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._model: Embedder | None = None

    async def generation(self) -> str | None:
        """What was complete last; None before anything was."""
        return await self._place.note(NOTE)

    async def before(self, chosen: Embedder) -> Embedder | None:
        """The model that answered before the chosen one, perhaps not loaded yet; None where there is none."""
        generation = await self.generation()
        if generation is None or generation == chosen.generation:
            return None
        if self._model is None or self._model.generation != generation:
            self._model = await anyio.to_thread.run_sync(of_generation, generation)
        return self._model

    async def switch(self, generation: str) -> None:
        await self._place.write_note(NOTE, generation)

    async def forget(self) -> None:
        await self._place.remove_note(NOTE)
