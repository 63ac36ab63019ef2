"""What is wrong with operations as their author declared them: risk that does not fit what they say they do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from usrland.connector import Operation

__all__ = ["problems_of_operations"]

LONGEST_SECONDS = 300
"""Hosts give up after one to five minutes; longer work is a job that is asked after."""
MOST_TOKENS = 25_000
LOSES = frozenset({"delete", "remove", "drop", "purge", "erase", "wipe", "truncate", "destroy"})
LOOKS = frozenset({"find", "list", "search", "describe", "count", "lookup"})


def problems_of_operations(operations: Sequence[Operation]) -> Iterator[str]:
    """Every problem; nothing where risk, deadline and budget are plausible."""
    names = {each.name for each in operations}
    # a scope that lets a caller look must not let it change anything
    looking = {scope for each in operations if each.effect == "read" for scope in each.scopes}
    described: dict[str, str] = {}
    for each in operations:
        if each.delegate is None:
            yield from _problems_of_risk(each, frozenset(looking))
        if each.undo and each.undo not in names:
            yield f"{each.name}: it is undone by {each.undo!r}, which is no operation here"
        if not 0 < each.timeout_seconds <= LONGEST_SECONDS:
            yield f"{each.name}: a deadline of {each.timeout_seconds:g} seconds; hosts wait {LONGEST_SECONDS}"
        if not 0 < each.max_tokens <= MOST_TOKENS:
            yield f"{each.name}: an answer of {each.max_tokens} tokens; at most {MOST_TOKENS} are useful"
        if len(each.description.split()) < 2:
            yield f"{each.name}: its description is one word, which says no more than its name"
        if (other := described.setdefault(each.description, each.name)) != each.name:
            yield f"{each.name}: its description is that of {other}; a model cannot choose between them"


def _problems_of_risk(operation: Operation, looking: frozenset[str]) -> Iterator[str]:
    words = re.split(r"[_.]", operation.name)
    if operation.effect != "read" and operation.scopes <= looking:
        yield f"{operation.name}: whoever may read may also {operation.effect}; it needs a scope of its own"
    if (
        LOSES & set(words)
        and operation.effect != "destroy"
        and not (operation.effect == "write" and operation.undo)
    ):
        yield f"{operation.name}: its name says that something is lost, and its effect is {operation.effect!r}"
    if words[-1] in LOOKS and operation.effect != "read":
        yield f"{operation.name}: its name says that it looks, and its effect is {operation.effect!r}"
    if operation.effect == "destroy" and not operation.consent:
        yield f"{operation.name}: it destroys and asks nobody"
