from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enterprise_connectors.openapi.document import Document
from enterprise_connectors.openapi.endpoints import Endpoint, read_endpoints
from enterprise_connectors.openapi.schema import Portable
from usrland.errors import InvalidInput


def read(paths: dict[str, Any], **components: Any) -> tuple[dict[str, Endpoint], list[str]]:
    endpoints, problems = read_endpoints(Document({"openapi": "3.1.0", "paths": paths, "components": components}))
    return {endpoint.name: endpoint for endpoint in endpoints}, problems


def portable(schema: Any, **schemas: Any) -> dict[str, Any]:
    return Portable(Document({"components": {"schemas": schemas}})).convert(schema)


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


# -- documents


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("openapi: 3.0.3\ninfo: {version: 2020-01-01}\npaths: {}\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"openapi": "3.0.3", "info": {"version": "2020-01-01"}, "paths": {}}')

    assert Document.load(tmp_path / "a.yaml").content == Document.load(tmp_path / "a.json").content


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"swagger": "1.2", "paths": {}}', "Swagger 2.0"),
        ("- a\n- list\n", "not an OpenAPI 3"),
        ("a: [unclosed\n", "neither JSON nor YAML at line"),
        ("!!python/object/apply:os.system [id]\n", "neither JSON nor YAML"),
    ],
)
def test_what_is_no_description_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "spec").write_text(text, encoding="utf-8")

    with pytest.raises(InvalidInput, match=said):
        Document.load(tmp_path / "spec")


# -- operations


def test_one_operation_that_cannot_be_read_costs_no_other() -> None:
    found, problems = read(
        {
            "x-extension": {"get": {}},
            "/good": {
                "get": {"operationId": "good", "parameters": [{"in": "cookie", "name": "sid"}]},
                "x-note": "text",
            },
            "/elsewhere": {"$ref": "other.yaml#/paths/~1x"},
            "/nothing": {"get": {"parameters": [{"$ref": "#/components/parameters/none"}]}},
            "/circle": {"get": {"requestBody": {"$ref": "#/components/requestBodies/loop"}}},
            "/nowhere": {"get": {"parameters": [{"in": "body", "name": "x"}]}},
            "/broken": {"get": {"parameters": [{"name": "no location"}]}},
            "/empty": {"get": None},
        },
        requestBodies={"loop": {"$ref": "#/components/requestBodies/loop"}},
    )

    assert list(found) == ["good"]
    assert [problem.partition(":")[0] for problem in problems] == [
        "/elsewhere",
        "GET /nothing",
        "GET /circle",
        "GET /nowhere",
        "GET /broken",
        "GET /empty",
    ]


def test_a_path_parameter_that_nobody_describes_is_an_identifier() -> None:
    found, _ = read({"/thing/{id}#fragment-{x}": {"get": {"operationId": "undescribed"}}})

    assert found["undescribed"].arguments["properties"]["id"] == {"type": "string"}
    assert found["undescribed"].arguments["required"] == ["id"]


def test_a_hole_in_a_schema_allows_everything_and_costs_no_operation() -> None:
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": {"a": ref("none")}}}}}
    found, problems = read({"/a": {"post": {"operationId": "a", "requestBody": body}}})

    assert problems == []
    assert found["a"].arguments["properties"]["body"]["properties"] == {"a": {}}


