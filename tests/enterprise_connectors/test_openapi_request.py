from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enterprise_connectors.openapi.document import Document
from enterprise_connectors.openapi.endpoints import read_endpoints
from enterprise_connectors.openapi.paging import next_page
from enterprise_connectors.openapi.request import Request, build
from usrland.errors import InvalidInput

BASE = "https://api.example.com/v1/"


def request(
    arguments: dict[str, Any],
    *parameters: dict[str, Any],
    path: str = "/x",
    media_type: str = "application/json",
    method: str = "post",
) -> Request:
    operation = {"parameters": list(parameters), "requestBody": {"content": {media_type: {}}}}
    (endpoint,), problems = read_endpoints(Document({"paths": {path: {method: operation}}}))
    assert problems == []
    return build(endpoint, BASE, arguments)


def query(value: Any, **keys: Any) -> list[tuple[str, str]]:
    return request({"q": value}, {"name": "q", "in": "query", **keys}).query


ID = {"name": "id", "in": "path", "required": True}


def test_a_path_value_is_one_encoded_segment() -> None:
    assert request({"id": "a b/c?d#é"}, ID, path="/x/{id}/y").url == (
        "https://api.example.com/v1/x/a%20b%2Fc%3Fd%23%C3%A9/y"
    )


@pytest.mark.parametrize(
    "value",
    [
        "..",
        ".",
        "",
        "../admin",
        "a/../../admin",
        "..\\admin",
        "%2e%2e",
        "%252e%252e%252fadmin",
        "..;/admin",
        "a/..;x/admin",
        "a\r\nHost: evil",
        "a\0b",
        "%0d%0a",
        "%" + "25" * 40 + "2e",
    ],
)
def test_a_value_that_climbs_in_the_path_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="id"):
        request({"id": value}, ID, path="/x/{id}")


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_value_ever_leaves_its_place_in_the_path(value: str) -> None:
    try:
        url = request({"id": value}, ID, path="/users/{id}/notes").url
    except (InvalidInput, UnicodeEncodeError):
        return
    head, middle, tail = url.removeprefix(BASE).split("/")

    assert (head, tail) == ("users", "notes")
    assert middle not in ("", ".", "..")
    assert not set("?#\\ ") & set(middle)


@pytest.mark.parametrize(
    ("value", "keys", "pairs"),
    [
        ("a", {}, [("q", "a")]),
        (True, {}, [("q", "true")]),
        (2.5, {}, [("q", "2.5")]),
        (["a", 1], {}, [("q", "a"), ("q", "1")]),
        (["a", "b"], {"explode": False}, [("q", "a,b")]),
        (["a", "b"], {"style": "pipeDelimited", "explode": False}, [("q", "a|b")]),
        (["a", "b"], {"style": "spaceDelimited", "explode": False}, [("q", "a b")]),
        ({"a": 1, "b": False}, {}, [("a", "1"), ("b", "false")]),
        ({"a": 1}, {"explode": False}, [("q", "a,1")]),
        ({"a": {"b": 1}, "c": [1, 2]}, {"style": "deepObject"}, [("q[a][b]", "1"), ("q[c]", "1"), ("q[c]", "2")]),
        ({"a": [1]}, {"content": {"application/json": {}}}, [("q", '{"a":[1]}')]),
        (None, {}, []),
    ],
)
def test_query_values_follow_style_and_explode(
    value: Any, keys: dict[str, Any], pairs: list[tuple[str, str]]
) -> None:
    assert query(value, **keys) == pairs


@pytest.mark.parametrize(
    ("value", "style", "explode", "segment"),
    [
        ([1, 2], "simple", False, "1,2"),
        ({"a": 1}, "simple", False, "a,1"),
        ({"a": 1}, "simple", True, "a=1"),
        ("5", "label", False, ".5"),
        ("5", "matrix", False, ";id=5"),
        (["a", "b,c"], "simple", True, "a,b%2Cc"),
        (["a", "b"], "label", False, ".a,b"),
        (["a", "b"], "label", True, ".a.b"),
        ({"a": 1, "b": 2}, "label", True, ".a=1.b=2"),
        (["a", "b"], "matrix", False, ";id=a,b"),
        (["a", "b"], "matrix", True, ";id=a;id=b"),
        ({"a": 1, "b": 2}, "matrix", False, ";id=a,1,b,2"),
        ({"a": 1, "b": 2}, "matrix", True, ";a=1;b=2"),
    ],
)
def test_path_values_follow_their_style(value: Any, style: str, explode: bool, segment: str) -> None:
    parameter = {**ID, "style": style, "explode": explode}

    assert request({"id": value}, parameter, path="/x/{id}").url == f"https://api.example.com/v1/x/{segment}"


@pytest.mark.parametrize(
    ("value", "style"),
    [
        ([".", "."], "label"),
        ([""], "label"),
        (["", ""], "label"),
        ([], "simple"),
        ({}, "matrix"),
        (["..", "x"], "matrix"),
    ],
)
def test_no_style_makes_a_step_up_out_of_parts(value: Any, style: str) -> None:
    with pytest.raises(InvalidInput):
        request({"id": value}, {**ID, "style": style, "explode": True}, path="/x/{id}")


