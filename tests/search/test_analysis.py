"""Which words a text is found by."""

from __future__ import annotations

import pytest

from usrland.search import terms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parseHTTPRequest", "parseHTTPRequest parse HTTP Request"),
        ("max_file_bytes = 2", "max_file_bytes max file bytes 2"),
        ("__init__", "__init__"),
        ("plain words, only.", "plain words only"),
        ("Überraschung für_alle", "Überraschung für_alle für alle"),
        ("数据库 v2", "数据 据库 v2 v 2"),
        ("数", "数"),
        ("*&^ ( AND", "AND"),
        ("", ""),
    ],
)
def test_identifiers_count_whole_and_in_parts(text: str, words: str) -> None:
    assert terms(text) == words
