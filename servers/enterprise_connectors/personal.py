"""Personal data that a system's answers are not to show, off unless its table says so:

    [crm.redact]
    fields = ["email", "customer.phone"]     # a field or column of that name; with dots, one inside another
    kinds = ["email", "phone", "iban", "card", "ssn", "ip"]    # wherever it stands, in any text

A field rule blots out the whole value, whatever it is. A kind is found by its form, and where the form has a check
digit (cards, IBANs) only what passes it. Forms are guesses: a name, an address or a number in words is not found,
so fields are the rule to rely on. A system is sent what the caller gave; what is written down of a call (the audit
log, jobs that may be run again) has a mark in its place, the same for the same value under the key of this home:
whose data it was can be told apart and not be read.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from usrland.audit.entry import canonical
from usrland.errors import UsrlandError
from usrland.schemas.wire import Answer, Page

__all__ = ["Kind", "Personal"]

Kind = Literal["email", "phone", "iban", "card", "ssn", "ip"]
Function = Callable[..., Awaitable[BaseModel]]

_FORMS: Mapping[Kind, re.Pattern[str]] = {
    "email": re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"),
    "card": re.compile(r"\b\d(?:[ -]?\d){12,18}\b"),
    "ssn": re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    "ip": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])"),
    "phone": re.compile(r"(?<![\w.])(?:\+|00)\d(?:[ ()./-]{0,2}\d){7,13}\b|\(\d{2,5}\)[ -]?\d(?:[ -]?\d){5,10}\b"
                        r"|\b\d{3}[ -]\d{3}[ -]\d{4}\b|\b0\d{2,4}[ /-]\d(?:[ -]?\d){4,9}\b"),
}  # fmt: skip
"""In the order in which they are looked for: what is a card is not looked at as a phone number again."""


class _Any(Answer):
    model_config = ConfigDict(extra="allow")


class _AnyPage(Page[Any]):
    model_config = ConfigDict(extra="allow")


class Personal(BaseModel):
    """The table `redact` of a system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()

    @property
    def asked_for(self) -> bool:
        return bool(self.fields or self.kinds)

    def around(self, function: Function) -> Function:
        """The same function, its answers and its failures without what is personal."""

        @functools.wraps(function)
        async def call(**arguments: Any) -> BaseModel:
            try:
                answer = await function(**arguments)
            except UsrlandError as error:
                error.fact, error.fix = self.text(error.fact), self.text(error.fix)
                raise
            return self.without(answer)

        return call

    def without(self, answer: BaseModel) -> BaseModel:
        """An answer of the same kind."""
        shown = _Blotter(self).value(answer.model_dump(mode="json"), ())
        try:
            return type(answer).model_validate(shown)
        except ValidationError:  # a number that was blotted out is a text now
            return (_AnyPage if isinstance(answer, Page) else _Any).model_validate(shown)

    def text(self, text: str) -> str:
        return _Blotter(self).text(text)

    def recorded(self, arguments: Mapping[str, Any], key: bytes) -> dict[str, Any]:
        """Arguments as they may be written down: what is personal as a mark of its own."""
        return dict(_Blotter(self, key).value(dict(arguments), ()))

    @functools.cached_property
    def names(self) -> list[list[str]]:
        """The rules for fields, each as a path."""
        return [field.lower().split(".") for field in self.fields]


@dataclass(frozen=True, slots=True)
class _Blotter:
    """Takes what is personal out of JSON values; with a key, it leaves marks that can be told apart."""

    rules: Personal
    key: bytes | None = None

    def text(self, text: str) -> str:
        for kind in (kind for kind in _FORMS if kind in self.rules.kinds):
            text = _FORMS[kind].sub(lambda match, kind=kind: self._found(kind, match[0]), text)  # type: ignore[misc]
        return text

    def _found(self, kind: Kind, found: str) -> str:
        check = _CHECKS.get(kind)
        return self._mark(kind, found) if check is None or check(found) else found

    def _mark(self, kind: str, value: Any) -> str:
        if self.key is None:
            return f"[{kind}]"
        return f"[{kind} {hmac.digest(self.key, canonical(value), 'sha256').hex()[:16]}]"

    def value(self, value: Any, path: tuple[str, ...]) -> Any:
        match value:
            case dict():
                return self._object(value, path)
            case list():
                return [self.value(item, path) for item in value]
            case str() if value[:1] in "{[" and (inner := _parsed(value)) is not None:
                return json.dumps(self.value(inner, path), ensure_ascii=False)
            case str():
                return self.text(value)
            case int() | float() if not isinstance(value, bool):
                return self._number(value)
            case _:
                return value

    def _number(self, value: float) -> Any:
        text = str(value)
        shown = self.text(text) if len(text) > 8 else text
        return value if shown == text else shown

    def _object(self, value: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        columns = [
            column.get("name") if isinstance(column, dict) else column for column in value.get("columns") or ()
        ]
        hidden = {number for number, name in enumerate(columns) if self._names((*path, str(name)))}
        shown = {}
        for key, item in value.items():
            if columns and key == "columns":  # they name what there is, and are nobody's data
                shown[key] = item
            elif self._names((*path, key)) and item is not None:
                shown[key] = self._mark("personal", item)
            elif columns and key in ("items", "rows", "sample") and isinstance(item, list):
                shown[key] = [self._row(row, hidden, path) for row in item]
            else:
                shown[key] = self.value(item, (*path, key))
        return shown

    def _row(self, row: Any, hidden: set[int], path: tuple[str, ...]) -> Any:
        if not isinstance(row, list):
            return self.value(row, path)
        return [
            self._mark("personal", cell) if number in hidden and cell is not None else self.value(cell, path)
            for number, cell in enumerate(row)
        ]

    def _names(self, path: Sequence[str]) -> bool:
        plain = [part.lower() for part in path]
        return any(plain[-len(rule) :] == rule for rule in self.rules.names)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_card(text: str) -> bool:
    digits = [int(digit) for digit in re.sub(r"\D", "", text)]
    doubled = (
        digit if number % 2 == 0 else sum(divmod(digit * 2, 10)) for number, digit in enumerate(digits[::-1])
    )
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    return int("".join(_as_numbers(plain[4:] + plain[:4]))) % 97 == 1


def _as_numbers(text: str) -> Iterator[str]:
    return (str(int(character, 36)) for character in text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_CHECKS: Mapping[Kind, Callable[[str], bool]] = {"card": _is_card, "iban": _is_iban, "ip": _is_address}