def test_a_description_may_be_spread_over_files_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "api"
    (folder / "paths" / "deep").mkdir(parents=True)
    (tmp_path / "secret.yml").write_text("get: {operationId: secret}\n")
    (folder / "api.yml").write_text(
        "openapi: 3.0.3\npaths:\n  /good: {$ref: 'paths/deep/good.yml'}\n  /out: {$ref: '../secret.yml'}\n"
        "  /trick: {$ref: 'paths/trick.yml'}\n  /url: {$ref: 'https://example.com/x.yml'}\n"
    )
    (folder / "paths" / "deep" / "good.yml").write_text(
        "get:\n  operationId: good\n  parameters:\n    - {$ref: '../shared.yml#/limit'}\n"
        "    - {$ref: '#/own'}\nown: {in: query, name: own, schema: {$ref: '../shared.yml#/size'}}\n"
    )
    (folder / "paths" / "shared.yml").write_text(
        "limit: {in: query, name: limit, schema: {$ref: '#/size'}}\nsize: {type: integer, maximum: 9}\n"
    )
    (folder / "paths" / "trick.yml").write_text("get: {$ref: '../../secret.yml#/get'}\n")

    endpoints, problems = read_endpoints(Document.load(folder / "api.yml"))

    (good,) = endpoints
    limited = {"type": "integer", "maximum": 9}
    assert good.arguments["properties"]["limit"] == good.arguments["properties"]["own"] == limited
    assert [problem.partition(":")[0] for problem in problems] == ["/out", "GET /trick", "/url"]


SWAGGER = """
swagger: "2.0"
host: evil.example.com
consumes: [application/json]
parameters:
  page: {name: page, in: query, type: integer}
definitions:
  Pet: {type: object, required: [name], properties: {name: {type: string}, id: {type: integer, readOnly: true}}}
paths:
  /pets:
    parameters: [{$ref: "#/parameters/page"}]
    get:
      operationId: listPets
      parameters:
        - {name: tags, in: query, type: array, items: {type: string}, collectionFormat: multi}
        - {name: ids, in: query, type: array, items: {type: integer}, collectionFormat: pipes}
    post:
      operationId: addPet
      parameters: [{name: pet, in: body, required: true, schema: {$ref: "#/definitions/Pet"}}]
  /pets/{id}/photo:
    post:
      operationId: addPhoto
      parameters:
        - {name: id, in: path, required: true, type: string}
        - {name: photo, in: formData, required: true, type: file}
        - {name: title, in: formData, type: string}
  /broken: {get: {operationId: broken, parameters: [{$ref: "#/parameters/none"}]}}
  /form:
    post: {operationId: form, parameters: [{name: a, in: formData, required: true, type: integer, minimum: 1}]}
"""


