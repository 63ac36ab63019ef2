"""`manifests/`: what is committed is what the running servers say, and what the registries accept."""

from __future__ import annotations

import json
import re
import shutil
import struct
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from usrland.probe import Launch, bare_environment, probe

MANIFESTS = Path(__file__).parents[2] / "manifests"
SERVERS = ("enterprise-connectors", "filesystem-retrieval", "memory-snapshot")
MAX_ICON_BYTES = 2_000


def bundle(server: str) -> Any:
    return json.loads((MANIFESTS / server / "bundle" / "manifest.json").read_text(encoding="utf-8"))


def registry_entry(server: str) -> Any:
    return json.loads((MANIFESTS / server / "server.json").read_text(encoding="utf-8"))


def test_what_is_committed_is_what_the_servers_say(installation: Any) -> None:
    assert "files are what the servers say" in installation.run("manifests", MANIFESTS, "--check")


def test_a_change_is_found_and_made_good(installation: Any) -> None:
    folder = installation.project / "manifests"
    shutil.copytree(MANIFESTS, folder)
    changed = folder / "memory-snapshot" / "bundle" / "manifest.json"
    right = changed.read_text(encoding="utf-8")
    changed.write_text(right.replace("memory_recall", "memory_search"), encoding="utf-8")
    (folder / "memory-snapshot" / "hosts" / "some-other-host.json").write_text("{}", encoding="utf-8")

    said = installation.run("manifests", "--check", exit_code=1)
    assert str(Path("memory-snapshot/bundle/manifest.json")) in said and "some-other-host" in said
    assert "memory_search" in changed.read_text(encoding="utf-8"), "a check changes nothing"

    installation.run("manifests")
    assert changed.read_text(encoding="utf-8") == right
    installation.run("manifests", "--check")


def test_a_source_with_a_mistake_is_refused_with_its_place(installation: Any) -> None:
    folder = installation.project / "manifests"
    assert "there is no manifests" in installation.run("manifests", exit_code=1)
    folder.mkdir()
    (folder / "source.toml").write_text('namespace = "io.github.x"\n[memory-snapshot]\nkeyword = []\n')

    said = installation.run("manifests", exit_code=1)

    assert "memory-snapshot.keyword" in said and "author" in said


@pytest.mark.parametrize("server", SERVERS)
def test_the_registry_accepts_the_entry(server: str) -> None:
    schema = resources.files("skillsaw") / "schemas" / "mcp_registry" / "v2025_12_11" / "server.schema.json"
    entry = registry_entry(server)

    assert entry["$schema"] == json.loads(schema.read_text(encoding="utf-8"))["$id"]
    jsonschema.validate(entry, json.loads(schema.read_text(encoding="utf-8")), jsonschema.Draft7Validator)
    assert entry["name"].endswith(f"/{server}")


@pytest.mark.parametrize("server", SERVERS)
def test_a_bundle_starts_from_its_own_files_and_has_the_tools_it_names(server: str, tmp_path: Path) -> None:
    folder = MANIFESTS / server / "bundle"
    manifest = bundle(server)
    chosen = tmp_path / "it's a folder"  # the answer goes into a value that the server parses
    chosen.mkdir()
    variables = manifest["server"]["mcp_config"]["env"]
    for name in manifest["user_config"]:
        variables = {key: text.replace(f"${{user_config.{name}}}", str(chosen)) for key, text in variables.items()}
    assert "${" not in "".join(variables.values())
    environment = {**bare_environment({}), **variables, "USRLAND_HOME": str(tmp_path / "home")}
    entry_point = folder / manifest["server"]["entry_point"]

    seen = probe(Launch(command=sys.executable, arguments=(str(entry_point),), environment=environment))

    assert not seen.failure and not seen.noise, seen
    assert (seen.server, seen.version) == (manifest["name"], manifest["version"])
    assert [tool["name"] for tool in seen.tools] == [tool["name"] for tool in manifest["tools"]]
    for tool, named in zip(seen.tools, manifest["tools"], strict=True):
        assert " ".join(tool["description"].split()) == named["description"]


@pytest.mark.parametrize("server", SERVERS)
def test_the_files_of_one_server_agree(server: str) -> None:
    manifest, entry = bundle(server), registry_entry(server)
    project = tomllib.loads((MANIFESTS / server / "bundle" / "pyproject.toml").read_text(encoding="utf-8"))
    (package,) = entry["packages"]

    assert manifest["version"] == entry["version"] == package["version"] == project["project"]["version"]
    assert project["project"]["dependencies"] == [f"{package['identifier']}=={package['version']}"]
    asked = {variable["name"] for variable in package.get("environmentVariables", [])}
    assert asked == manifest["server"]["mcp_config"]["env"].keys()


@pytest.mark.parametrize("server", SERVERS)
def test_the_icon_is_small_and_as_large_as_it_says(server: str) -> None:
    manifest = bundle(server)
    content = (MANIFESTS / server / "bundle" / manifest["icon"]).read_bytes()

    assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) <= MAX_ICON_BYTES
    width, height = struct.unpack(">II", content[16:24])
    assert manifest["icons"] == [{"src": manifest["icon"], "size": f"{width}x{height}"}]


def test_no_file_names_a_place_on_somebodys_computer() -> None:
    for path in MANIFESTS.rglob("*"):
        if path.is_file() and path.suffix != ".png":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"[A-Z]:\\|/(home|Users|root|tmp|work|opt|usr|var)/", text), path
