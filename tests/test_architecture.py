"""The arrows of the design, held: who may import whom, and where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "shared" / "usrland"
SERVERS = sorted(path for path in (ROOT / "servers").iterdir() if (path / "__init__.py").exists())
SERVER_NAMES = {path.name for path in SERVERS}
FILES = sorted(file for top in (LIBRARY, *SERVERS) for file in top.rglob("*.py"))

ONE_HOME = {
    "mcp": {
        "usrland/host.py",
        "usrland/transport.py",
        "usrland/edge.py",
        "usrland/menu.py",
        "usrland/foreign.py",
        "usrland/testing",
    },
    "lancedb": {"usrland/search"},
    "lance": {"usrland/search/fragments.py", "usrland/search/cluster.py"},
    "ray": {"usrland/search/cluster.py"},
    "onnxruntime": {"usrland/embedding"},
    "tokenizers": {"usrland/embedding"},
    "sentence_transformers": {"usrland/embedding"},
    "httpx": {"usrland/http.py"},
    "httpx2": {"usrland/foreign.py"},  # what `mcp` speaks HTTP with: only to hand it our own client
    "h11": {"usrland/exchange.py"},
    "keyring": {"usrland/settings.py"},
    "opentelemetry": {"usrland/telemetry.py"},
    "uvicorn": {"usrland/transport.py"},
    "tree_sitter": {"filesystem_retrieval/grammars.py"},
    "alembic": {"usrland/database/migrate.py", "migrations"},
    "typer": {"usrland/cli", "filesystem_retrieval/commands", "memory_snapshot/commands"},
    "rich": {"usrland/cli"},
    "pytest": {"usrland/testing"},
    "gguf": {"usrland/embedding"},
}
"""Third-party package → the only places that may import it."""


def name(file: Path) -> str:
    return str(file.relative_to(file.parents[len(file.relative_to(ROOT).parts) - 2])).replace("\\", "/")


def imports(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_module_imports_only_what_it_may(file: Path) -> None:
    for module in imports(file):
        top = module.partition(".")[0]
        if LIBRARY in file.parents:
            assert top not in SERVER_NAMES, f"the library imports a server: {module}"
        elif top in SERVER_NAMES:
            assert top == file.relative_to(ROOT / "servers").parts[0], f"one server imports another: {module}"
        if top in ONE_HOME:
            places = ONE_HOME[top]
            assert any(place in name(file) for place in places), (
                f"{top} is imported in {name(file)}, not in {places}"
            )


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "settings.py"], ids=name)
def test_only_settings_reads_the_environment(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("environ", "getenv"), f"{name(file)}:{node.lineno} reads the environment"


HEAVY = ["lancedb", "pyarrow", "numpy", "onnxruntime", "tokenizers", "torch", "sqlalchemy", "sqlmodel", "alembic",
         "kreuzberg", "tree_sitter", "sqlglot", "httpx", "yaml", "typer", "rich", "ray"]  # fmt: skip


@pytest.mark.parametrize("server", sorted(SERVER_NAMES))
def test_nothing_heavy_is_imported_to_build_a_service(server: str, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from usrland.settings import Settings; "
        f"from {server}.server import service; service(Settings.load(pathlib.Path({str(tmp_path)!r}), {{}})); "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stdout + done.stderr