def test_swagger_2_is_read_as_openapi_3(tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(SWAGGER)
    endpoints, problems = read_endpoints(Document.load(tmp_path / "pets.yaml"))
    found = {endpoint.name: endpoint for endpoint in endpoints}

    assert list(found) == ["list_pets", "add_pet", "add_photo", "form"]
    assert [problem.partition(":")[0] for problem in problems] == ["GET /broken"]
    styles = {p.name: (p.style, p.explode) for p in found["list_pets"].parameters}
    assert styles == {"page": ("form", True), "tags": ("form", True), "ids": ("pipeDelimited", False)}
    pet = found["add_pet"].arguments["properties"]["body"]
    assert (pet["required"], list(pet["properties"])) == (["name"], ["name"])
    photo = found["add_photo"].body
    assert photo is not None
    assert photo.media_type == "multipart/form-data"
    assert "handle" in photo.schema["properties"]["photo"]["properties"]
    form = found["form"].body
    assert form is not None
    assert (form.media_type, form.required) == ("application/x-www-form-urlencoded", True)
    assert form.schema["properties"]["a"] == {"type": "integer", "minimum": 1}


@pytest.mark.parametrize(
    ("operation_id", "name"),
    [
        ("listOpenIssues", "list_open_issues"),
        ("issues/create", "issues_create"),
        ("GetHTTPServer2", "get_http_server2"),
        ("3d.model", "get_3d_model"),
        (None, "get_x_id"),
        ("日本", "get_x_id"),
    ],
)
def test_names_are_readable_and_plain(operation_id: str | None, name: str) -> None:
    parameters = [{"name": "id", "in": "path", "required": True}]
    found, _ = read({"/x/{id}": {"get": {"operationId": operation_id, "parameters": parameters}}})

    assert list(found) == [name]


def test_a_name_depends_on_nothing_but_its_own_operation() -> None:
    long = {"get": {"operationId": "aVeryLongNameThatGoesOnAndOnAndOnUntilNobodyCanReadItAnyMore"}}
    alone, _ = read({"/long": long})
    among, _ = read({"/a": {"get": {"operationId": "a"}}, "/long": long, "/z": {"get": {"operationId": "z"}}})

    assert set(alone) < set(among)
    assert all(len(name) <= 56 for name in among)


def test_two_operations_that_want_one_name_both_get_a_mark() -> None:
    found, _ = read({"/a": {"get": {"operationId": "list"}}, "/b": {"get": {"operationId": "List"}}})
    turned, _ = read({"/b": {"get": {"operationId": "List"}}, "/a": {"get": {"operationId": "list"}}})

    assert len(found) == 2
    assert {name: e.path for name, e in found.items()} == {name: e.path for name, e in turned.items()}
    assert "list" not in found


def test_the_effect_follows_the_method_unless_the_document_states_it() -> None:
    found, _ = read(
        {
            "/a": {"get": {"operationId": "g"}, "put": {"operationId": "p"}, "delete": {"operationId": "d"}},
            "/search": {"post": {"operationId": "s", "x-usrland-effect": "read"}},
            "/wrong": {"post": {"operationId": "w", "x-usrland-effect": "harmless"}},
        }
    )

    assert {name: endpoint.effect for name, endpoint in found.items()} == {
        "g": "read",
        "p": "write",
        "d": "destroy",
        "s": "read",
    }


def test_arguments_of_one_name_are_told_apart_and_reserved_names_left_alone() -> None:
    parameters = [
        {"name": "id", "in": "path", "required": True},
        {"name": "id", "in": "query"},
        {"name": "cursor", "in": "query"},
        {"name": "filter[name]", "in": "query", "required": True},
        {"name": "Authorization", "in": "header", "required": True},
        {"name": "Host", "in": "header"},
        {"name": "Content-Length", "in": "header"},
        {"name": "Transfer-Encoding", "in": "header"},
    ]
    found, _ = read({"/x/{id}": {"get": {"operationId": "x", "parameters": parameters}}})

    assert list(found["x"].arguments["properties"]) == [
        "id_path",
        "id_query",
        "cursor_query",
        "filter_name",
        "pick",
    ]
    assert found["x"].arguments["required"] == ["id_path", "filter_name"]


def test_an_operation_replaces_a_parameter_of_its_path() -> None:
    of_path = [{"name": "q", "in": "query", "schema": {"type": "string"}}]
    own = [{"name": "q", "in": "query", "schema": {"type": "integer"}}]
    found, _ = read({"/x": {"parameters": of_path, "get": {"operationId": "x", "parameters": own}}})

    assert found["x"].arguments["properties"]["q"]["type"] == "integer"


def test_json_is_chosen_among_the_media_types() -> None:
    content: dict[str, Any] = {"text/csv": {}, "application/x-www-form-urlencoded": {}, "application/hal+json": {}}
    found, _ = read({"/x": {"post": {"operationId": "x", "requestBody": {"content": content}}}})

    body = found["x"].body
    assert body is not None
    assert body.media_type == "application/hal+json"


def test_markup_of_a_description_is_left_out_and_its_words_kept() -> None:
    described = "<p>Makes a [refund](https://example.com/refunds#top).</p>\n\nIf a < b, nothing."
    found, _ = read({"/x": {"get": {"operationId": "x", "description": described, "tags": ["Money"]}}})

    assert found["x"].description.splitlines() == [
        "Makes a refund.",
        "Makes a refund. If a < b, nothing.",
        "GET /x",
        "Money",
    ]


# -- schemas


def test_keys_that_hosts_refuse_are_told_in_words() -> None:
    converted = portable({"type": "object", "properties": {"a": {}, "b c": {}}, "required": ["a", "b c"]})

    assert list(converted["properties"]) == converted["required"] == ["a"]
    assert converted["description"] == "Also takes 'b c'."


def test_a_choice_of_constants_is_an_enumeration() -> None:
    choice = {"oneOf": [{"const": 0}, {"const": 1}]}

    assert portable({"type": "integer", **choice})["enum"] == [0, 1]
    assert portable({"oneOf": [{"type": "null"}, choice]})["description"] == "0 or 1 or null."
    assert portable({"type": ["number", "null"], "maximum": 1})["description"] == "number or null, maximum 1."


def test_a_long_enumeration_is_told_by_its_ends_or_by_some_of_it() -> None:
    numbers = portable({"type": "integer", "enum": list(range(10, 110))})
    codes = portable({"type": "string", "enum": [f"c{number}" for number in range(100)], "description": "A code."})

    assert numbers == {"type": "integer", "minimum": 10, "maximum": 109}
    assert codes["description"] == "One of 100: c0, c1, c2, c3, c4, c5, c6, c7 …. A code." and "enum" not in codes
    assert "minimum" not in portable({"type": "integer", "enum": list(range(0, 200, 2))})


def test_a_pattern_is_told_in_words_and_never_enforced_here() -> None:
    told = portable({"type": "string", "pattern": "^AC[0-9a-f]{32}$", "description": "The account."})
    long = portable({"type": "string", "pattern": "a" * 121})
    number = portable({"type": "integer", "pattern": "^1$"})

    assert told == {"type": "string", "description": "The account. Matches ^AC[0-9a-f]{32}$"}
    assert long == {"type": "string"} and number == {"type": "integer"}


def test_a_parameters_own_description_leaves_the_words_of_its_schema() -> None:
    account = {"type": "string", "pattern": "^AC[0-9]+$", "description": "An account."}
    place = {"name": "account", "in": "path", "schema": account, "description": "Whose calls."}
    since = {"name": "since", "in": "query", "schema": {"type": ["string", "null"]}, "description": "From when."}
    (endpoint,) = read({"/a/{account}": {"get": {"operationId": "a", "parameters": [place, since]}}})[0].values()

    assert endpoint.arguments["properties"]["account"] == {
        "type": "string",
        "description": "Whose calls. Matches ^AC[0-9]+$",
    }
    assert endpoint.arguments["properties"]["since"] == {"description": "string or null. From when."}


def test_nothing_is_no_choice_for_a_part_of_a_path() -> None:
    place = {"name": "kind", "in": "path", "schema": {"type": "string", "enum": ["", "full"]}}
    (endpoint,) = read({"/a/{kind}": {"get": {"operationId": "a", "parameters": [place]}}})[0].values()

    assert endpoint.arguments["properties"]["kind"]["enum"] == ["full"]


def test_a_schema_that_contains_itself_is_cut() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": ref("T")}},
    }

    converted = portable(ref("T"), T=tree)

    assert converted["properties"]["children"] == {"type": "array", "items": {"type": "object", "required": []}}
    assert "$ref" not in json.dumps(converted)


