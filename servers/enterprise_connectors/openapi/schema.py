"""Schemas from the wild in the subset that every host takes.

References are put in place and cut where they come round, `allOf` is merged, choices become the widest
schema that fits all of them. What the subset cannot say is told in words: null, patterns, and which fields go
together (`Either {type: card, number} or {type: iban, iban, bank?}`). What is lost is lost towards permissive:
the system itself still checks, and an argument it would take must not be refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from enterprise_connectors.openapi.document import BadReference, Document, prose

__all__ = ["Portable"]

MAX_DEPTH = 7
MAX_NODES = 350
"""Schemas within one operation's arguments; beyond, an object stays an object without its properties."""
MAX_DESCRIPTION = 160
MAX_ENUM = 80
SHOWN_OF_MANY = 8
MAX_PATTERN = 120
MAX_FORMS = 6
MAX_FORMS_TEXT = 400

_FORMS = "x-usrland-forms"
"""Which fields go together, in words, on the way from a choice to the description of what it became."""
_WORD = "x-usrland-word"
"""The word of one option in the field that tells options apart."""

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Property keys that every host takes."""
_SCALARS = ("string", "integer", "number", "boolean")
_BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties")
_EXCLUSIVE = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))
_TYPED_KEYS = {"object": "properties", "array": "items"}


class Portable:
    """Converts the schemas of one operation, within `MAX_NODES` for all of them.

    `hidden` marks the properties that are not for this direction: what only the system sets is not asked for, and
    what is only ever given to it is not expected in an answer.
    """

    def __init__(self, document: Document, hidden: Literal["readOnly", "writeOnly"] = "readOnly") -> None:
        self._document = document
        self._hidden = hidden
        self._nodes = MAX_NODES

    def convert(self, schema: Any) -> dict[str, Any]:
        """The portable schema. A reference that leads nowhere allows everything."""
        return self._convert(schema, ())

    def _convert(self, schema: Any, inside: tuple[int, ...]) -> dict[str, Any]:
        try:
            target = self._document.follow(schema)
        except BadReference:
            return {}  # a hole in the description; the system itself still checks
        if not isinstance(target, dict):  # true and false are schemas, too
            return {}
        self._nodes -= 1
        if id(target) in inside or len(inside) >= MAX_DEPTH or self._nodes < 0:
            return self._stub(target)
        inside = (*inside, id(target))
        flat = self._flat(target, inside)
        result = self._described(flat, schema)
        kinds = _types(flat)
        nullable = "null" in kinds or _is_nullable(flat)
        kinds = [kind for kind in kinds if kind != "null"]
        if len(kinds) != 1 or (nullable and kinds[0] in _SCALARS):
            return self._open(result, kinds, flat, nullable=nullable)
        result["type"] = kinds[0]
        if kinds[0] == "object":
            self._object(result, flat, inside)
        elif kinds[0] == "array":
            result["items"] = self._convert(flat.get("items", {}), inside)
            if flat.get("uniqueItems") is True:
                result["description"] = f"{result.get('description', '')} Each item once.".strip()
        self._limits(result, flat)
        return result

    def _stub(self, schema: Any, *, levels: int = 2) -> dict[str, Any]:
        """What is left of a schema that there is no room for: its type, and what it cannot be without."""
        try:
            target = self._document.follow(schema)
        except BadReference:
            return {}
        if not isinstance(target, dict):
            return {}
        target = self._flat(target, (id(target),))
        kinds = [kind for kind in _types(target) if kind != "null"]
        if len(kinds) != 1 or (_is_nullable(target) and kinds[0] in _SCALARS):
            return {}
        result: dict[str, Any] = {"type": kinds[0]}
        if kinds[0] == "array":
            result["items"] = self._stub(target.get("items"), levels=levels - 1) if levels else {}
        elif kinds[0] == "object":
            properties = _properties(target)
            names = [name for name in (_needed(target) if levels else ()) if name in properties]
            names = [name for name in names if _KEY.fullmatch(name) and not self._is_hidden(properties[name])]
            if names:
                result["properties"] = {name: self._stub(properties[name], levels=levels - 1) for name in names}
            result["required"] = names
        elif (values := _allowed(target)) and len(values) <= MAX_ENUM:
            result["enum"] = values
        return result

    def _open(
        self, result: dict[str, Any], kinds: Sequence[str], flat: Mapping[str, Any], *, nullable: bool
    ) -> dict[str, Any]:
        """Several types, or a scalar that may be null: no `type`, the types in words."""
        # the simplest first
        names = [*(k for k in kinds if k in _SCALARS), *(k for k in kinds if k not in _SCALARS)]
        if isinstance(flat.get("format"), str):
            names = [f"string ({flat['format']})" if name == "string" else name for name in names]
        values = [value for value in _allowed(flat) if value is not None]
        if 0 < len(values) <= MAX_ENUM:
            names = [str(value) or '""' for value in values] + [k for k in kinds if k not in _SCALARS]
        limits = [f"{key} {flat[key]}" for key in _BOUNDS if _is_number(flat.get(key))]
        if nullable:
            names.append("null")
        if names:
            said = ", ".join([" or ".join(names), *limits])
            result["description"] = f"{said}. {result.get('description', '')}".strip()
        if len(values) > MAX_ENUM:
            _many(result, values)
        elif "string" in kinds:
            _worded(result, flat.get("pattern"))
        return result

    def _object(self, result: dict[str, Any], flat: Mapping[str, Any], inside: tuple[int, ...]) -> None:
        if properties := _properties(flat):
            wanted = {str(name): value for name, value in properties.items() if not self._is_hidden(value)}
            converted = {
                name: self._convert(value, inside) for name, value in wanted.items() if _KEY.fullmatch(name)
            }
            if converted:
                result["properties"] = converted
            if odd := [repr(name) for name in wanted if not _KEY.fullmatch(name)]:
                # hosts refuse a whole tool for such a key; it is still taken
                result["description"] = (
                    f"{result.get('description', '')} Also takes {', '.join(odd[:20])}.".strip()
                )
        elif values := self._convert(flat.get("additionalProperties"), inside):
            result["additionalProperties"] = values
        result["required"] = self._required(result, flat, inside)

    def _required(self, result: dict[str, Any], flat: Mapping[str, Any], inside: tuple[int, ...]) -> list[str]:
        """What must be given; also what is named there and nowhere described."""
        for name in _needed(flat):
            if _KEY.fullmatch(name) and name not in _properties(flat):
                result.setdefault("properties", {})[name] = self._convert(flat.get("additionalProperties"), inside)
        return [name for name in _needed(flat) if name in result.get("properties", {})]

    def _is_hidden(self, schema: Any) -> bool:
        try:
            target = self._document.follow(schema)
        except BadReference:
            return False
        return isinstance(target, dict) and target.get(self._hidden) is True

    def _limits(self, result: dict[str, Any], flat: Mapping[str, Any]) -> None:
        for key in ("default", "format"):
            if flat.get(key) is not None:
                result[key] = flat[key]
        for key in _BOUNDS:
            if _is_number(flat.get(key)):
                result[key] = flat[key]
        for exclusive, plain in _EXCLUSIVE:
            if flat.get(exclusive) is True and plain in result:  # as 3.0 writes it
                result[exclusive] = result.pop(plain)
            elif _is_number(flat.get(exclusive)):
                result[exclusive] = flat[exclusive]
        values = _allowed(flat)
        if 0 < len(values) <= MAX_ENUM:
            result["enum"] = values
        elif values:
            _many(result, values)
        elif result["type"] == "string":
            _worded(result, flat.get("pattern"))

    def _described(self, flat: Mapping[str, Any], schema: Any) -> dict[str, Any]:
        own = schema.get("description") if isinstance(schema, dict) else None
        text = prose(own or flat.get("description"), MAX_DESCRIPTION)
        said = flat.get(_FORMS, "")
        forms = f"{'Either' if '} or {' in said else 'An object is'} {said}." if said else ""
        whole = " ".join(part for part in (text, forms) if part)
        return {"description": whole} if whole else {}

    def _flat(self, schema: Mapping[str, Any], inside: tuple[int, ...]) -> dict[str, Any]:
        """The schema without `allOf`, `oneOf` and `anyOf`."""
        flat = {key: value for key, value in schema.items() if key not in ("allOf", "oneOf", "anyOf")}
        for part in self._parts(schema.get("allOf"), inside):
            _merge(flat, part)
        for key in ("oneOf", "anyOf"):
            options = self._parts(schema.get(key), inside)
            if options:
                _merge(flat, _widest(self._told_apart(options, schema[key], schema.get("discriminator"))))
        return flat

    def _told_apart(
        self, options: list[dict[str, Any]], schemas: Sequence[Any], discriminator: Any
    ) -> list[dict[str, Any]]:
        """The options, each with the word that tells it from the others: enforced where the description maps it,
        and where it is only the schema's name, told."""
        key = discriminator.get("propertyName") if isinstance(discriminator, dict) else None
        if not isinstance(key, str) or len(options) != len(schemas):
            return options
        mapping = discriminator.get("mapping")
        words = {str(target): word for word, target in mapping.items()} if isinstance(mapping, dict) else {}
        result = []
        for option, schema in zip(options, schemas, strict=True):
            reference = str(schema.get("$ref", "")) if isinstance(schema, dict) else ""
            name = reference.rpartition("/")[2]
            word = words.get(reference) or words.get(name)
            known = self._parts([_properties(option).get(key, {})], ())
            if name and not any(map(_allowed, known)):
                own = {**(known[0] if known else {}), **({"const": word} if word else {_WORD: name})}
                option = {**option, "properties": {**_properties(option), key: {"type": "string", **own}}}
            result.append(option)
        return result

    def _parts(self, schemas: Any, inside: tuple[int, ...]) -> list[dict[str, Any]]:
        if not isinstance(schemas, list):
            return []
        parts = []
        for schema in schemas:
            try:
                target = self._document.follow(schema)
            except BadReference:
                continue
            if isinstance(target, dict) and id(target) not in inside and len(inside) < MAX_DEPTH:
                parts.append(self._flat(target, (*inside, id(target))))
        return parts


