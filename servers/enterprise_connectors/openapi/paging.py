"""The arguments that get the next page, read from an answer.

APIs page in four ways: a `Link` header, a token in the body that goes into a parameter of the same meaning, an
offset, a page number. Only what the description offers as a parameter is used, and only where the answer shows
that there is more, so that a wrong guess never invents a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from enterprise_connectors.openapi.endpoints import Endpoint

__all__ = ["next_page"]

_LINK = re.compile(r"<([^>]*)>\s*;[^,]*\brel=\"?next\"?", re.IGNORECASE)
_WORDS = re.compile(r"[^a-z]+")
_TOKENS = frozenset(
    re.findall(
        r"\w+",
        "cursor nextcursor startcursor endcursor pagetoken nextpagetoken continue continuationtoken nexttoken"
        " token startingafter after pagecursor nextstart",
    )
)
_SIZES = frozenset(["limit", "perpage", "pagesize", "maxresults", "count", "size"])
_OFFSETS = frozenset(["offset", "startat", "skip", "startindex"])
_PAGES = frozenset(["page", "pagenumber"])


def next_page(
    endpoint: Endpoint, arguments: Mapping[str, Any], headers: Mapping[str, str], body: Any
) -> dict[str, Any] | None:
    """What to change in the arguments for the next page; None where there is none or it is not known."""
    if endpoint.effect != "read":
        return None
    query = {
        parameter.name: parameter.argument for parameter in endpoint.parameters if parameter.location == "query"
    }
    return (
        _from_link(headers.get("link", ""), query)
        or _from_token(body, query)
        or _from_numbers(body, query, arguments)
    )


def _from_link(link: str, query: Mapping[str, str]) -> dict[str, Any] | None:
    match = _LINK.search(link)
    if match is None:
        return None
    values = dict(parse_qsl(urlsplit(match[1]).query))
    changed = {query[name]: _number(value) for name, value in values.items() if name in query and _pages(name)}
    return changed or None


def _from_token(body: Any, query: Mapping[str, str]) -> dict[str, Any] | None:
    parameters = [name for name in query if _plain(name) in _TOKENS]
    if not parameters or not isinstance(body, dict):
        return None
    for key, value in _near(body):
        plain = _plain(key)
        if isinstance(value, str) and value and (plain.startswith("next") or plain in _TOKENS):
            if "://" in value or value.startswith("/"):
                values = dict(parse_qsl(urlsplit(value).query))
                found = {query[name]: values[name] for name in parameters if name in values}
                if found:
                    return found
                continue
            return {query[parameters[0]]: value}
    return None


def _from_numbers(body: Any, query: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = body if isinstance(body, list) else _longest(body)
    if not rows:
        return None
    size = next((arguments[query[n]] for n in query if _plain(n) in _SIZES and query[n] in arguments), None)
    totals = {_plain(key): value for key, value in _near(body)} if isinstance(body, dict) else {}
    total = next((totals[k] for k in ("total", "totalcount", "totalresults") if type(totals.get(k)) is int), None)
    for name, argument in query.items():
        if _plain(name) in _OFFSETS:
            begun = arguments.get(argument, 0)
            if (total is not None and begun + len(rows) < total) or (total is None and size == len(rows)):
                return {argument: begun + len(rows)}
        elif _plain(name) in _PAGES and type(arguments.get(argument, 1)) is int and size == len(rows):
            page = arguments.get(argument, 1)
            if total is None or page * size < total:
                return {argument: page + 1}
    return None


def _near(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The body's own fields, and those of objects in it: `meta.next_cursor` is as usual as `next_cursor`."""
    for key, value in body.items():
        yield key, value
    for value in body.values():
        if isinstance(value, dict):
            yield from value.items()


def _longest(body: Any) -> list[Any]:
    lists = [value for value in body.values() if isinstance(value, list)] if isinstance(body, dict) else []
    return max(lists, key=len, default=[])


def _pages(name: str) -> bool:
    return _plain(name) in _TOKENS | _SIZES | _OFFSETS | _PAGES | {"since", "before"}


def _plain(name: str) -> str:
    return _WORDS.sub("", name.lower())


def _number(value: str) -> Any:
    return int(value) if value.isdigit() else value