def test_a_schema_without_end_stays_small() -> None:
    wide = {
        f"S{n}": {"type": "object", "properties": {f"p{m}": ref(f"S{n + 1}") for m in range(9)}} for n in range(9)
    }

    assert len(json.dumps(portable(ref("S0"), **wide, S9={"type": "string"}))) < 50_000


def test_all_of_is_merged() -> None:
    converted = portable(
        {
            "allOf": [ref("A"), {"properties": {"b": {"type": "integer"}}, "required": ["b"]}],
            "description": "Both.",
        },
        A={"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    )

    assert converted == {
        "description": "Both.",
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "nullable": True},
        {"type": "string", "x-nullable": True},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"oneOf": [{"type": "string", "nullable": True}]},
    ],
)
def test_a_scalar_that_may_be_null_says_so_in_words_and_takes_null(schema: Any) -> None:
    assert portable(schema) == {"description": "string or null."}


def test_an_object_that_may_be_null_keeps_its_properties() -> None:
    schema = {"type": ["object", "null"], "properties": {"a": {"type": "string"}}}

    assert portable(schema)["properties"] == {"a": {"type": "string"}}


def test_a_choice_of_objects_is_the_widest_of_them() -> None:
    cat = {
        "title": "Cat",
        "type": "object",
        "properties": {"id": {"type": "string"}, "lives": {}},
        "required": ["id"],
    }
    dog = {"title": "Dog", "properties": {"id": {"type": "string"}, "tricks": {}}, "required": ["id", "tricks"]}

    assert portable({"oneOf": [cat, dog]}) == {
        "description": "One of: Cat, Dog. Either {id, lives?} or {id, tricks}.",
        "type": "object",
        "properties": {"id": {"type": "string"}, "tricks": {}, "lives": {}},
        "required": ["id"],
    }


