"""What operations promise, written down, and what a change of it means.

A change is breaking where a call that worked may fail or mean something else, or where what an operator decided
(who may call it, who is asked first, whether it reaches outside) no longer holds. Everything else is compatible.
Texts are compatible: a model may choose differently by them, and no call fails over them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usrland.connector import Operation
from usrland.errors import InvalidInput, NotFound
from usrland.parameters import Parameters

__all__ = ["Change", "Contracts", "compare", "contract_of", "read_contracts", "write_contracts"]

Contracts = Mapping[str, Mapping[str, Any]]
"""By `server/operation`."""

FORMAT = 1
EFFECTS = ("read", "write", "destroy")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_NARROWS = (*_LOWER, *_UPPER, "pattern", "format", "multipleOf", "uniqueItems", "enum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference, and why it matters."""

    operation: str
    breaking: bool
    what: str
    why: str


def contract_of(operation: Operation, *, listed: bool) -> dict[str, Any]:
    """All that a caller or an operator relies on."""
    return {
        "title": operation.title,
        "description": operation.description,
        "effect": operation.effect,
        "scopes": sorted(operation.scopes),
        "consent": bool(operation.consent),
        "idempotent": bool(operation.idempotent),
        "open_world": operation.open_world,
        "undo": operation.undo,
        "timeout_seconds": operation.timeout_seconds,
        "listed": listed,
        "arguments": Parameters(operation).schema,
    }


