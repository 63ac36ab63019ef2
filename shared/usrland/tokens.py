"""How many tokens a text costs, counted offline in the o200k vocabulary.

Exact for that vocabulary and a fair yardstick for every other kernel. The package `bpe_openai` parses three
vocabularies while it is imported (0.8 s of processor time) and refuses long texts, so its compiled tokenizer
is loaded alone: 0.08 s at the first count, then about 4 million tokens a second, with no limit.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Protocol, cast

__all__ = ["count", "head"]

_PACKAGE = "bpe_openai"
_EXTENSION = f"{_PACKAGE}._bindings"


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


_loading = threading.Lock()
_loaded: list[_Tokenizer] = []


def count(text: str) -> int:
    """Tokens of `text`. The first call in a process loads the vocabulary; may be called from any thread."""
    tokenizer = _loaded[0] if _loaded else _load()
    try:
        return tokenizer.count(text)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry and UTF-8 cannot
        return tokenizer.count(text.encode("utf-8", "replace").decode("utf-8"))


def _load() -> _Tokenizer:
    with _loading:
        if not _loaded:
            _loaded.append(_compiled_tokenizer())
        return _loaded[0]


def _compiled_tokenizer() -> _Tokenizer:
    extension = sys.modules.get(_EXTENSION)
    if extension is None:
        package = PathFinder.find_spec(_PACKAGE)
        spec = package and PathFinder.find_spec(_EXTENSION, package.submodule_search_locations)
        if not spec or not spec.loader:
            raise ModuleNotFoundError(f"counting tokens needs the package {_PACKAGE!r}", name=_PACKAGE)
        extension = sys.modules[_EXTENSION] = module_from_spec(spec)
        spec.loader.exec_module(extension)
    return cast(_Tokenizer, extension.tokenizer_for_encoding("o200k_base"))


def head(text: str, most: int) -> str:
    """The longest beginning of `text` of at most `most` tokens (to within a few), whole characters only."""
    length = min(len(text), most * 8)
    while length and (cost := count(text[:length])) > most:
        length = min(length - 1, length * most // cost)
    return text[:length]