def _many(result: dict[str, Any], values: Sequence[Any]) -> None:
    """More values than a kernel should have to read: where they begin and end, or some of them."""
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        if high - low < len(values):  # without a gap
            result["minimum"], result["maximum"] = low, high
            return
    some = ", ".join(str(value) for value in values[:SHOWN_OF_MANY])
    result["description"] = f"One of {len(values)}: {some} …. {result.get('description', '')}".strip()


def _worded(result: dict[str, Any], pattern: Any) -> None:
    """In words and not as a rule: dialects of regular expressions differ, and the system's own decides."""
    if isinstance(pattern, str) and 0 < len(pattern) <= MAX_PATTERN and pattern.isprintable():
        result["description"] = f"{result.get('description', '')} Matches {pattern}".strip()


def _merge(flat: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Both must hold: the properties of both, what either requires."""
    for key, value in part.items():
        if key == "properties" and isinstance(value, dict):
            flat["properties"] = {**value, **_properties(flat)}
        elif key == "required" and isinstance(value, list):
            flat["required"] = list(dict.fromkeys([*_needed(flat), *value]))
        elif key == _FORMS and key in flat:
            flat[key] = f"{flat[key]}; and either {value}"
        else:
            flat.setdefault(key, value)


def _widest(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What fits every option: any of their types and properties, required only where all require it."""
    real = [option for option in options if _types(option) != ["null"]]
    nullable = len(real) < len(options) or any(map(_is_nullable, real))
    if not real:
        return {"type": "null"}
    if len(real) == 1:
        return {**real[0], **({"nullable": True} if nullable else {})}
    kinds = list(dict.fromkeys(kind for option in real for kind in _types(option)))
    widest: dict[str, Any] = {"nullable": True} if nullable else {}
    objects = [option for option in real if _types(option) in (["object"], []) and _is_form(option)]
    if len(objects) == len(real) or "object" in kinds:
        widest |= _forms(objects)
    if any(not _types(option) for option in real):
        return widest
    widest["type"] = kinds[0] if len(kinds) == 1 else kinds
    if kinds == ["object"]:
        properties: dict[str, list[Any]] = {}
        for option in real:
            for name, schema in _properties(option).items():
                known = properties.setdefault(name, [])
                known += [] if schema in known else [schema]
        widest["properties"] = {
            name: schemas[0] if len(schemas) == 1 else {"anyOf": schemas} for name, schemas in properties.items()
        }
        required = [set(_needed(option)) for option in real]
        widest["required"] = sorted(set.intersection(*required))
        titles = [str(option["title"]) for option in real if option.get("title")]
        if titles:
            widest["description"] = f"One of: {', '.join(titles)}."
    elif kinds == ["array"]:
        widest["items"] = {"anyOf": [option.get("items", {}) for option in real]}
    else:
        scalars = [option for option in real if any(kind in _SCALARS for kind in _types(option))]
        if scalars and all(map(_values, scalars)):
            widest["enum"] = list(dict.fromkeys(value for option in scalars for value in _values(option)))
    return widest


def _is_form(option: Mapping[str, Any]) -> bool:
    return bool(_properties(option) or _needed(option))


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _needed(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _forms(options: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Which fields go together, unless all options have the same or there is too much to tell."""
    for optional in (True, False):
        forms = list(dict.fromkeys(_form(option, optional=optional) for option in options))
        said = " or ".join(forms[:MAX_FORMS])
        if len(said) <= MAX_FORMS_TEXT:
            break
    else:
        return {}
    if len(forms) < 2 and len(options) > 1:
        return {}
    return {_FORMS: f"{said} (and {len(forms) - MAX_FORMS} more)" if len(forms) > MAX_FORMS else said}


def _form(option: Mapping[str, Any], *, optional: bool) -> str:
    """One object as `{type: card, number, cvc?}`: its fields, those that may be left out with a mark."""
    properties, required = _properties(option), _needed(option)
    fields = []
    for name in dict.fromkeys([*(name for name in properties if name in required), *required, *properties]):
        schema = properties.get(name)
        schema = schema if isinstance(schema, dict) else {}
        values = _allowed(schema) or ([schema[_WORD]] if _WORD in schema else [])
        if schema.get("readOnly") is not True and (name in required or len(values) == 1 or optional):
            value = f": {values[0]}" if len(values) == 1 else ""
            fields.append(f"{name}{'' if name in required else '?'}{value}")
    return f"{{{', '.join(fields)}}}"


def _allowed(schema: Mapping[str, Any]) -> list[Any]:
    """The values that are listed; none where any will do."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values if isinstance(values, list) else []


def _values(option: Mapping[str, Any]) -> list[Any]:
    return [value for value in _allowed(option) if isinstance(value, str | int | float)]


def _is_nullable(schema: Mapping[str, Any]) -> bool:
    """As 3.0 says it, and as people do who write 2.0."""
    return schema.get("nullable") is True or schema.get("x-nullable") is True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _types(schema: Mapping[str, Any]) -> list[str]:
    """The types a schema allows, as far as it says; told from its other keys where it forgets to."""
    declared = schema.get("type")
    if isinstance(declared, list):
        return [str(kind) for kind in declared]
    if isinstance(declared, str) and declared in (*_SCALARS, "object", "array", "null"):
        return [declared]
    for kind, key in _TYPED_KEYS.items():
        if key in schema:
            return [kind]
    values = _values(schema)
    for kind, python in (("string", str), ("integer", int)):
        if values and all(isinstance(value, python) and not isinstance(value, bool) for value in values):
            return [kind]
    return []
