"""Arguments: what a function takes, as a schema that every host accepts, and as values that are checked.

Hosts refuse more of JSON Schema than the protocol does (`$ref`, `anyOf` with null, lists of types, a missing
`required`), so the schema is written in the subset that all of them take. Checking is strict: an argument
nobody declared is refused and named, and `"5"` is not 5. The value itself is never repeated in the message.
"""

from __future__ import annotations

import difflib
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from usrland.connector import Call, Operation
from usrland.errors import InvalidInput
from usrland.schemas.wire import Page
from usrland.settings import explain

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

__all__ = ["Parameters", "call_parameter", "closest", "portable"]

_IDEMPOTENCY_KEY = {"type": "string"}
_DRY_RUN = {"type": "boolean", "description": "Change nothing."}
_CONFIRM_TOKEN = {"type": "string", "description": "From a refused call, once a person agreed."}
_CURSOR = {"type": "string"}
_MAX_TOKENS = {"type": "integer"}
_LARGEST = 2**63
"""No database or file system counts further, and each of them would fail in a way of its own."""


class Parameters:
    """The arguments of one operation, its own and those that the call path adds."""

    def __init__(self, operation: Operation, *, may_ask: bool | None = None) -> None:
        """`may_ask`: a call may need a person's consent. Default: as the operation says."""
        self.operation = operation
        self.wants_call = call_parameter(operation.call)
        self._model = None if operation.parameters is not None else _model_of(operation)
        self.added = _added(operation, bool(operation.consent if may_ask is None else may_ask))

    @cached_property
    def own(self) -> dict[str, Any]:
        """The schema of the operation's own arguments."""
        if self._model is None:
            assert self.operation.parameters is not None
            return dict(self.operation.parameters)
        return portable(self._model.model_json_schema())

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The schema as it goes over the wire."""
        own = self.own
        return {
            "type": "object",
            "properties": {**own.get("properties", {}), **self.added},
            "required": list(own.get("required", [])),
            "additionalProperties": False,
        }

    def split(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The operation's own arguments, and those of the call path, checked."""
        own = {name: value for name, value in arguments.items() if name not in self.added}
        added = {name: value for name, value in arguments.items() if name in self.added}
        for name, value in added.items():
            expected = {"string": str, "boolean": bool, "integer": int}[self.added[name]["type"]]
            if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
                raise InvalidInput(f"{name}: must be of type {self.added[name]['type']}.")
        if added.get("idempotency_key") == "":
            raise InvalidInput(
                "idempotency_key: must not be empty.", fix="Leave it out, or name a new one for a new call."
            )
        budget = added.get("max_tokens", 200)
        if not 200 <= budget <= 25_000:
            raise InvalidInput("max_tokens: must be from 200 to 25000.")
        return own, added

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The values to call the function with; raises `InvalidInput` naming what is unknown or mistyped."""
        known = self._model.model_fields if self._model else self.own.get("properties", {})
        unknown = [name for name in arguments if name not in known]
        if unknown and not (self._model is None and self.own.get("additionalProperties")):
            raise InvalidInput(
                f"unknown argument {', '.join(map(repr, sorted(unknown)))} for {self.operation.name}.",
                fix=_did_you_mean(unknown[0], [*known, *self.added]),
            )
        for name, value in arguments.items():
            if wrong := _unusable(value):
                raise InvalidInput(f"{self.operation.name}: {name}: {wrong}.")
        if self._model is None:
            return self._check_schema(arguments)
        try:
            # from JSON, so that dates and enumerations are read from their text while "5" stays text
            model = self._model.model_validate_json(json.dumps(arguments), strict=True)
        except ValidationError as error:
            raise InvalidInput(f"{self.operation.name}: {explain(error)}.") from None
        return {name: getattr(model, name) for name in model.model_fields_set}

    @cached_property
    def _validator(self) -> Draft202012Validator:
        from jsonschema import Draft202012Validator

        return Draft202012Validator(self.own)

    def _check_schema(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        problems = sorted(self._validator.iter_errors(dict(arguments)), key=lambda e: list(e.path))
        if problems:
            text = "; ".join(
                f"{'.'.join(map(str, problem.path)) or 'arguments'}: {_plain(problem)}" for problem in problems[:5]
            )
            raise InvalidInput(f"{self.operation.name}: {text}.")
        return dict(arguments)


def _plain(problem: Any) -> str:
    """What a schema violation means, without the offending value (it may be a secret)."""
    match problem.validator:
        case "required":
            missing = [name for name in problem.validator_value if name not in problem.instance]
            return f"missing {', '.join(map(repr, missing))}"
        case "type":
            return f"must be of type {problem.validator_value}"
        case "enum":
            return f"must be one of {problem.validator_value}"
        case _:
            return f"does not fit {problem.validator} {problem.validator_value!r}"


def _unusable(value: Any) -> str:
    """Why no system could take this value, of whatever type it is meant to be; empty where it can be used."""
    match value:
        case int() if not -_LARGEST <= value < _LARGEST:
            return "a whole number that does not fit 64 bits"
        case str() if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return "half of a surrogate pair, which is no text"
        case dict():
            return next(filter(None, map(_unusable, [*value, *value.values()])), "")
        case list():
            return next(filter(None, map(_unusable, value)), "")
        case _:
            return ""


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


def _did_you_mean(name: str, known: list[str]) -> str:
    near = closest(name, known)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or 'none'}."


def call_parameter(function: Callable[..., Any]) -> str | None:
    """The parameter in which a function wants the call it runs in; None where it wants none."""
    for name, hint in _hints(function).items():
        if hint is Call:
            return name
    return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function, include_extras=True)


def _model_of(operation: Operation) -> type[BaseModel]:
    hints = _hints(operation.call)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(operation.call).parameters.items():
        if name not in hints:
            raise TypeError(f"operation {operation.name!r}: parameter {name!r} has no annotation")
        if hints[name] is Call:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    model: type[BaseModel] = create_model(operation.name, __config__=config, **fields)
    for name, definition in model.model_json_schema().get("$defs", {}).items():
        if "properties" in definition and definition.get("additionalProperties") is not False:
            raise TypeError(f"operation {operation.name!r}: {name} must forbid unknown fields (extra='forbid')")
    return model


def _added(operation: Operation, may_ask: bool) -> dict[str, dict[str, Any]]:
    passes_on = operation.delegate is not None
    added: dict[str, dict[str, Any]] = {}
    if operation.effect != "read":
        added["idempotency_key"] = _IDEMPOTENCY_KEY
    if operation.preview is not None or passes_on:
        added["dry_run"] = _DRY_RUN
    if may_ask or passes_on:
        added["confirm_token"] = _CONFIRM_TOKEN
    if operation.effect == "read" or passes_on or returns_page(operation):
        added["cursor"] = _CURSOR
        added["max_tokens"] = _MAX_TOKENS
    return added


def returns_page(operation: Operation) -> bool:
    """Whether the operation answers with a `Page`."""
    returned = _hints(operation.call).get("return")
    return isinstance(returned, type) and issubclass(returned, Page)


def portable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in the subset every host accepts: references inlined, null dropped, no titles."""
    return typing.cast("dict[str, Any]", _portable(schema, schema.get("$defs", {}), ()))


def _portable(node: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_portable(item, definitions, inside) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in inside:
            raise TypeError(f"schema of {name!r} contains itself; hosts cannot take that")
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _portable({**definitions[name], **rest}, definitions, (*inside, name))
    if "anyOf" in node:
        kept = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {
            key: value
            for key, value in node.items()
            if key != "anyOf" and not (key == "default" and value is None)
        }
        if len(kept) != 1:
            raise TypeError("a parameter has several types; hosts cannot take that, choose one")
        return _portable({**kept[0], **rest}, definitions, inside)
    result = {
        key: (
            {name: _portable(value, definitions, inside) for name, value in item.items()}
            if key == "properties"
            else _portable(item, definitions, inside)
        )
        for key, item in node.items()
        if key not in ("title", "$defs") and not (key == "default" and item in (None, [], {}))
    }
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if result.get("type") == "object" and "properties" in result:
        result["required"] = list(result.get("required", []))
        result["additionalProperties"] = False
    return result