def test_a_fixed_query_in_the_path_is_kept_and_an_imagined_fragment_dropped() -> None:
    sent = request({"id": "b"}, ID, path="/{id}?acl#variant")

    assert (sent.url, sent.query) == ("https://api.example.com/v1/b", [("acl", "")])


def test_headers_are_text_of_one_line() -> None:
    count = {"name": "X-Count", "in": "header"}

    assert request({"X_Count": 5}, count).headers["X-Count"] == "5"
    with pytest.raises(InvalidInput, match="one line"):
        request({"X_Count": "5\r\nX-Evil: 1"}, count)


@pytest.mark.parametrize(
    ("media_type", "body", "content"),
    [
        ("application/json", {"a": [1, None]}, b'{"a":[1,null]}'),
        ("application/json", None, b"null"),
        ("application/x-www-form-urlencoded", {"a": {"b": "c d"}, "t": [1, 2]}, b"a%5Bb%5D=c%20d&t=1&t=2"),
        ("application/x-www-form-urlencoded", {"i": [{"x": 1}, {"x": 2}]}, b"i%5B0%5D%5Bx%5D=1&i%5B1%5D%5Bx%5D=2"),
        ("text/plain", "hello", b"hello"),
        ("application/xml", "<a/>", b"<a/>"),
    ],
)
def test_bodies_are_sent_as_what_they_are_described(media_type: str, body: Any, content: bytes) -> None:
    sent = request({"body": body}, media_type=media_type)

    assert sent.content == content
    assert sent.headers["content-type"] == media_type


@pytest.mark.parametrize(
    ("media_type", "body"), [("application/x-www-form-urlencoded", "a=b"), ("text/plain", {"a": 1})]
)
def test_a_body_of_the_wrong_kind_is_refused(media_type: str, body: Any) -> None:
    with pytest.raises(InvalidInput, match="body"):
        request({"body": body}, media_type=media_type)


def test_cookies_are_one_header_of_encoded_values() -> None:
    cookies = [{"name": "sid", "in": "cookie"}, {"name": "tags", "in": "cookie"}]
    sent = request({"sid": "a; admin=1", "tags": ["x", "y"]}, *cookies)

    assert sent.headers["cookie"] == "sid=a%3B%20admin%3D1; tags=x%2Cy"


def test_a_field_of_a_form_follows_its_own_style() -> None:
    styles = {"expand": {"style": "deepObject"}, "ids": {"style": "form", "explode": False}, "n": {}}
    operation = {"requestBody": {"content": {"application/x-www-form-urlencoded": {"encoding": styles}}}}
    (endpoint,), _ = read_endpoints(Document({"paths": {"/x": {"post": operation}}}))
    sent = build(endpoint, BASE, {"body": {"expand": ["a", {"b": 1}], "ids": [1, 2], "n": [3]}})

    assert unquote((sent.content or b"").decode()) == "expand[0]=a&expand[1][b]=1&ids=1,2&n=3"


@pytest.mark.parametrize(
    ("parameters", "arguments", "headers", "body", "changed"),
    [
        (["page", "size"], {}, {"link": '<https://x/y?page=3&size=9>; rel="next"'}, [], {"page": 3, "size": 9}),
        (["page"], {}, {"link": '<https://x/y?page=3>; rel="prev", <https://x/y?page=5>; rel="last"'}, [1], None),
        (["cursor"], {}, {}, {"meta": {"next_cursor": "abc"}}, {"cursor": "abc"}),
        (["pageToken"], {}, {}, {"nextPageToken": ""}, None),
        (["cursor"], {}, {}, {"next": "https://x/y?cursor=q7&z=1"}, {"cursor": "q7"}),
        (["offset", "limit"], {"offset": 10, "limit": 2}, {}, {"rows": [1, 2], "total": 20}, {"offset": 12}),
        (["offset", "limit"], {"offset": 18, "limit": 2}, {}, {"rows": [1, 2], "total": 20}, None),
        (["page", "limit"], {"limit": 2}, {}, [1, 2], {"page": 2}),
        (["page", "limit"], {"limit": 3}, {}, [1, 2], None),
        (["q"], {}, {}, {"next_cursor": "abc"}, None),
    ],
)  # fmt: skip
def test_the_next_page_is_given_as_arguments(
    parameters: list[str], arguments: dict[str, Any], headers: dict[str, str], body: Any, changed: Any
) -> None:
    operation = {"parameters": [{"name": name, "in": "query"} for name in parameters]}
    (endpoint,), _ = read_endpoints(Document({"paths": {"/x": {"get": operation}}}))
    renamed = {f"{key}_query": value for key, value in (changed or {}).items() if key == "cursor"}

    assert next_page(endpoint, arguments, headers, body) == (renamed or changed)
