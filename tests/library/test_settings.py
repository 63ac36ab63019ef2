"""One file, one reader, and no setting that silently does nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from usrland.errors import InvalidInput
from usrland.ledger import Ledger
from usrland.redact import redact
from usrland.settings import ServerTable, Settings


class Table(BaseModel):
    size: int = 1
    names: list[str] = []


def load(home: Path, text: str | None = None, **environment: str) -> Settings:
    home.mkdir(exist_ok=True)
    if text is not None:
        (home / "usrland.toml").write_text(text)
    return Settings.load(home, environment)


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    text = "[my-table]\nsize = 2\n"

    assert load(tmp_path).section("my-table", Table).size == 1
    assert load(tmp_path, text).section("my-table", Table).size == 2
    settings = load(tmp_path, text, USRLAND_MY_TABLE_SIZE="3", USRLAND_MY_TABLE_NAMES='["a", "b"]')
    assert settings.section("my-table", Table) == Table(size=3, names=["a", "b"])


def test_the_home_can_be_moved_and_is_made_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings.load(None, {"USRLAND_HOME": str(tmp_path / "there")})

    folder = settings.data("some-server")

    assert folder == tmp_path / "there" / "some-server"
    assert folder.stat().st_mode & 0o077 == 0
    assert Settings.load(None, {}).home == Path.home() / ".usrland"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = 2\n", "'size' stands outside any table"),
        ("[my-table\n", "not valid TOML"),
        ("[my-table]\nsiez = 2\n", r"\[my-table\]: unknown siez.*Known keys: size, names"),
        ("[my-table]\nsize = 'hunter2'\n", r"\[my-table\]: size: Input should be a valid integer"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refusal:
        load(tmp_path, text).section("my-table", Table)
    assert "hunter2" not in str(refusal.value)


def test_a_secret_is_a_reference_and_is_redacted_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("from-a-file\n")
    settings = load(tmp_path, None, CRM_TOKEN="from-the-environment")

    assert settings.secret("env:CRM_TOKEN") == "from-the-environment"
    assert settings.secret(f"file:{file}") == "from-a-file"
    assert redact(["x from-a-file", {"k": "from-the-environment"}, 5]) == ["x [redacted]", {"k": "[redacted]"}, 5]


@pytest.mark.parametrize("reference", ["hunter2", "env:", "env:NOT_SET", "file:/not/there", "vault:x"])
def test_a_secret_that_cannot_be_read_is_refused_without_showing_it(tmp_path: Path, reference: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        load(tmp_path).secret(reference)
    assert "hunter2" not in str(refusal.value)


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    settings = load(tmp_path)

    key = settings.key("calls")

    assert len(key) == 32
    assert settings.key("calls") == load(tmp_path).key("calls") == key
    assert (tmp_path / "keys" / "calls").stat().st_mode & 0o077 == 0
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["calls"]


def test_the_ledgers_database_may_be_a_secret_reference(tmp_path: Path) -> None:
    own = load(tmp_path)
    shared = load(tmp_path, '[server]\ndatabase = "env:CALLS"\n', CALLS="postgresql://u:pw@h/calls")

    assert Ledger.url(own, "toy") == f"sqlite:///{tmp_path}/toy/calls.sqlite"
    assert Ledger.url(shared, "toy") == "postgresql://u:pw@h/calls"
    assert redact("postgresql://u:pw@h/calls") == "[redacted]"


def test_the_server_table_has_safe_defaults(tmp_path: Path) -> None:
    assert load(tmp_path).section("server", ServerTable).allowed_hosts == []


def test_a_program_may_give_the_secret_and_its_failure_does_not_repeat_it(tmp_path: Path) -> None:
    settings = load(tmp_path)
    program = tmp_path / "give secret.py"
    program.write_text("import sys; print('from-a-program'); sys.exit(len(sys.argv) - 1)", encoding="utf-8")
    command = f"command:{sys.executable} '{program}'"

    assert settings.secret(command) == "from-a-program"
    assert redact("it is from-a-program") == "it is [redacted]"
    with pytest.raises(InvalidInput, match="it failed") as caught:
        settings.secret(f"{command} --token=hunter22")
    assert "hunter22" not in str(caught.value) and "from-a-program" not in str(caught.value)
    with pytest.raises(InvalidInput, match="it is not there"):
        settings.secret("command:/no/such/program")


def test_the_keyring_of_the_operating_system_may_hold_the_secret(tmp_path: Path) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 1.0  # type: ignore[assignment]  # the base class has a property of that name

        def get_password(self, service: str, username: str) -> str | None:
            return "from-the-keyring" if (service, username) == ("crm", "us") else None

        def set_password(self, service: str, username: str, password: str) -> None:
            raise NotImplementedError

        def delete_password(self, service: str, username: str) -> None:
            raise NotImplementedError

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert load(tmp_path).secret("keyring:crm/us") == "from-the-keyring"
        with pytest.raises(InvalidInput, match="holds nothing for 'crm/them'"):
            load(tmp_path).secret("keyring:crm/them")
    finally:
        keyring.set_keyring(before)
