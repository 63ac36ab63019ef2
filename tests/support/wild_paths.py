"""A folder with every kind of way out, and paths that try them."""

from __future__ import annotations

import random
from pathlib import Path

__all__ = ["ground", "wild_path"]

PARTS = [
    *("..", ".", "", "...", "....", "~", "ok.md", "sub", "deep", "secret.md", "docs", "docs-evil", "new", "*"),
    *(
        "out-folder",
        "out-file.md",
        "up",
        "chain-1",
        "loop",
        "evil",
        "self",
        "magic",
        "gone.md",
        "pack.zip",
        "a.md",
    ),
    *(
        "%2e%2e",
        "%2e",
        "..%2f",
        "%00",
        "\0",
        "\n",
        " ",
        "\\",
        "..\\",
        "C:",
        "con",
        "\uff0e\uff0e",
        "\u202e",
        "\ud800",
    ),
    *("proc", "self", "root", "etc", "passwd", "a" * 255, "a" * 300, "é", "e\u0301", "-rf", "$HOME", "`id`", ";"),
]
JOINTS = ["/", "/", "/", "//", "/./", "/../", "\\", "%2f", "\u2215"]


def ground(top: Path, root: Path, secret: str) -> None:
    """Fill the root, and what is around it: files that hold the secret, and links to them."""
    import zipfile

    for folder in (top, top / "docs-evil", top / "docs2"):
        folder.mkdir(exist_ok=True)
        (folder / "secret.md").write_text(f"{secret}\n", encoding="utf-8")
    (root / "sub" / "deep").mkdir(parents=True)
    for path in ("ok.md", "sub/ok.md", "sub/deep/ok.md"):
        (root / path).write_text("nothing to hide\n", encoding="utf-8")
    for name, target in (
        ("out-file.md", top / "secret.md"),
        ("out-folder", top),
        ("sub/up", Path("../..")),
        ("chain-1", Path("chain-2")),
        ("chain-2", Path("chain-3")),
        ("chain-3", top),
        ("loop", Path("loop")),
        ("evil", Path("../docs-evil")),
        ("self", Path()),
        ("proc", Path("/proc")),
        ("magic", Path("/proc/self/cwd")),
        ("gone.md", top / "docs-evil" / "made-by-a-write.md"),
    ):
        (root / name).symlink_to(target)
    with zipfile.ZipFile(root / "pack.zip", "w") as archive:
        for name in ("a.md", "../secret.md", "/etc/passwd", "sub/b.md"):
            archive.writestr(name, "nothing to hide\n")


def wild_path(chance: random.Random, top: Path) -> str:
    """Some parts, joined in some way; now and then it begins with a real folder, or is a good path."""
    if chance.random() < 0.1:
        return chance.choice(
            ["ok.md", "sub/ok.md", "sub//./deep/ok.md", "self/ok.md", "pack.zip/a.md", "docs/ok.md"]
        )
    path = "".join(chance.choice(PARTS) + chance.choice(JOINTS) for _ in range(chance.randint(1, 7)))
    if chance.random() < 0.7:
        path = path.rstrip("/\\")
    before = chance.choice(
        ["", "", "", "/", "./", "../", f"{top}/", f"{top}/docs/", f"/proc/self/cwd{top}/", "docs/"]
    )
    return before + path
