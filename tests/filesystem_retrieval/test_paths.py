"""No path leads out: what is known to have got through other file servers, and paths made at random.

The cases are those that the reference file server was fixed for (a folder whose name begins like the root's, and
links that lead out: CVE-2025-53110 and CVE-2025-53109) and what it documents that it refuses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wild_paths import ground, wild_path

from usrland.errors import InvalidInput, NotFound, UsrlandError

SECRET = "QUETZAL"

READ_CASES = [
    "../docs-evil/secret.md",  # begins like the root's own name
    "../docs-evil",
    "../docs2/secret.md",
    "..",
    "../",
    "../../",
    "sub/../../docs-evil/secret.md",
    "sub/../../secret.md",
    "./../secret.md",
    "sub/./../../secret.md",
    "....//secret.md",
    "..;/secret.md",
    "../secret.md",
    "{parent}/secret.md",  # absolute, outside
    "{parent}/docs-evil/secret.md",
    "{parent}/docs/../secret.md",
    "//{parent}/secret.md",
    "file://{parent}/secret.md",
    "~/secret.md",
    "$HOME/secret.md",
    "..\\secret.md",
    "..\\..\\secret.md",
    "sub\\..\\..\\secret.md",
    "C:\\secret.md",
    "C:/secret.md",
    "\\\\?\\C:\\secret.md",
    "//server/share/secret.md",
    "%2e%2e/secret.md",
    "%2e%2e%2fsecret.md",
    "..%2fsecret.md",
    "%252e%252e%252fsecret.md",
    "..%c0%afsecret.md",
    "\uff0e\uff0e/secret.md",  # full width
    "\u2025/secret.md",
    "..\u2215secret.md",
    "ok.md\0../secret.md",
    "../secret.md\0ok.md",
    "\0",
    "../secret.md ",
    " ../secret.md",
    "../secret.md\n",
    "ok.md/../../secret.md",
    "ok.md/..",
    "out-file.md",  # a link to a file outside
    "out-folder/secret.md",
    "out-folder",
    "sub/up/secret.md",  # a relative link out
    "chain-1/secret.md",
    "loop/secret.md",
    "loop",
    "evil/secret.md",  # a link to the folder whose name begins like the root's
    "self/../secret.md",
    "proc/self/root{parent}/secret.md",
    "magic/secret.md",
    "gone.md",  # a link to nothing
]


@pytest.fixture
def enclosed(make_desk: Callable[..., Any], tmp_path: Path) -> Any:
    desk = make_desk(roots={"docs": {"folder": str(tmp_path / "docs"), "writable": True}})
    ground(tmp_path, desk.folder, SECRET)
    return desk


async def told(desk: Any, tool: str, **arguments: Any) -> str:
    try:
        return str((await desk.use(tool, **arguments)).model_dump_json())
    except (NotFound, InvalidInput, UsrlandError) as error:
        return f"{error.code} {error} {error.details}"


async def test_no_path_that_is_known_to_lead_out_of_others_is_read_or_written(
    enclosed: Any, tmp_path: Path
) -> None:
    before = outside(tmp_path)

    for path in (case.replace("{parent}", str(tmp_path)) for case in READ_CASES):
        for root in ("docs", None):
            for tool, arguments in (
                ("fs_read", {"path": path}),
                ("fs_outline", {"path": path}),
                ("fs_list", {"path": path}),
                ("fs_history", {"path": path}),
                ("fs_write", {"path": path, "content": "taken"}),
                ("fs_write", {"path": f"{path}/new.md", "content": "taken"}),
                ("fs_edit", {"path": path, "old": SECRET, "new": "taken"}),
                ("fs_move", {"path": "ok.md", "to": path}),
                ("fs_move", {"path": path, "to": "taken.md"}),
            ):
                assert SECRET not in await told(enclosed, tool, root=root, **arguments), (tool, path)
        assert outside(tmp_path) == before, path
    assert SECRET not in "".join(each.text for each in (await enclosed.use("fs_grep", ".", regex=True)).items)


def outside(top: Path) -> dict[str, bytes]:
    """Everything beside the root."""
    files = [file for file in top.rglob("*") if file.is_file() and not file.is_symlink()]
    inside = (str(top / "docs") + "/", str(top / "home") + "/")
    return {str(file): file.read_bytes() for file in files if not str(file).startswith(inside)}


async def test_paths_made_at_random_stay_inside(enclosed: Any, tmp_path: Path) -> None:
    chance = random.Random(5)
    before = outside(tmp_path)
    answered = 0

    for _ in range(250):
        path = wild_path(chance, tmp_path)
        answer = await told(enclosed, "fs_read", path=path, root="docs")
        answered += answer.startswith("{")
        assert SECRET not in answer + await told(enclosed, "fs_list", path=path, root="docs")
        await told(enclosed, "fs_write", path=path, content="x", root="docs")
    assert answered > 5  # some of them are good paths
    assert outside(tmp_path) == before
