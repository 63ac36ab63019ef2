"""Vectors made by the workers of a real Ray, two of them, and committed into a real index."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import lancedb
import pytest

from usrland.embedding import Embedder
from usrland.embedding.minilm import MiniLM
from usrland.errors import InvalidInput, Unavailable
from usrland.search import HybridIndex, IndexRow
from usrland.search.cluster import embedded_on
from usrland.search.index import Sizes

needs_ray = pytest.mark.skipif(
    None in (importlib.util.find_spec("ray"), importlib.util.find_spec("lance")), reason="ray is not installed"
)

TEXTS = {f"{number}": f"The ferry to island {number} leaves pier {number + 1} at noon." for number in range(40)}
TEXTS["refund"] = "Customers are reimbursed within five working days of a cancellation."

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""As the kernel writes them."""


def rows(scope: str = "main") -> list[IndexRow]:
    return [IndexRow(id=key, scope=scope, group=key, text=text, extra=key) for key, text in TEXTS.items()]


async def filled(folder: Path, model: Embedder) -> HybridIndex:
    index = HybridIndex(folder, model)
    await index.upsert(rows(), embed=False)
    return index


async def vectors(folder: Path) -> list[Mapping[str, object]]:
    """What stands in the table of vectors, as it stands there."""
    database = await lancedb.connect_async(folder)
    (name,) = (name for name in (await database.list_tables()).tables if name != "lexical")
    found: list[Mapping[str, object]] = (await (await database.open_table(name)).query().to_arrow()).to_pylist()
    return sorted(found, key=lambda row: str(row["id"]))


def started() -> dict[int, bytes]:
    """What this process has started and still runs, and what that has: command lines by process id."""
    parents, names = dict[int, int](), dict[int, bytes]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            pid = int(folder.name)
            names[pid] = (folder / "cmdline").read_bytes()
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])

    def descends(pid: int) -> bool:
        return pid in parents and (parents[pid] == os.getpid() or descends(parents[pid]))

    return {pid: name for pid, name in names.items() if descends(pid)}


def workers() -> list[int]:
    return [pid for pid, name in started().items() if name.startswith(b"ray::Worker")]


def listening() -> set[str]:
    """The addresses, in hexadecimal, on which what was started waits for others."""
    sockets = set()
    for link in (link for pid in started() for link in Path(f"/proc/{pid}/fd").glob("*")):
        with suppress(OSError):
            sockets.add(str(link.readlink()))
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def logged(secret: str) -> tuple[int, list[Path]]:
    """How many files the Rays of this process have kept, and in which of them this stands."""
    sessions = Path("/tmp/ray").glob(f"session_*_{os.getpid()}")
    files = [path for session in sessions for path in session.rglob("*") if path.is_file()]
    return len(files), [path for path in files if secret.encode() in path.read_bytes()]


@needs_ray
async def test_workers_make_the_same_vectors_as_one_process_even_where_one_is_killed(
    tmp_path: Path, minilm: Embedder, capfd: pytest.CaptureFixture[str]
) -> None:
    alone, spread = await filled(tmp_path / "alone", minilm), await filled(tmp_path / "spread", minilm)
    killed: list[int] = []
    told: list[tuple[int, int]] = []

    async def tell(done: int, total: int) -> None:
        told.append((done, total))
        if not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    made = await alone.embed_pending(), await spread.embed_pending(tell, workers=2, ray="local")

    assert killed
    assert made == (41, 41)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (41, 41)
    assert await vectors(tmp_path / "alone") == await vectors(tmp_path / "spread")
    found = [await index.search("money back", scopes=["main"]) for index in (alone, spread)]
    assert [hit.id for hit in found[1].hits][:1] == ["refund"]
    assert found[0] == found[1]
    assert await spread.embed_pending(workers=2, ray="local") == 0
    assert capfd.readouterr().out == ""