def test_a_choice_of_objects_takes_the_word_of_each_and_says_which_fields_go_with_it() -> None:
    card = {
        "properties": {"kind": {"const": "card"}, "number": {"type": "string"}},
        "required": ["kind", "number"],
    }
    iban = {"properties": {"kind": {"const": "iban"}, "number": {"type": "integer"}, "bank": {}}}

    converted = portable({"type": "object", "oneOf": [card, iban]})

    assert converted["properties"]["kind"] == {"type": "string", "enum": ["card", "iban"]}
    assert converted["properties"]["number"] == {"description": "string or integer."}
    assert converted["description"] == "Either {kind: card, number} or {kind?: iban, number?, bank?}."


MAPPED = {"mapping": {"c": "#/components/schemas/Card", "i": "Iban"}}


@pytest.mark.parametrize(("mapping", "words"), [({}, ["Card", "Iban"]), (MAPPED, ["c", "i"])])
def test_a_discriminator_gives_each_object_its_word(mapping: Any, words: list[str]) -> None:
    """Enforced where the description says which; the schema's name is often not what the system takes."""
    kinds = {name: {"type": "object", "properties": {"kind": {"type": "string"}}} for name in ("Card", "Iban")}
    choice = {"oneOf": [ref("Card"), ref("Iban")], "discriminator": {"propertyName": "kind", **mapping}}

    converted = portable(choice, **kinds)

    assert converted["properties"]["kind"] == {"type": "string", **({"enum": words} if mapping else {})}
    assert converted["description"] == f"Either {{kind?: {words[0]}}} or {{kind?: {words[1]}}}."


def test_a_discriminator_leaves_the_words_that_the_objects_have_themselves() -> None:
    kinds = {
        "Card": {"type": "object", "properties": {"kind": ref("CardKind")}},
        "Iban": {"type": "object", "properties": {"kind": {"type": "string", "enum": ["iban"]}}},
        "CardKind": {"type": "string", "enum": ["credit", "debit"]},
    }
    choice = {"oneOf": [ref("Card"), ref("Iban")], "discriminator": {"propertyName": "kind", **MAPPED}}

    assert portable(choice, **kinds)["properties"]["kind"]["enum"] == ["credit", "debit", "iban"]


@pytest.mark.parametrize("wrong", [{"required": True}, {"required": [1]}, {"properties": []}])
def test_what_is_no_list_of_names_costs_no_operation(wrong: Any) -> None:
    node = {"type": "object", "properties": {"next": ref("Node")}, **wrong}

    assert portable({"oneOf": [ref("Node"), {"type": "object"}]}, Node=node)["type"] == "object"
    assert portable(ref("Node"), Node=node)["required"] == []


def test_that_one_of_two_fields_is_needed_is_told() -> None:
    page = {"type": "object", "properties": {"url": {}, "html": {}}, "description": "A page."}

    told = portable({**page, "oneOf": [{"required": ["url"]}, {"required": ["html"]}]})

    assert told["description"] == "A page. Either {url} or {html}." and told["required"] == []


