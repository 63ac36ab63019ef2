"""`usrland new NAME --from-openapi` and `--from-sql`: a connector whose operations are described already.

The project holds the description and a few lines that name it; the operations are those of the kinds `openapi`
and `sql`, which enterprise-connectors brings. Nothing is generated per endpoint: a new description is one file.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from usrland.errors import InvalidInput, Unavailable

__all__ = ["from_openapi", "from_sql"]

FETCH_SECONDS = 30
MAX_BYTES = 32 * 1024 * 1024
_ADDRESS = r"https?://[A-Za-z0-9.:/_~%-]+"


def from_openapi(name: str, source: str, base_url: str | None) -> dict[str, str]:
    """The files of the package that differ from the template's, by name.

    Raises `InvalidInput` where the description is none, or says not where requests go.
    """
    text = _fetch(source) if re.match(r"https?://", source) else _read(Path(source))
    document = _document(source, text)
    suffix = "json" if text.lstrip().startswith("{") else "yaml"
    address = base_url or _address(document)
    if not re.fullmatch(_ADDRESS, address):  # it goes into a program: a description is somebody else's text
        raise InvalidInput(
            "the description does not say where requests go.", fix="Say it: --base-url https://api.example.com"
        )
    title = _plain(str((document.get("info") or {}).get("title"))) or name
    return {
        f"openapi.{suffix}": text,
        "connector.py": OPENAPI_CONNECTOR.format(
            title=title, suffix=suffix, address=address, kind=name, **_names(name)
        ),
        "server.py": SERVER.format(title=title, about=title, file='"spec": str(SPEC), ', kind=name,
            imports="SPEC", **_names(name)),
        "test_contract.py": TEST.format(toml="", request=title, **_names(name)),
    }  # fmt: skip


def from_sql(name: str, url: str) -> dict[str, str]:
    """The same for a database. The URL is only looked at: it may hold a password, which stays out of files."""
    scheme = urlsplit(url).scheme
    if not scheme:
        raise InvalidInput("that is no database URL.", fix="As in: --from-sql postgresql://role@host/database")
    variable = f"{name.upper().replace('-', '_')}_URL"
    title = f"The database {name}"
    toml = f'    usrland_toml = "[{name}-connector]\\nurl = \\"sqlite:////nowhere.sqlite\\"\\n"\n'
    return {
        "connector.py": SQL_CONNECTOR.format(kind=name, variable=variable, **_names(name)),
        "server.py": SERVER.format(title=title, about=title, file=f'"url": "env:{variable}", ', kind=name,
            imports="KIND", **_names(name)),
        "test_contract.py": TEST.format(toml=toml, request="which tables are there", **_names(name)),
    }  # fmt: skip


def _names(name: str) -> dict[str, str]:
    words = name.split("-")
    return {
        "package": "_".join([*words, "connector"]),
        "classes": "".join(word.capitalize() for word in words),
        "system": "_".join(words)[:16].rstrip("_"),
    }


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{str(file)!r} cannot be read.", fix="Name an OpenAPI file or its address.") from error


def _fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # nosec B310 # http and https only
            content: bytes = answer.read(MAX_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unavailable(f"{url} does not answer.", fix="Save the description and name the file.") from error
    if len(content) > MAX_BYTES:
        raise InvalidInput(f"{url} is longer than {MAX_BYTES} bytes.", fix="Save it and name the file.")
    return content.decode("utf-8-sig", errors="replace")


def _document(source: str, text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"{source!r} is neither JSON nor YAML.", fix="Name an OpenAPI description.") from error
    if not isinstance(document, dict) or not (document.get("openapi") or document.get("swagger")):
        raise InvalidInput(f"{source!r} is no OpenAPI description.", fix="Name one of version 2 or 3.")
    return document


def _address(document: Mapping[str, Any]) -> str:
    """The first server that is an address as it stands; empty where there is none."""
    if document.get("host"):
        scheme = (document.get("schemes") or ["https"])[0]
        return f"{scheme}://{document['host']}{document.get('basePath') or ''}".rstrip("/")
    servers = [server.get("url") for server in document.get("servers") or [] if isinstance(server, dict)]
    return next((str(url).rstrip("/") for url in servers if re.fullmatch(_ADDRESS, str(url))), "")


def _plain(text: str) -> str:
    """Text from a description, as it may stand in a string of a program: a name is data, whatever it says."""
    return " ".join(re.sub(r"[^\w .,()&/-]", " ", text).split())[:80]


OPENAPI_CONNECTOR = '''\
"""{title}, from its OpenAPI description beside this file."""

from __future__ import annotations

from pathlib import Path

from enterprise_connectors.openapi import OpenApiConfig, OpenApiConnector

__all__ = ["SPEC", "{classes}Config", "{classes}Connector"]

SPEC = Path(__file__).with_name("openapi.{suffix}")


class {classes}Config(OpenApiConfig):
    """One table of settings. A secret is written as `env:NAME` or `file:/path`, as in
    `auth = {{ kind = "bearer", secret = "env:TOKEN" }}`."""

    spec: Path = SPEC
    base_url: str = "{address}"


class {classes}Connector(OpenApiConnector):
    """Every operation that the description names. Only what reads, unless the operator says `write = true`."""

    name = "{kind}"
    config_type = {classes}Config
'''

SQL_CONNECTOR = '''\
"""A database: read with one checked statement at a time, changed only where that was granted."""

from __future__ import annotations

from enterprise_connectors.sql import SqlConfig, SqlConnector

__all__ = ["KIND", "{classes}Config", "{classes}Connector"]

KIND = "{kind}"


class {classes}Config(SqlConfig):
    """One table of settings. `url` is `env:{variable}` unless it says otherwise; `tables` bounds what is seen."""


class {classes}Connector(SqlConnector):
    """Tables, their columns, queries and plans."""

    name = KIND
    config_type = {classes}Config
'''

SERVER = '''\
"""The connector as a server of its own: find, describe and call, however many operations there are."""

from __future__ import annotations

from enterprise_connectors.server import gateway
from enterprise_connectors.systems import configure
from usrland import Service
from usrland.settings import Settings

from {package}.connector import {imports}

__all__ = ["service"]

NAME = "{kind}-connector"


def service(settings: Settings) -> Service:
    """The server, from the table `[{kind}-connector]` of `usrland.toml`."""
    table = {{"kind": "{kind}", "about": "{about}", {file}**settings.tables.get(NAME, {{}})}}
    return gateway(
        settings,
        configure(settings, {{"{system}": table}}),
        name=NAME,
        title="{title}",
        description="Find and call the operations of {kind}.",
    )
'''

TEST = '''\
"""What every connector must do, inherited: schemas, risk, strictness, consent, budgets, start, end."""

from typing import ClassVar

from {package}.server import service
from usrland.testing import ServerContract


class TestContract(ServerContract):
    service = staticmethod(service)
    volatile = ("sys_find",)  # it finds better while it learns what the operations mean
{toml}    samples: ClassVar = {{"sys_find": {{"request": "{request}"}}}}
'''
