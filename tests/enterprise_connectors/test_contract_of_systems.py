"""The contract that every server and connector inherits, over the operations of all kinds of systems at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from enterprise_connectors.server import service
from usrland.connector import Service
from usrland.pins import write_pins
from usrland.settings import Settings
from usrland.testing.calls import CallContract
from usrland.testing.start import StartContract

CONNECTORS = """
[box]\nkind = "mail"\nwrite = true\nimap = "imaps://x.test"\nsmtp = "smtps://x.test"\nsender = "a@x.test"
[work]\nkind = "rabbitmq"\nwrite = true\nurl = "amqp://x.test"
[ev]\nkind = "nats"\nwrite = true\nurl = "nats://x.test"
[plant]\nkind = "mqtt"\nwrite = true\nurl = "mqtt://x.test"
[arc]\nkind = "s3"\nwrite = true\nendpoint = "https://x.test"\naccess_key = "x"\nsecret = "env:S"
buckets = ["b-*"]\npresign = true
[staff]\nkind = "ldap"\nwrite = true\nurl = "ldaps://x.test"\nbase = "dc=x"
[staff.changes.set_phone]\ndescription = "Set a telephone number."\nattribute = "telephoneNumber"
[tools]\nkind = "mcp"\nwrite = true\nurl = "https://x.test/mcp"
"""
DEFINITIONS = [
    {
        "name": "doIt",
        "title": "",
        "description": "Do it.",
        "parameters": {
            "type": "object",
            "properties": {
                "what": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "how": {"$ref": "#/$defs/how"},
                "cursor": {"type": ["string", "null"]},
            },
            "required": ["how"],
            "$defs": {"how": {"enum": ["well", "badly"]}},
        },
        "hints": {},
    }
]


def systems(settings: Settings) -> Service:
    """One server whose tools are the operations of every kind, each as a tool of its own."""
    made = service(settings)
    catalogue = made.state["catalogue"]
    operations = [entry.operation for entry in catalogue.entries().values()]
    assert not catalogue.problems and len(operations) > 35
    return replace(made, operations=operations)


class TestEverySystem(StartContract, CallContract):
    """Only what asks nothing of a system: none of these exists, and each call would wait for one."""

    service: Callable[[Settings], Service] = staticmethod(systems)
    module: ClassVar[str] = "enterprise_connectors"
    max_tools: ClassVar[int] = 60
    max_listing_tokens: ClassVar[int] = 12_000

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """A home with one system of each kind, reviewed."""
        home = tmp_path / "home"
        folder = home / "enterprise-connectors" / "systems" / "tools"
        folder.mkdir(parents=True)
        (folder / "definitions.json").write_text(json.dumps(DEFINITIONS), encoding="utf-8")
        (home / "connectors.toml").write_text(CONNECTORS, encoding="utf-8")
        settings = Settings.load(home, environment={"S": "arc-word-1"})
        write_pins(home, service(settings).state["catalogue"].reviewable())
        return settings
