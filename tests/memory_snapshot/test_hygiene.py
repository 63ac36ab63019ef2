from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from memory_snapshot.hygiene import without_secrets
from memory_snapshot.said import Said
from memory_snapshot.server import service
from memory_snapshot.wire import Item
from usrland import InvalidInput
from usrland.host import running
from usrland.settings import Settings

TOKEN = "ghp_" + "a1B2" * 9
SECRETS = [
    TOKEN,
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "sk-ant-" + "x" * 40,
    "xoxb-" + "1" * 24,
    "AIza" + "b" * 35,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20,
    "postgresql://bob:" + "hunter22" + "@db.example.org/x",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_credential_is_refused_or_blanked_out(secret: str) -> None:
    said = Said(text=f"the key is {secret} ok")
    with pytest.raises(InvalidInput, match="nothing was stored") as refused:
        without_secrets(said, "refuse", "items[0]")
    clean = without_secrets(said, "redact", "items[0]").text

    assert secret not in str(refused.value)
    assert "[redacted]" in clean and secret not in clean and clean.startswith("the key is ")
    assert without_secrets(said, "keep", "items[0]") is said


@pytest.mark.parametrize(
    "text",
    [
        "the password is in the vault under db/main",
        "see https://example.org/a:b@c and mail bob@example.org",
        "skip-level meetings are on Fridays; task-force-of-the-north-eastern-region met",
        "commit 3eb6f2c585f5e1699204e3c3bdf7adc5c28cb376",
    ],
)
def test_ordinary_texts_go_through(text: str) -> None:
    assert without_secrets(Said(text=text), "refuse", "items[0]").text == text


async def test_a_secret_in_a_tag_or_key_is_found_too_and_nothing_is_stored(desk: Any) -> None:
    for item in (Item(text="x", key=TOKEN), Item(text="x", tags=[TOKEN]), Item(text="x", source={"uri": TOKEN})):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="GitHub token"):
            await desk.remember("tea", item)
    assert (await desk.status()).items == 0


async def test_an_operator_can_have_it_blanked_out(sit: Callable[..., Any]) -> None:
    desk = sit(secrets="redact")
    await desk.remember(f"the token is {TOKEN}")

    assert await desk.texts() == ["the token is [redacted]"]
    assert (await desk.verify()).problems == []


@pytest.mark.parametrize("policy", ["refuse", "redact"])
async def test_a_secret_that_was_sent_is_in_no_file_afterwards(tmp_path: Path, policy: str) -> None:
    settings = Settings(
        home=tmp_path / "home", tables={"memory-snapshot": {"embedding": "none", "secrets": policy}}
    )
    async with running(service(settings), settings) as host, Client(host.server) as client:
        result = await client.call_tool("memory_remember", {"items": [{"text": f"the token is {TOKEN}"}]})
        await client.call_tool("memory_status", {})

    assert result.is_error == (policy == "refuse")
    held = [file for file in settings.home.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert held == []
