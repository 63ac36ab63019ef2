"""The definitions in a source file, by grammars. Runs in the parser's process, which `symbols` asks.

The one module that uses tree-sitter. It parses what is broken as far as it goes; where no grammar is installed, or
one whose nodes have other names than our query, a file has no definitions and is cut as text.
"""

from __future__ import annotations

import importlib
import json
import logging
import select
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import IO

from tree_sitter import Language, Node, Parser, Query, QueryCursor, QueryError

from filesystem_retrieval.languages import LANGUAGES
from filesystem_retrieval.symbols import Symbol

__all__ = ["answer", "definitions"]

logger = logging.getLogger(__name__)

MAX_NAME_CHARS = 100
MAX_SYMBOLS = 20_000
_BEFORE = ("comment", "attribute", "annotation", "decorator")
"""What the types of nodes hold that stand before a definition and belong to it; besides a type signature."""
_WORDS = {
    "abstract": "class",
    "bind": "let",
    "constructor": "method",
    "generator": "function",
    "internal": "namespace",
    "pair": "function",
    "preproc": "macro",
    "value": "let",
    "variable": "const",
}


def answer(requests: IO[bytes], answers: IO[bytes], idle_seconds: float, begin: Callable[[], None]) -> None:
    """One file after the other, until there are no more, or none for so long; calls `begin` before each.

    A file is a line that names its language and size, and so many bytes; back comes a line with its definitions.
    """
    while select.select([requests], [], [], idle_seconds)[0] and (head := requests.readline()):
        begin()
        language, size = json.loads(head)
        found = definitions(requests.read(size).decode(), language)
        answers.write(json.dumps([each.told for each in found]).encode() + b"\n")
        answers.flush()


def definitions(text: str, language: str) -> Sequence[Symbol]:
    """All definitions, in the order of the file; none where the language is not known here."""
    grammar = _grammar(language)
    if grammar is None:
        return []
    parser, query = grammar
    tree = parser.parse(text.encode())
    word = LANGUAGES[language].word
    found: dict[int, tuple[Node, Node, str]] = {}
    for _, captured in QueryCursor(query).matches(tree.root_node):
        (it,) = captured["it"]
        name = captured["name"][0] if "name" in captured else _name(it)
        if name is not None and it.id not in found and len(found) < MAX_SYMBOLS:
            found[it.id] = (it, name, _text(captured["word"][0]) if "word" in captured else _kind(it.type, word))
    return _nested(sorted(found.values(), key=lambda each: (each[0].start_byte, -each[0].end_byte)))


def _nested(definitions: Sequence[tuple[Node, Node, str]]) -> Sequence[Symbol]:
    symbols: list[Symbol] = []
    inside: list[tuple[int, str]] = []
    for node, name, kind in definitions:
        while inside and inside[-1][0] <= node.start_byte:
            inside.pop()
        symbol = Symbol(
            kind=kind,
            name=_text(name),
            first_line=_first_row(node) + 1,
            last_line=_last_row(node) + 1,
            outer=tuple(title for _, title in inside),
        )
        symbols.append(symbol)
        inside.append((node.end_byte, symbol.title))
    return symbols


@cache
def _grammar(name: str) -> tuple[Parser, Query] | None:
    language = LANGUAGES.get(name)
    if language is None:
        return None
    try:
        package = importlib.import_module(language.package)
    except ModuleNotFoundError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # some packages still hand over a plain pointer
        grammar = Language(getattr(package, language.function)())
    try:
        return Parser(grammar), Query(grammar, language.query)
    except QueryError as error:
        logger.warning("%s has changed, so files in %s are cut as text: %s", language.package, name, error)
        return None


def _name(node: Node) -> Node | None:
    """The name of a definition: its own field, or at the end of a chain of declarators, as C has them."""
    if (name := node.child_by_field_name("name")) is not None:
        return name
    declarator = node.child_by_field_name("declarator")
    while declarator is not None:
        inner = declarator.child_by_field_name("declarator")
        if inner is None:
            return declarator
        declarator = inner
    return None


def _first_row(node: Node) -> int:
    """Where it begins with what belongs to it: a wrapper on the same line, and comments right above."""
    while (parent := node.parent) is not None and parent.parent is not None and _wraps(parent, node):
        node = parent
    row = node.start_point.row
    before = node.prev_named_sibling
    while before is not None and _last_row(before) in (row - 1, row) and _belongs(before):
        earlier = before.prev_named_sibling
        if earlier is not None and _last_row(earlier) == before.start_point.row:
            break  # a comment behind other code belongs to that
        row, before = before.start_point.row, earlier
    return row


def _last_row(node: Node) -> int:
    """Some comments end with their line, at the first column of the next."""
    return node.end_point.row if node.end_point.column else node.end_point.row - 1


def _wraps(parent: Node, node: Node) -> bool:
    return parent.type in (
        "decorated_definition",
        "export_statement",
        "template_declaration",
        "lexical_declaration",
    )


def _belongs(node: Node) -> bool:
    return node.type == "signature" or any(part in node.type for part in _BEFORE)


def _kind(node_type: str, word: str) -> str:
    first = "method" if "method" in node_type else node_type.partition("_")[0]
    return word if first == "function" else _WORDS.get(first, first)


def _text(node: Node) -> str:
    name = (node.text or b"").decode("utf-8", "replace")
    return " ".join(name.partition("(")[0].split())[:MAX_NAME_CHARS]