@needs_ray
async def test_what_changed_while_shards_ran_gets_no_old_vector(tmp_path: Path, minilm: Embedder) -> None:
    index, other = await filled(tmp_path, minilm), HybridIndex(tmp_path, minilm)
    changed = IndexRow(id="0", scope="main", group="0", text="Rain is expected in the north.", extra="0")

    async def tell(done: int, total: int) -> None:
        if done < total < done + 10:
            await other.upsert([changed], embed=False)
            await other.delete(["1"])
            await other.move_groups(["2"], "elsewhere")
            await other.upsert([row for row in rows() if row.id == "20"])

    await index.embed_pending(tell, workers=2, ray="local")
    missing = await (await index._open()).without_vectors(minilm.generation, minilm.dimensions)
    there = {str(row["id"]): row for row in await vectors(tmp_path)}

    assert missing == ["0"]
    assert sorted(there) == sorted(TEXTS.keys() - {"0", "1"})
    assert there["2"]["scope"] == "elsewhere"
    assert len(await vectors(tmp_path)) == len(TEXTS) - 2
    assert await index.embed_pending() == 1
    assert (await index.search("wet weather", scopes=["main"], mode="semantic")).hits[0].id == "0"


@needs_ray
async def test_a_ray_that_was_started_here_is_for_nobody_else_and_writes_no_secret_down(tmp_path: Path) -> None:
    secret = secrets.token_hex(16)
    await HybridIndex(tmp_path, MiniLM()).upsert(rows())
    addresses: set[str] = set()

    async def embed(generation: str) -> None:
        options = {"aws_secret_access_key": secret}
        made = embedded_on("local", 1, ["0"], place=str(tmp_path), options=options, generation=generation)
        async with aclosing(made) as shards:
            async for _ in shards:
                addresses.update(listening())

    await (await HybridIndex(tmp_path, None)._open()).count_vectors(MiniLM.generation, MiniLM.dimensions)
    await embed(MiniLM.generation)
    with pytest.raises(Unavailable, match=r"a Ray worker on .* cannot load the model 'of another version'"):
        await embed("of another version")

    files, holding = logged(secret)
    assert addresses
    assert addresses <= LOOPBACK
    assert files
    assert holding == []


async def test_what_is_not_installed_is_said(
    tmp_path: Path, minilm: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = await filled(tmp_path, minilm)
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(Unavailable, match=r"pip install 'usrland\[ray\]'"):
        await index.embed_pending(ray="local")


@needs_ray
async def test_an_address_where_there_is_no_ray_is_said_at_once(tmp_path: Path, minilm: Embedder) -> None:
    index = await filled(tmp_path, minilm)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

    with (
        anyio.fail_after(30),
        pytest.raises(Unavailable, match=f"no Ray answers at '{address}'.*ray start --head"),
    ):
        await index.embed_pending(ray=address)
    with pytest.raises(InvalidInput, match="'somewhere' is no address"):
        await index.embed_pending(ray="somewhere")


@needs_ray
async def test_a_run_that_was_ended_goes_on_where_it_was_and_the_table_is_one_of_lancedb(
    tmp_path: Path, minilm: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.index.COMMIT_SECONDS", 0.0)
    monkeypatch.setattr("usrland.search.lance.MIN_FOR_INDEX", 10)
    monkeypatch.setattr("usrland.search.lance.MIN_UNINDEXED_ROWS", 0)
    index = await filled(tmp_path, minilm)
    done_before = 0

    async def stop(done: int, total: int) -> None:
        nonlocal done_before
        if done > 20:
            raise InterruptedError
        done_before = done

    with pytest.raises(InterruptedError):
        await index.embed_pending(stop, workers=2, ray="local")
    assert (await index.sizes()).vectors == done_before > 0
    assert workers() == []

    assert await index.embed_pending(workers=2, ray="local") == len(TEXTS) - done_before
    assert [row["id"] for row in await vectors(tmp_path)] == sorted(TEXTS)
    kinds = [each.index_type for each in await (await index._open())._vectors[minilm.generation].list_indices()]
    assert "IvfSq" in kinds
    await index.upsert([IndexRow(id="0", scope="main", text="Rain is expected in the north.")])
    await index.optimise(forget=True)
    assert (await index.search("wet weather", scopes=["main"], mode="semantic")).hits[0].id == "0"
    assert await index.sizes() == Sizes(rows=len(TEXTS), vectors=len(TEXTS))
