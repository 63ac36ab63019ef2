"""What can be opened beneath a folder, by the kernel's own call and by the walk."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filesystem_retrieval import beneath
from filesystem_retrieval.beneath import opened
from usrland.errors import NotFound


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_libc", None)
    return str(request.param)


@pytest.fixture
def docs(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "guide.md").write_text("inside", encoding="utf-8")
    (tmp_path / "docs-secret").mkdir()
    (tmp_path / "docs-secret" / "key").write_text("outside", encoding="utf-8")
    (tmp_path / "key").write_text("outside", encoding="utf-8")
    yield folder


def read(root: Path, path: str) -> str:
    with opened(root, path) as file:
        return os.pread(file.fd, 100, 0).decode()


def test_a_file_beneath_is_opened(way: str, docs: Path) -> None:
    assert read(docs, "sub/guide.md") == "inside"
    assert read(docs, "sub//./guide.md") == "inside"


@pytest.mark.parametrize(
    "path",
    [
        "-secret/key",
        "/etc/passwd",
        "//etc/passwd",
        "",
        ".",
        "sub",
        "sub/guide.md/",
        "sub/guide.md\0",
        "\0",
        "sub\\guide.md",
        "%2e%2e/key",
        "x" * 5_000,
        "\udcff",
    ],
)
def test_what_is_outside_absent_or_no_file_gets_one_answer(way: str, docs: Path, path: str) -> None:
    with pytest.raises(NotFound) as error:
        read(docs, path)

    assert error.value.fact == f"there is no {path!r} here."


@pytest.mark.parametrize("path", ["../docs-secret/key", "../key", "sub/../../key", "sub/../guide.md", ".."])
def test_no_path_leads_upwards_whatever_is_there(way: str, docs: Path, path: str) -> None:
    with pytest.raises(NotFound) as error:
        read(docs, path)

    assert error.value.fact == "no path leads upwards by '..' here."


@pytest.mark.parametrize("target", ["/etc/passwd", "../key", "../docs-secret", "/proc/self/root", "chain", "loop"])
def test_a_link_that_leaves_the_folder_is_never_followed(way: str, docs: Path, target: str) -> None:
    (docs / "chain").symlink_to("chain2")
    (docs / "chain2").symlink_to("sub/../../docs-secret")
    (docs / "loop").symlink_to("loop")
    (docs / "link").symlink_to(target)

    for path in ("link", "link/key", "link/etc/passwd"):
        with pytest.raises(NotFound):
            read(docs, path)


def test_a_link_that_stays_inside_leads_to_where_it_points(docs: Path) -> None:
    (docs / "link.md").symlink_to("sub/guide.md")

    with opened(docs, "link.md") as file:
        assert file.path == "sub/guide.md"


def test_the_walk_follows_no_link_at_all(monkeypatch: pytest.MonkeyPatch, docs: Path) -> None:
    monkeypatch.setattr(beneath, "_libc", None)
    (docs / "link.md").symlink_to("sub/guide.md")

    with pytest.raises(NotFound):
        read(docs, "link.md")


def test_a_pipe_a_socket_and_a_device_are_no_files(way: str, docs: Path) -> None:
    os.mkfifo(docs / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(docs / "socket"))
        for name in ("pipe", "socket"):
            with pytest.raises(NotFound):
                read(docs, name)
    with pytest.raises(NotFound):
        read(Path("/dev"), "zero")


def test_a_descriptor_is_given_back_whatever_happens(way: str, docs: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("sub/guide.md", "sub", "no/such", "../key"):
        try:
            read(docs, path)
        except NotFound:
            continue

    assert len(list(Path("/proc/self/fd").iterdir())) == before


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["..", ".", "", "sub", "guide.md", "docs-secret", "key", "link", "%2e", "․․", "C:"]))
)
def test_no_path_reads_what_is_outside(docs: Path, parts: list[str]) -> None:
    with suppress(NotFound):
        assert read(docs, "/".join(parts)) == "inside"


def test_swapping_a_folder_for_a_link_meanwhile_leads_nowhere(way: str, docs: Path, tmp_path: Path) -> None:
    (docs / "real").mkdir()
    (docs / "real" / "key").write_text("inside", encoding="utf-8")
    (docs / "evil").symlink_to(tmp_path / "docs-secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (docs / "real").rename(docs / "away")
            (docs / "evil").rename(docs / "real")
            (docs / "real").rename(docs / "evil")
            (docs / "away").rename(docs / "real")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    for _ in range(3_000):
        try:
            seen.add(read(docs, "real/key"))
        except NotFound:
            seen.add("absent")
    stop.set()
    swapping.join()

    assert "outside" not in seen
    assert "inside" in seen


def test_a_file_that_is_replaced_meanwhile_keeps_its_name(docs: Path) -> None:
    (docs / "new (deleted)").write_text("a name like any other")
    (docs / "list.md").write_text("old")
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            (docs / ".draft").write_text("new")
            (docs / ".draft").replace(docs / "list.md")

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        names = set()
        for _ in range(3_000):
            with opened(docs, "list.md") as file:
                names.add(file.path)
    finally:
        stop.set()
        writer.join()

    assert names == {"list.md"}
    with opened(docs, "new (deleted)") as file:
        assert file.path == "new (deleted)"