def read_contracts(file: Path) -> Contracts:
    """Raises `NotFound` where there is no such file, `InvalidInput` where it is none of ours."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["usrland_lock"] != FORMAT:
            raise ValueError(content["usrland_lock"])
        operations: Contracts = {name: dict(contract) for name, contract in content["operations"].items()}
    except FileNotFoundError as error:
        raise NotFound(f"there is no {file}.", fix="Write it: usrland lock.") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"{file} cannot be read as a lock file.", fix="Write it anew: usrland lock.") from error
    return operations


def write_contracts(file: Path, contracts: Contracts) -> None:
    """Sorted and indented, so that a change of it is read as a diff."""
    content = {"usrland_lock": FORMAT, "operations": contracts}
    file.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def compare(before: Contracts, after: Contracts) -> list[Change]:
    """Every difference, the breaking ones first."""
    found = [change for name in sorted(before.keys() | after.keys()) for change in _of(name, before, after)]
    return sorted(found, key=lambda change: not change.breaking)


def _of(name: str, before: Contracts, after: Contracts) -> Iterator[Change]:
    if name not in after:
        yield _breaking(name, "it is gone", "calls of it fail")
    elif name not in before:
        yield _compatible(name, "it is new", "nobody relies on it yet")
    else:
        was, now = before[name], after[name]
        yield from _risk(name, was, now)
        yield from _limits(name, was, now)
        yield from _texts(name, was, now)
        yield from _schema(name, "", was.get("arguments", {}), now.get("arguments", {}))


def _breaking(name: str, what: str, why: str) -> Change:
    return Change(operation=name, breaking=True, what=what, why=why)


def _compatible(name: str, what: str, why: str) -> Change:
    return Change(operation=name, breaking=False, what=what, why=why)


# -- risk


def _risk(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    if was["effect"] != now["effect"]:
        step = f"effect {was['effect']} → {now['effect']}"
        if EFFECTS.index(now["effect"]) > EFFECTS.index(was["effect"]):
            yield _breaking(name, step, "hosts and people that let it pass did not agree to this")
        else:
            yield _breaking(name, step, "it is guarded less than was decided")
    for scope in sorted(set(now["scopes"]) - set(was["scopes"])):
        yield _breaking(name, f"scope {scope} is needed", "callers without it are refused")
    for scope in sorted(set(was["scopes"]) - set(now["scopes"])):
        yield _breaking(name, f"scope {scope} is no longer needed", "callers that were kept out may call it")
    if was["consent"] != now["consent"]:
        if now["consent"]:
            yield _breaking(name, "a person is asked first", "calls that nobody attends are refused")
        else:
            yield _breaking(
                name, "nobody is asked first any more", "it takes effect without the consent decided on"
            )
    if was["open_world"] != now["open_world"]:
        if now["open_world"]:
            yield _breaking(name, "it reaches other systems", "it was let pass as one that does not")
        else:
            yield _compatible(name, "it no longer reaches other systems", "it does less than was let pass")
    if was["idempotent"] != now["idempotent"]:
        if now["idempotent"]:
            yield _compatible(name, "it may be repeated", "who did not repeat it need not begin")
        else:
            yield _breaking(name, "it may no longer be repeated", "a retry has a second effect")
    if was["undo"] != now["undo"]:
        if was["undo"]:
            yield _breaking(
                name, f"undo {was['undo']} → {now['undo'] or 'none'}", "what was undone that way is not"
            )
        else:
            yield _compatible(name, f"it can be undone with {now['undo']}", "nobody relied on its absence")


def _limits(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    if now["timeout_seconds"] < was["timeout_seconds"]:
        step = f"deadline {was['timeout_seconds']:g} → {now['timeout_seconds']:g} seconds"
        yield _breaking(name, step, "calls that took longer are stopped")
    elif now["timeout_seconds"] > was["timeout_seconds"]:
        step = f"deadline {was['timeout_seconds']:g} → {now['timeout_seconds']:g} seconds"
        yield _compatible(name, step, "what ended in time still does")
    if was["listed"] and not now["listed"]:
        yield _breaking(name, "it is no longer a tool of its own", "hosts that call it by name do not find it")
    elif now["listed"] and not was["listed"]:
        yield _compatible(name, "it is a tool of its own", "it can be called as before")


def _texts(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for text in ("title", "description"):
        if was[text] != now[text]:
            yield _compatible(name, f"its {text} says something else", "models may choose it more or less often")


# -- arguments: what was accepted must still be


def _schema(name: str, at: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    where = f"argument {at}" if at else "arguments"
    yield from _type(name, where, was, now)
    for keyword in _NARROWS:
        if was.get(keyword) != now.get(keyword):
            yield _narrowing(name, where, keyword, was.get(keyword), now.get(keyword))
    if at and was.get("default") != now.get("default"):
        step = f"{where}: default {_shown(was.get('default'))} → {_shown(now.get('default'))}"
        yield _breaking(name, step, "calls that leave it out mean something else")
    if was.get("description") != now.get("description"):
        yield _compatible(name, f"{where}: its description says something else", "no call fails over it")
    yield from _properties(name, at, was, now)
    if isinstance(was.get("items"), Mapping) and isinstance(now.get("items"), Mapping):
        yield from _schema(name, f"{at}[]", was["items"], now["items"])


def _type(name: str, where: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    old, new = was.get("type"), now.get("type")
    if old == new:
        return
    step = f"{where}: type {old or 'any'} → {new or 'any'}"
    if new is None or (old, new) == ("integer", "number"):
        yield _compatible(name, step, "every value that was accepted still is")
    else:
        yield _breaking(name, step, "values that were accepted are refused")


def _narrowing(name: str, where: str, keyword: str, old: Any, new: Any) -> Change:
    step = f"{where}: {keyword} {_shown(old)} → {_shown(new)}"
    if _wider(keyword, old, new):
        return _compatible(name, step, "every value that was accepted still is")
    return _breaking(name, step, "values that were accepted may be refused")


def _wider(keyword: str, old: Any, new: Any) -> bool:
    if new is None or old is None:
        return new is None
    if keyword == "enum":
        return set(map(_shown, old)) <= set(map(_shown, new))
    if keyword == "uniqueItems":
        return not new
    if keyword in _LOWER:
        return bool(new <= old)
    return keyword in _UPPER and bool(new >= old)


def _properties(name: str, at: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    old, new = was.get("properties", {}), now.get("properties", {})
    needed_before, needed = _required(was), _required(now)
    prefix = f"{at}." if at else ""
    for key in sorted(old.keys() | new.keys()):
        where = f"argument {prefix}{key}"
        if key not in new:
            yield _breaking(name, f"{where} is gone", "calls that give it are refused")
        elif key not in old:
            if key in needed:
                yield _breaking(name, f"{where} is new and required", "calls without it are refused")
            else:
                yield _compatible(name, f"{where} is new and optional", "calls without it are as before")
        else:
            if key in needed and key not in needed_before:
                yield _breaking(name, f"{where} is required", "calls without it are refused")
            elif key in needed_before and key not in needed:
                yield _compatible(name, f"{where} is no longer required", "calls with it are as before")
            yield from _schema(name, f"{prefix}{key}", old[key], new[key])
    if was.get("additionalProperties") is True and now.get("additionalProperties") is not True:
        yield _breaking(
            name, f"{at or 'it'} takes no other arguments any more", "calls that give some are refused"
        )


def _required(schema: Mapping[str, Any]) -> Sequence[str]:
    return schema.get("required") or []


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
