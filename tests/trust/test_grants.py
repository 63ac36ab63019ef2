"""Who may do what stands in one file, and holds for every way to prove who one is, from the next call on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import toy
from doors import bearer, opened
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from processes import serving
from typer.testing import CliRunner

from usrland import Principal
from usrland.cli import application
from usrland.errors import InvalidInput, UsrlandError
from usrland.host import running
from usrland.identity import BY_GRANT, GrantFile, TokenFile
from usrland.settings import Settings

TABLE = """
[roles]
reader = ["toy:read"]
writer = ["toy:read", "toy:write"]

[subjects.ada]
may = ["writer", "fs:label:finance"]
tenant = "acme"

[groups.interns]
may = ["reader"]
"""


@pytest.fixture
def grants(tmp_path: Path) -> GrantFile:
    file = GrantFile.of(tmp_path)
    file.write(TABLE)
    return file


def who(subject: str, *scopes: str, source: str = "oauth", groups: tuple[str, ...] = ()) -> Principal:
    return Principal(subject=subject, scopes=frozenset(scopes), source=source, groups=frozenset(groups))


@pytest.mark.parametrize(
    ("caller", "holds"),
    [
        (who("ada", "*"), {"toy:read", "toy:write", "fs:label:finance"}),
        (who("ada", "toy:*"), {"toy:read", "toy:write"}),
        (who("ada", "toy:read", "memory:read"), {"toy:read"}),
        (who("ada"), set()),
        (who("ada", BY_GRANT), {"toy:read", "toy:write", "fs:label:finance"}),
        (who("eve", "*"), set()),
        (who("eve", BY_GRANT), set()),
        (who("eve", "*", groups=("interns",)), {"toy:read"}),
        (who("ada", "*", groups=("interns", "unheard of")), {"toy:read", "toy:write", "fs:label:finance"}),
        (who("bot", "toy:write", source="token"), {"toy:write"}),
        (who("bot", BY_GRANT, source="token"), {BY_GRANT}),
        (who("owner", "*", source="stdio"), {"*"}),
    ],
)
def test_a_caller_holds_what_credential_and_file_both_give(
    grants: GrantFile, caller: Principal, holds: set[str]
) -> None:
    assert grants.bounded(caller).scopes == holds


SCOPES = st.frozensets(
    st.sampled_from(["*", "fs:*", "fs:read", "fs:label:*", "fs:label:hr", "memory:*", "memory:read"])
)
ASKED = ["fs:read", "fs:label:hr", "fs:label:legal", "memory:read", "memory:write", "sys:call"]


@given(credential=SCOPES, granted=SCOPES)
def test_neither_side_ever_widens_the_other(credential: frozenset[str], granted: frozenset[str]) -> None:
    from usrland.identity.grants import _meet

    both = Principal(subject="", scopes=_meet(credential, granted))
    one, other = Principal(subject="", scopes=credential), Principal(subject="", scopes=granted)

    for scope in ASKED:
        needed = frozenset({scope})
        assert both.missing(needed) == (one.missing(needed) | other.missing(needed))


def test_the_file_says_whose_data_is_reached(grants: GrantFile) -> None:
    assert grants.bounded(who("ada", "*")).tenant == "acme"
    assert grants.bounded(who("eve", "*", groups=("interns",))).tenant == "local"
    grants.write(TABLE + 'tenant = "globex"\n')
    with pytest.raises(InvalidInput, match="several tenants"):
        grants.bounded(who("ada", "*", groups=("interns",)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[subjects.ada]\nmay = ["captain"]\n', "no role 'captain'"),
        ('[subjects.ada]\nmay = ["a:b"]\nif = "x"\n', "if: Extra inputs"),
        ('[subject.ada]\nmay = ["a:b"]\n', "subject: Extra inputs"),
        ('[roles]\nr = ["other"]\nother = ["a:b"]\n', "'other' is no scope"),
        ('[roles]\n"a:b" = ["a:b"]\n', "is a scope and no role"),
        ("[subjects.ada\n", "not valid TOML"),
    ],
)
async def test_a_file_with_a_mistake_lets_nobody_in(settings: Settings, text: str, said: str) -> None:
    file = GrantFile.of(settings.home)
    with pytest.raises(InvalidInput, match=said):
        file.write(text)
    assert not file.path.exists()

    async with running(toy.service(settings), settings) as host, Client(host.server) as client:
        assert not (await client.call_tool("add", {"left": 1})).is_error
        file.path.write_text(text)
        with pytest.raises(Exception, match=said):
            await client.call_tool("add", {"left": 1})
        with pytest.raises(Exception, match=said):
            await client.list_tools()


async def test_a_grant_and_its_end_hold_from_the_next_call_on_every_door(tmp_path: Path) -> None:
    token = TokenFile.of(tmp_path).add("ada", ["toy:*"])
    file = GrantFile.of(tmp_path)
    write = {"name": "a", "text": "b"}
    with serving(tmp_path, "toy:service") as served:
        for door in ("mcp", "sse"):
            async with opened(served.urls[f"toy/{door}"], token, mode="legacy") as client:
                assert not (await client.call_tool("put", write)).is_error
                file.write('[subjects.ada]\nmay = ["toy:read"]\n')
                refused = await client.call_tool("put", write)
                assert refused.structured_content["error"]["missing_scopes"] == ["toy:write"]
                assert "put" not in [tool.name for tool in (await client.list_tools()).tools]
                file.path.unlink()
        file.path.write_text("[")
        async with httpx.AsyncClient(headers=bearer(token)) as http:
            assert (await http.get(f"{served.url}/sse")).status_code == 503


async def test_the_owners_own_process_is_bounded_too_where_the_file_names_them(settings: Settings) -> None:
    settings = Settings(home=settings.home, tables={"identity": {"subject": "owner"}})
    async with running(toy.service(settings), settings) as host, Client(host.server) as client:
        GrantFile.of(settings.home).write('[subjects.owner]\nmay = ["toy:read"]\n')
        assert (await client.call_tool("put", {"name": "a", "text": "b"})).is_error
        assert not (await client.call_tool("add", {"left": 1})).is_error


# -- the command


@pytest.fixture
def usrland(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Usrland:
    monkeypatch.setenv("USRLAND_HOME", str(tmp_path))
    return Usrland()


class Usrland:
    def __call__(self, *arguments: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(application(arguments[:1]), list(arguments))
        if isinstance(done.exception, UsrlandError):
            assert exit_code == 1
            return str(done.exception)
        assert done.exit_code == exit_code, done.output
        return done.output


def test_grants_are_given_asked_for_and_taken_by_command(usrland: Usrland, tmp_path: Path) -> None:
    (tmp_path / "grants.toml").write_text('# ours\n[roles]\nreader = ["fs:read", "memory:read"]\n')
    usrland("grant", "ada@login.example.org", "reader", "memory:write", "--tenant", "acme")
    can = ("can", "--as", "ada@login.example.org")

    assert "acme" in usrland("whoami", "ada@login.example.org")
    assert "fs:read memory:read memory:write" in usrland("whoami", "--all")
    assert "yes: fs_search needs fs:read" in usrland(*can, "fs_search")
    assert "lacks memory:forget" in usrland(*can, "memory_forget", exit_code=1)
    assert "after the person agreed" in usrland("can", "memory_forget")

    usrland("revoke", "ada@login.example.org", "reader")
    assert "lacks fs:read" in usrland(*can, "fs_search", exit_code=1)
    assert "yes" in usrland(*can, "memory_remember")
    usrland("revoke", "ada@login.example.org")
    assert "lacks memory:write" in usrland(*can, "memory_remember", exit_code=1)
    assert (tmp_path / "grants.toml").read_text().startswith("# ours\n")


def test_a_mistake_in_a_grant_changes_nothing(usrland: Usrland, tmp_path: Path) -> None:
    usrland("grant", "ada", "fs:read")
    before = (tmp_path / "grants.toml").read_bytes()

    assert "no role 'captain'" in usrland("grant", "ada", "captain", exit_code=1)
    assert "does not name 'eve'" in usrland("revoke", "eve", exit_code=1)
    assert "was not granted 'fs:write'" in usrland("revoke", "ada", "fs:write", exit_code=1)
    assert "nobody here is called 'eve'" in usrland("whoami", "eve", exit_code=1)
    assert "no operation 'fs_fly'" in usrland("can", "fs_fly", exit_code=1)
    assert (tmp_path / "grants.toml").read_bytes() == before


def test_a_token_may_only_prove_the_name(usrland: Usrland, tmp_path: Path) -> None:
    assert "at least one scope" in usrland("token", "add", "bot", exit_code=1)
    usrland("grant", "bot", "fs:read")
    token = usrland("token", "add", "bot").strip()

    proven = TokenFile.of(tmp_path).principal(token)
    assert proven is not None
    assert GrantFile.of(tmp_path).bounded(proven).scopes == {"fs:read"}
    (tmp_path / "grants.toml").unlink()
    assert GrantFile.of(tmp_path).bounded(proven).missing(frozenset({"fs:read"}))
