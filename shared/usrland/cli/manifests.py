"""`usrland manifests`: what registries, bundles and hosts want to be told, made from the servers themselves.

A manifest that is written by hand is right on the day it is written. Here names, tools and versions are read
from the installed servers, the rest from one file, `source.toml`; `--check` compares what is committed with
what would be made. For a connector of one's own this works the same way, in its own folder.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from usrland.cli import hostfile
from usrland.cli.console import say
from usrland.cli.hosts import HOSTS
from usrland.cli.servers import Server, pick_servers
from usrland.connector import Service
from usrland.errors import InvalidInput, NotFound
from usrland.probe import Launch
from usrland.settings import Settings, explain

__all__ = ["files", "manifests"]

SOURCE = "source.toml"
REGISTRY_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
MAX_REGISTRY_DESCRIPTION = 100
ICON = "icon.png"
ICON_SIZE = "64x64"


class Setting(BaseModel):
    """One thing that a person is asked for before the server can start."""

    model_config = ConfigDict(extra="forbid")

    variable: str
    value: str = "{}"
    """What the variable holds; `{}` is the answer."""
    type: Literal["string", "number", "boolean", "directory", "file"] = "string"
    title: str
    description: str
    sensitive: bool = False


class ServerSource(BaseModel):
    """One table of the source."""

    model_config = ConfigDict(extra="forbid")

    keywords: list[str]
    platforms: list[Literal["darwin", "linux", "win32"]] = ["darwin", "linux", "win32"]
    """Where it was seen working."""
    settings: dict[str, Setting] = {}


class Source(BaseModel):
    """The whole file: four facts, and a table for each server."""

    model_config = ConfigDict(extra="allow")

    namespace: str
    """Reverse DNS, as the registry wants it."""
    author: str
    repository: str
    documentation: str
    __pydantic_extra__: dict[str, ServerSource]

    @property
    def servers(self) -> dict[str, ServerSource]:
        return self.__pydantic_extra__


def manifests(
    folder: Annotated[Path, typer.Argument(help="Holds source.toml; the files are made in it.")] = Path(
        "manifests"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 where a file differs.")
    ] = False,
) -> None:
    """Make each server's bundle, registry entry and host files from the servers themselves."""
    wanted = files(_source(folder / SOURCE), folder)
    stale = sorted(path for path, text in wanted.items() if _text(folder / path) != text)
    over = sorted(_made(folder, wanted) - wanted.keys())
    if check:
        for path in stale:
            say(f"differs    {folder / path}", "red")
        for path in over:
            say(f"left over  {folder / path}", "red")
        if stale or over:
            say(f"Make them again with: usrland manifests {folder}")
            raise typer.Exit(1)
        say(f"{len(wanted)} files are what the servers say.", "green")
        return
    for path in stale:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(wanted[path], encoding="utf-8", newline="\n")
        say(f"wrote    {folder / path}")
    for path in over:
        (folder / path).unlink()
        say(f"removed  {folder / path}")
    say(f"{len(wanted)} files, {len(stale)} written, {len(over)} removed.", "green")


def files(source: Source, folder: Path) -> dict[str, str]:
    """Every file by its path in the folder, where the icons are. Starts and opens nothing."""
    made: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))  # nobody's settings: the same on every computer
        for server in pick_servers(list(source.servers)):
            service = server.load(settings)
            about = source.servers[server.name]
            drawn = (folder / server.name / "bundle" / ICON).is_file()
            for path, text in _of(source, about, service, server, drawn):
                made[f"{server.name}/{path}"] = text
    return made


def _of(
    source: Source, about: ServerSource, service: Service, server: Server, drawn: bool
) -> Iterator[tuple[str, str]]:
    entry, bundle = _registry_entry(source, about, service, server), _bundle(source, about, service, server)
    if not drawn:  # an icon is a person's work, and optional
        for manifest, key in ((entry, "icons"), (bundle, "icon"), (bundle, "icons")):
            del manifest[key]
    yield "server.json", _json(entry)
    yield "bundle/manifest.json", _json(bundle)
    requirement = f"{server.package}=={server.version}"
    yield (
        "bundle/pyproject.toml",
        BUNDLE_PROJECT.format(
            name=service.name,
            version=server.version,
            python=metadata(server.package)["Requires-Python"],
            requirement=requirement,
        ),
    )
    yield "bundle/server.py", BUNDLE_SERVER.format(where=server.where)
    launch = Launch(command="uvx", arguments=("--from", requirement, "usrland", "serve", service.name))
    for host in HOSTS:
        name = f"hosts/{host.name}{Path(host.files['user']['linux'][0]).suffix}"
        yield name, hostfile.fragment(host, {service.name: host.write_entry(service.name, launch)})


