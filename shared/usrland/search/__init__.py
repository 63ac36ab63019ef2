"""One hybrid search, used for passages, memories and operations alike.

Importing this package imports nothing heavy; the index is opened at its first use, off the event loop.
"""

from usrland.search.analysis import terms
from usrland.search.fusion import Hit
from usrland.search.index import KEEP_VERSIONS, HybridIndex, IndexRow, Mode, SearchAnswer, Sizes
from usrland.search.place import Folder, IndexTable, Place, place_of

__all__ = [
    "KEEP_VERSIONS",
    "Folder",
    "Hit",
    "HybridIndex",
    "IndexRow",
    "IndexTable",
    "Mode",
    "Place",
    "SearchAnswer",
    "Sizes",
    "place_of",
    "terms",
]