def test_forms_of_many_fields_are_told_by_what_they_need_and_those_beyond_a_few_are_counted() -> None:
    many = [{"properties": {f"{n}_{m}": {} for m in range(50)}, "required": [f"{n}_0"]} for n in range(8)]

    described = portable({"type": "object", "anyOf": many})["description"]

    assert described == "Either {0_0} or {1_0} or {2_0} or {3_0} or {4_0} or {5_0} (and 2 more)."


def test_the_simplest_of_several_types_comes_first_and_the_fields_of_an_object_are_told() -> None:
    named = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

    assert portable({"anyOf": [named, {"type": "string"}]})["description"] == (
        "string or object. An object is {name}."
    )


def test_values_that_may_stand_for_an_object_are_told() -> None:
    """As APIs write it that take an object, or nothing at all to remove it."""
    day = {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]}

    assert portable({"anyOf": [day, {"type": "string", "enum": [""]}]})["description"] == (
        '"" or object. An object is {day}.'
    )


def test_the_values_of_a_map_and_how_many_it_needs_are_kept() -> None:
    tags = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}

    assert portable(tags) == {**tags, "required": []}


def test_that_no_item_may_come_twice_is_told() -> None:
    tags = {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "description": "Tags."}

    assert portable(tags) == {"type": "array", "items": {"type": "string"}, "description": "Tags. Each item once."}


def test_a_field_that_is_needed_and_not_described_is_asked_for() -> None:
    converted = portable({"type": "object", "properties": {"ids": {}}, "required": ["uris"]})

    assert converted == {"type": "object", "properties": {"ids": {}, "uris": {}}, "required": ["uris"]}


def test_what_there_is_no_room_for_still_says_what_it_cannot_be_without() -> None:
    node = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["leaf", "branch"]},
            "parts": {"type": "array", "items": ref("Node")},
            "id": {"type": "string", "readOnly": True},
        },
        "required": ["kind", "parts", "id"],
    }

    inner = portable(ref("Node"), Node=node)["properties"]["parts"]["items"]

    assert inner["properties"]["kind"] == {"type": "string", "enum": ["leaf", "branch"]}
    assert inner["required"] == ["kind", "parts"]
    assert inner["properties"]["parts"]["items"]["type"] == "object"


def test_the_format_of_a_text_that_may_be_null_is_told() -> None:
    day = {"type": "string", "format": "date", "nullable": True}

    assert portable(day) == {"description": "string (date) or null."}
    assert portable({"type": ["integer", "null"], "format": "int32"}) == {"description": "integer or null."}


def test_a_pattern_of_a_text_that_may_be_null_is_told_as_well() -> None:
    assert portable({"type": ["string", "null"], "pattern": "^a+$"}) == {
        "description": "string or null. Matches ^a+$"
    }


def test_a_choice_of_types_takes_all_of_them() -> None:
    assert portable({"anyOf": [{"type": "string"}, {"type": "integer"}]}) == {"description": "string or integer."}


def test_a_choice_of_values_is_all_of_their_values() -> None:
    assert portable({"oneOf": [{"const": "a"}, {"enum": ["b", "c"]}]}) == {
        "type": "string",
        "enum": ["a", "b", "c"],
    }


@pytest.mark.parametrize(
    ("schema", "bounds"),
    [
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"exclusiveMaximum": 9}, {"exclusiveMaximum": 9}),
        ({"maximum": "50", "minimum": 2}, {"minimum": 2}),
    ],
)
def test_bounds_of_either_version_are_kept_and_wrong_ones_dropped(schema: Any, bounds: Any) -> None:
    assert portable({"type": "integer", **schema}) == {"type": "integer", **bounds}


def test_what_only_the_system_sets_is_not_asked_for() -> None:
    schema = {
        "type": "object",
        "properties": {"id": {"type": "string", "readOnly": True}, "name": {"type": "string"}},
        "required": ["id", "name"],
    }

    assert portable(schema) == {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.mark.parametrize("schema", [True, False, {}, {"type": "nonsense"}, {"enum": []}])
def test_a_schema_that_says_nothing_takes_everything(schema: Any) -> None:
    assert portable(schema) == {}
