"""What holds of the product's own source and start: no shell, no network, no command out of a file."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from filesystem_retrieval.documents import Unreadable, extract

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(file for top in ("shared", "servers") for file in (ROOT / top).rglob("*.py"))
SERVERS = ("filesystem_retrieval", "enterprise_connectors", "memory_snapshot", "example_connector")


FORBIDDEN = ("os.system", "os.popen", "eval", "exec", "pickle.loads", "pickle.load", "marshal.loads")


def test_nothing_is_handed_to_a_shell_or_evaluated() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in FORBIDDEN, f"{file}:{node.lineno} calls {name}"
            for keyword in node.keywords:
                shell = keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                )
                assert not shell, f"{file}:{node.lineno} starts a shell"


@pytest.mark.parametrize("server", SERVERS)
def test_starting_and_listing_touches_no_network(server: str, tmp_path: Path) -> None:
    """The audit hook sees every connection and every name that is looked up, whatever library does it."""
    code = (
        "import sys\n"
        "seen = []\n"
        "def hook(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        seen.append((event, repr(arguments)))\n"
        "sys.addaudithook(hook)\n"
        "import anyio, importlib\n"
        "from pathlib import Path\n"
        "from mcp import Client\n"
        "from usrland.host import running\n"
        "from usrland.settings import Settings\n"
        "async def main():\n"
        f"    service = importlib.import_module('{server}.server').service\n"
        "    settings = Settings.load(Path(sys.argv[1]), {})\n"
        "    async with running(service(settings), settings) as host, Client(host.server) as client:\n"
        "        await client.list_tools()\n"
        "anyio.run(main)\n"
        "print(seen)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("usrland.toml", '[filesystem-retrieval]\ncommand = "touch ran"\n'),
        ("usrland.toml", '[server]\nlog = "INFO"\nrun = ["touch", "ran"]\n'),
        ("usrland.toml", 'command = "touch ran"\n'),
        ("connectors.toml", '[shop]\nkind = "sql"\nurl = "sqlite:///x"\ncommand = "touch ran"\n'),
        ("connectors.toml", '[shop]\nkind = "os:system"\nurl = "touch ran"\n'),
    ],
)
def test_no_file_of_ours_carries_a_command(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    server = "enterprise_connectors" if file == "connectors.toml" else "filesystem_retrieval"
    code = (
        f"import anyio, sys\nfrom {server}.server import service\n"
        "from usrland.settings import Settings, ServerTable\n"
        "from pathlib import Path\nfrom usrland.host import running\nfrom mcp import Client\n"
        "async def main():\n"
        "    settings = Settings.load(Path('.'), {})\n"
        "    settings.section('server', ServerTable)\n"
        "    async with running(service(settings), settings) as host, Client(host.server) as client:\n"
        "        tool = 'sys_find' if 'sys_find' in str(await client.list_tools()) else 'fs_status'\n"
        "        arguments = {'request': 'shop'} if tool == 'sys_find' else {}\n"
        "        print(await client.call_tool(tool, arguments))\n"
        "anyio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    said = done.stdout + done.stderr
    assert any(word in said for word in ("command", "run", "os:system")), said
    assert not (tmp_path / "ran").exists()


def test_what_a_caller_sends_stays_on_its_line_of_the_log(tmp_path: Path) -> None:
    code = (
        "import logging, sys\n"
        "from pathlib import Path\n"
        "from usrland.launch import _configure_logging\n"
        "from usrland.settings import Settings\n"
        "_configure_logging(Settings.load(Path(sys.argv[1]), {}))\n"
        "logging.getLogger('x').error('%s failed', 'tool\\nERROR forged\\r\\x1b[31m\\u202e')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)

    (line,) = done.stderr.splitlines()
    assert r"tool\nERROR forged" in line
    assert not set(line) & {"\x1b", "\u202e", "\r"}


# -- parsers in a box


def office(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


_TYPES = (
    b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    b'<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType='
    b'"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    b'<Relationship Id="r" '
    b'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    b'Target="word/document.xml"/></Relationships>'
)


def word(document: bytes) -> bytes:
    return office({"[Content_Types].xml": _TYPES, "_rels/.rels": _RELATIONS, "word/document.xml": document})


_W = b'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


async def test_entities_are_neither_multiplied_nor_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root-of-all-evil")
    laughs = b"".join(
        b'<!ENTITY l%d "%s">' % (depth, b"&l%d;" % (depth - 1) * 10 if depth else b"lol") for depth in range(9)
    )
    for entities, use in (
        (laughs, b"&l8;"),
        (b'<!ENTITY x SYSTEM "file://%s">' % os.fsencode(secret), b"&x;"),
        (b'<!ENTITY x SYSTEM "http://127.0.0.1:9/x">', b"&x;"),
    ):
        document = (
            b'<?xml version="1.0"?><!DOCTYPE d [' + entities + b"]><w:document " + _W + b"><w:body>"
            b"<w:p><w:r><w:t>before " + use + b" after</w:t></w:r></w:p></w:body></w:document>"
        )  # fmt: skip
        try:
            text = (await extract("x.docx", word(document))).text
        except Unreadable:
            continue
        assert "root-of-all-evil" not in text and len(text) < 10_000


def test_a_parser_has_no_network(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux takes it away")
    code = (
        "import socket\n"
        "from filesystem_retrieval.extract import _leave_the_network\n"
        "_leave_the_network()\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    try:\n"
        "        socket.create_connection(server.getsockname(), timeout=2)\n"
        "    except OSError as error:\n"
        "        print('cut off')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "cut off" or "Operation not permitted" in done.stderr, done.stdout + done.stderr
