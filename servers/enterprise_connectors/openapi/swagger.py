"""Swagger 2.0 read as OpenAPI 3, one operation at a time.

Only what our reader looks at is translated: parameters, bodies and forms. Schemas keep their place
(`#/definitions/…` stays a valid reference), and host, scheme and security are not read here at all, because
where a request goes and with what credentials is the operator's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["as_openapi"]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
_STYLES: Mapping[str, tuple[str, bool]] = {
    "csv": ("form", False),
    "ssv": ("spaceDelimited", False),
    "tsv": ("form", False),
    "pipes": ("pipeDelimited", False),
    "multi": ("form", True),
}
_OF_PARAMETER = ("name", "in", "description", "required")

Follow = Callable[[Any], Any]


def as_openapi(content: Mapping[str, Any], follow: Follow) -> dict[str, Any]:
    """The description with its operations as OpenAPI 3 writes them.

    What cannot be translated stays as it is, so that the reader reports it for that operation alone.
    """
    paths = content.get("paths")
    translated = {
        path: _item(item, content, follow) if isinstance(item, dict) else item
        for path, item in (paths.items() if isinstance(paths, dict) else ())
    }
    return {**content, "openapi": "3.0.0", "paths": translated}


def _item(item: Mapping[str, Any], content: Mapping[str, Any], follow: Follow) -> dict[str, Any]:
    shared = item.get("parameters") or []
    result = {key: value for key, value in item.items() if key != "parameters"}
    for method in _METHODS:
        if isinstance(item.get(method), dict):
            try:
                result[method] = _operation(item[method], shared, content, follow)
            except Exception as error:  # whatever is wrong with one operation is that one's problem
                result[method] = {"parameters": [{"$ref": f"#/{type(error).__name__}"}]}
    return result


def _operation(
    operation: Mapping[str, Any], shared: Sequence[Any], content: Mapping[str, Any], follow: Follow
) -> dict[str, Any]:
    named: dict[tuple[str, str], Mapping[str, Any]] = {}
    for node in [*shared, *(operation.get("parameters") or [])]:
        parameter = follow(node)
        named[(parameter["in"], parameter.get("name", ""))] = parameter
    result = {key: value for key, value in operation.items() if key not in ("parameters", "consumes", "produces")}
    result["parameters"] = [_parameter(p) for (place, _), p in named.items() if place not in ("body", "formData")]
    consumes = operation.get("consumes") or content.get("consumes") or []
    body = next((p for (place, _), p in named.items() if place == "body"), None)
    form = [p for (place, _), p in named.items() if place == "formData"]
    if body is not None:
        kinds = [kind for kind in consumes if kind not in (FORM, MULTIPART)] or [JSON]
        result["requestBody"] = {
            "required": body.get("required") is True,
            "description": body.get("description", ""),
            "content": {kind: {"schema": body.get("schema", {})} for kind in kinds},
        }
    elif form:
        result["requestBody"] = _form(form, consumes)
    return result


def _form(fields: Sequence[Mapping[str, Any]], consumes: Sequence[str]) -> dict[str, Any]:
    has_files = any(field.get("type") == "file" for field in fields)
    required = [str(field["name"]) for field in fields if field.get("required") is True]
    schema = {
        "type": "object",
        "properties": {str(field["name"]): _schema(field) for field in fields},
        "required": required,
    }
    kind = MULTIPART if has_files or (MULTIPART in consumes and FORM not in consumes) else FORM
    return {"required": bool(required), "content": {kind: {"schema": schema}}}


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: parameter[key] for key in _OF_PARAMETER if key in parameter}
    result["schema"] = _schema(parameter)
    if parameter.get("type") == "array":
        style, explode = _STYLES.get(str(parameter.get("collectionFormat", "csv")), ("form", False))
        if parameter["in"] in ("path", "header"):
            style, explode = "simple", False
        result |= {"style": style, "explode": explode}
    return result


def _schema(parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in parameter.items() if key not in ("name", "in", "required", "schema")}
    if schema.get("type") == "file":
        return {**schema, "type": "string", "format": "binary"}
    return schema