def _registry_entry(source: Source, about: ServerSource, service: Service, server: Server) -> dict[str, Any]:
    if len(service.description) > MAX_REGISTRY_DESCRIPTION:
        raise InvalidInput(
            f"the description of {service.name!r} has {len(service.description)} characters.",
            fix=f"The registry takes {MAX_REGISTRY_DESCRIPTION}: shorten it in the server.",
        )
    folder = f"{source.repository}/raw/main/manifests/{service.name}/bundle"
    launch = {
        "registryType": "pypi",
        "identifier": server.package,
        "version": server.version,
        "runtimeHint": "uvx",
        "transport": {"type": "stdio"},
        "packageArguments": [{"type": "positional", "value": word} for word in ("serve", service.name)],
    }
    if about.settings:
        launch["environmentVariables"] = [_variable(name, setting) for name, setting in about.settings.items()]
    return {
        "$schema": REGISTRY_SCHEMA,
        "name": f"{source.namespace}/{service.name}",
        "title": service.title,
        "description": service.description,
        "version": server.version,
        "repository": {"url": source.repository, "source": "github"},
        "websiteUrl": source.documentation,
        "icons": [{"src": f"{folder}/{ICON}", "mimeType": "image/png", "sizes": [ICON_SIZE]}],
        "packages": [launch],
    }


def _variable(name: str, setting: Setting) -> dict[str, Any]:
    # the answer stands in the value as a variable of its own, so that the server gets what it can read
    path = setting.type in ("directory", "file")
    return {
        "name": setting.variable,
        "description": setting.description,
        "isRequired": True,
        "isSecret": setting.sensitive,
        "value": setting.value.replace("{}", f"{{{name}}}"),
        "variables": {
            name: {
                "description": setting.description,
                "format": "filepath" if path else "string",
                "isRequired": True,
                "isSecret": setting.sensitive,
            }
        },
    }


def _bundle(source: Source, about: ServerSource, service: Service, server: Server) -> dict[str, Any]:
    environment = {
        setting.variable: setting.value.replace("{}", f"${{user_config.{name}}}")
        for name, setting in about.settings.items()
    }
    facts = metadata(server.package)
    launch = {
        "command": "uv",
        "args": ["run", "--directory", "${__dirname}", "server.py"],
        "env": environment,
    }
    return {
        "manifest_version": "0.4",
        "name": service.name,
        "display_name": service.title,
        "version": server.version,
        "description": service.description,
        "long_description": service.instructions,
        "author": {"name": source.author},
        "repository": {"type": "git", "url": source.repository},
        "documentation": source.documentation,
        "icon": ICON,
        "icons": [{"src": ICON, "size": ICON_SIZE}],
        "server": {"type": "uv", "entry_point": "server.py", "mcp_config": launch},
        "tools": [
            {"name": each.name, "description": " ".join(each.description.split())}
            for each in service.operations
            if each.visible
        ],
        # settings decide which of them there are: a folder that may be changed has more
        "tools_generated": True,
        "keywords": about.keywords,
        "license": facts["License-Expression"] or "",
        "compatibility": {
            "platforms": about.platforms,
            "runtimes": {"python": facts["Requires-Python"]},
        },
        "user_config": {
            name: {
                "type": setting.type,
                "title": setting.title,
                "description": setting.description,
                "required": True,
                "sensitive": setting.sensitive,
            }
            for name, setting in about.settings.items()
        },
    }


BUNDLE_PROJECT = """\
[project]
name = "{name}-bundle"
version = "{version}"
requires-python = "{python}"
dependencies = ["{requirement}"]

[tool.uv]
package = false
"""

BUNDLE_SERVER = """\
from usrland.launch import launch

launch("{where}")
"""


def _source(path: Path) -> Source:
    try:
        return Source.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise NotFound(f"there is no {path}.", fix="Name the folder that holds it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}.", fix="Correct it.") from error
    except ValidationError as error:
        raise InvalidInput(f"{path}: {explain(error)}.", fix="Correct it.") from error


def _made(folder: Path, wanted: dict[str, str]) -> set[str]:
    """What lies in the folders of these servers, but the icons, which are drawn."""
    return {
        path.relative_to(folder).as_posix()
        for name in {path.partition("/")[0] for path in wanted}
        for path in (folder / name).rglob("*")
        if path.is_file() and path.name != ICON
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
