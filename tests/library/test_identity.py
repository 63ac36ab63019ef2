"""Tokens are kept hashed, expire, and can be revoked at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from usrland.errors import Conflict, InvalidInput, NotFound
from usrland.identity import TokenFile, local_principal
from usrland.settings import Settings


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile.of(tmp_path)


def test_a_token_opens_what_it_was_made_for_and_is_not_in_the_file(tokens: TokenFile) -> None:
    token = tokens.add("bot", ["fs:read", "crm:read"], tenant="acme", namespace="emea")

    principal = tokens.principal(token)

    assert principal is not None
    assert (principal.subject, principal.tenant, principal.namespace) == ("bot", "acme", "emea")
    assert principal.scopes == {"fs:read", "crm:read"}
    assert token not in tokens.path.read_text()
    assert tokens.path.stat().st_mode & 0o077 == 0
    assert tokens.principal(token + "x") is None
    assert tokens.principal("") is None


def test_a_token_ends_with_its_days_or_when_it_is_revoked_elsewhere(tokens: TokenFile) -> None:
    short, lasting = tokens.add("short", ["a:b"], days=1), tokens.add("lasting", ["a:b"], days=None)
    in_two_days = tokens.tokens()[0].created_at + 2 * 86_400

    assert tokens.principal(short, now=in_two_days) is None
    assert tokens.principal(lasting, now=in_two_days) is not None
    TokenFile(tokens.path).revoke("lasting")
    assert tokens.principal(lasting) is None
    assert tokens.principal(short) is not None


def test_names_are_unique_and_scopes_are_needed(tokens: TokenFile) -> None:
    tokens.add("bot", ["a:b"])

    with pytest.raises(Conflict, match="named 'bot'"):
        tokens.add("bot", ["a:b"])
    with pytest.raises(InvalidInput, match="at least one scope"):
        tokens.add("other", [])
    with pytest.raises(NotFound, match="no token named 'other'"):
        tokens.revoke("other")


def test_a_damaged_file_lets_nobody_in(tokens: TokenFile) -> None:
    token = tokens.add("bot", ["a:b"])
    tokens.path.write_text(tokens.path.read_text()[:-20])

    with pytest.raises(InvalidInput, match=r"tokens\.json is damaged"):
        tokens.principal(token)


def test_the_profile_says_who_a_person_is_on_stdio(tmp_path: Path) -> None:
    (tmp_path / "usrland.toml").write_text(
        '[identity]\nsubject = "ada"\nnamespace = "acme"\nscopes = ["fs:read"]\n'
    )

    ada = local_principal(Settings.load(tmp_path, {}))
    nobody_said = local_principal(Settings.load(tmp_path / "empty", {}))

    assert (ada.subject, ada.namespace, ada.scopes) == ("ada", "acme", {"fs:read"})
    assert nobody_said.subject
    assert nobody_said.scopes == {"*"}
