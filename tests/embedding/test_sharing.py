"""One model for several processes: the same vectors, for the owner only, and never needed."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import numpy
import pytest

from usrland.embedding import embedder
from usrland.embedding.minilm import MiniLM
from usrland.embedding.sharing import FOLDER, MAX_BYTES, MAX_TEXTS, SOCKET, Shared, share
from usrland.errors import Conflict, InvalidInput

pytestmark = pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="models are shared on Linux only")

TEXTS = [f"passage {number} about refunds and rain" for number in range(MAX_TEXTS + 3)]
SHARING = """
import sys
from pathlib import Path
import anyio
from usrland.embedding.minilm import MiniLM
from usrland.embedding.sharing import share
anyio.run(share, MiniLM(), "minilm", Path(sys.argv[1]), lambda: print("ready", flush=True))
"""
ASKING = """
import sys
from pathlib import Path
from usrland.embedding import embedder
model = embedder("minilm", home=Path(sys.argv[1]))
model.load()
print(model.query("walrus").shape, model.documents(["rain", "snow"]).shape, "onnxruntime" in sys.modules)
"""


@pytest.fixture(scope="module")
def alone() -> MiniLM:
    model = MiniLM()
    model.load()
    return model


@contextmanager
def shared(home: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SHARING, str(home)], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
        running.kill()


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with shared(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One whose model all tests share that leave it alone."""
    folder = tmp_path_factory.mktemp("home")
    with shared(folder) as running:
        yield folder
        assert running.poll() is None


@pytest.fixture
def asking(tmp_path: Path) -> Shared:
    model = embedder("minilm", home=tmp_path)
    assert isinstance(model, Shared)
    return model


@pytest.fixture
def guest(home: Path) -> Shared:
    model = embedder("minilm", home=home)
    assert isinstance(model, Shared)
    return model


def own(model: Shared) -> MiniLM:
    assert isinstance(model._own, MiniLM)
    return model._own


def test_the_shared_model_makes_the_vectors_that_the_own_one_makes(guest: Shared, alone: MiniLM) -> None:
    guest.load()

    assert guest.ready
    assert (guest.generation, guest.dimensions) == (alone.generation, alone.dimensions)
    assert (guest.documents(TEXTS) == alone.documents(TEXTS)).all()
    assert (guest.query("walrus") == alone.query("walrus")).all()
    assert len(guest.documents([])) == 0
    assert not own(guest).ready


def test_who_asks_loads_neither_the_model_nor_its_runtime(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKING, str(home)], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "(384,) (2, 384) False\n"


def test_where_nobody_shares_a_process_loads_its_own(asking: Shared, alone: MiniLM) -> None:
    asking.load()

    assert own(asking).ready
    assert (asking.query("walrus") == alone.query("walrus")).all()
    assert (asking.documents(TEXTS[:2]) == alone.documents(TEXTS[:2])).all()


@pytest.mark.parametrize("kind", ["documents", "query"])
def test_when_the_other_process_is_killed_the_own_model_goes_on(
    sharing: subprocess.Popen[str], asking: Shared, alone: MiniLM, kind: str
) -> None:
    asking.load()
    assert asking.query("before").shape == (384,)
    assert not own(asking).ready

    sharing.kill()
    sharing.wait()

    if kind == "query":
        assert (asking.query("walrus") == alone.query("walrus")).all()
    else:
        assert (asking.documents(["walrus"]) == alone.documents(["walrus"])).all()
    assert own(asking).ready


def test_one_that_was_killed_does_not_keep_the_next_from_sharing(
    sharing: subprocess.Popen[str], tmp_path: Path
) -> None:
    sharing.kill()
    sharing.wait()
    assert (tmp_path / FOLDER / SOCKET).exists()

    with subprocess.Popen(
        [sys.executable, "-c", SHARING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as again:
        assert again.stdout is not None
        assert again.stdout.readline() == "ready\n"
        again.send_signal(signal.SIGTERM)
        assert again.wait(10) == 0

    assert not (tmp_path / FOLDER / SOCKET).exists()


async def test_a_home_shares_one_model(home: Path, alone: MiniLM) -> None:
    with pytest.raises(Conflict, match="another process shares a model"):
        await share(alone, "minilm", home)


def test_a_model_of_another_name_is_not_taken_for_it(home: Path) -> None:
    guest = Shared(MiniLM(), "sentence-transformers:other", home)

    guest.load()

    assert own(guest).ready


@pytest.mark.usefixtures("sharing")
def test_the_folder_is_the_owners_alone_and_one_that_others_may_enter_is_not_asked(
    tmp_path: Path, asking: Shared
) -> None:
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / FOLDER / SOCKET).stat().st_mode & 0o177 == 0

    (tmp_path / FOLDER).chmod(0o711)
    asking.load()

    assert own(asking).ready


def framed(told: object, length: int | None = None) -> bytes:
    head = json.dumps(told).encode()
    return struct.pack(">II", len(head) if length is None else length, 0) + head


NO_QUESTION = {
    "another kind": {"model": "minilm", "as": "code", "texts": ["a"]},
    "no texts": {"model": "minilm", "as": "query", "texts": []},
    "two questions": {"model": "minilm", "as": "query", "texts": ["a", "b"]},
    "numbers": {"model": "minilm", "as": "documents", "texts": [1]},
    "a text": {"model": "minilm", "as": "documents", "texts": "a"},
    "too many": {"model": "minilm", "as": "documents", "texts": ["a"] * (MAX_TEXTS + 1)},
}


@pytest.mark.parametrize("asked", NO_QUESTION.values(), ids=list(NO_QUESTION))
def test_what_is_no_question_is_told_and_costs_nobody_the_model(home: Path, guest: Shared, asked: object) -> None:
    with closing(connected(home)) as raw:
        raw.sendall(framed(asked))

        assert b"that is no question" in raw.recv(1_000)

    assert guest.query("still there").shape == (384,)


NO_MESSAGE = {
    "too long": framed({}, MAX_BYTES + 1),
    "no JSON": struct.pack(">II", 3, 0) + b"\xff{]",
    "no object": framed(["minilm"]),
    "content": struct.pack(">II", 2, 9) + b"{}",
}


@pytest.mark.parametrize("sent", NO_MESSAGE.values(), ids=list(NO_MESSAGE))
def test_who_sends_what_is_no_message_is_left(home: Path, guest: Shared, sent: bytes) -> None:
    with closing(connected(home)) as raw:
        raw.sendall(sent)

        assert is_left(raw)

    guest.load()
    assert guest.query("still there").shape == (384,)
    assert not own(guest).ready


def connected(home: Path) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.settimeout(20)
    raw.connect(str(home / FOLDER / SOCKET))
    return raw


def is_left(raw: socket.socket) -> bool:
    try:
        return raw.recv(1_000) == b""
    except ConnectionResetError:  # what was sent was not read to its end
        return True


def of_nobody(tmp_path: Path, program: str) -> subprocess.Popen[str]:
    """A process that becomes another user after its first line."""
    program = f"import os, socket, sys\npath = sys.argv[1]\n{program}"
    arguments = [sys.executable, "-c", program, str(tmp_path / FOLDER / SOCKET)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@contextmanager
def opened(*folders: Path) -> Iterator[None]:
    """Folders that everybody may enter for a while."""
    modes = [folder.stat().st_mode & 0o7777 for folder in folders]
    for folder in folders:
        folder.chmod(0o755)
    try:
        yield
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)


needs_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes somebody else")


@needs_root
@pytest.mark.usefixtures("sharing")
@pytest.mark.parametrize("user", [0, 65534])
def test_only_the_owner_gets_an_answer_even_where_the_folder_was_opened(tmp_path: Path, user: int) -> None:
    (tmp_path / FOLDER / SOCKET).chmod(0o666)
    asked = framed({"model": "minilm"})

    with (
        opened(tmp_path / FOLDER, tmp_path, *tmp_path.parents[:2]),
        of_nobody(
            tmp_path,
            f"os.setuid({user})\nraw = socket.socket(socket.AF_UNIX)\nraw.connect(path)\ntry:\n"
            f"    raw.sendall({asked!r})\n    print(raw.recv(1000))\nexcept OSError:\n    print(b'')",
        ) as nobody,
    ):
        said, _ = nobody.communicate(timeout=60)

    assert (MiniLM.generation in said) == (user == 0)


@needs_root
def test_a_model_of_another_user_is_not_asked(tmp_path: Path, asking: Shared) -> None:
    (tmp_path / FOLDER).mkdir(mode=0o700)

    with of_nobody(
        tmp_path,
        "raw = socket.socket(socket.AF_UNIX)\nraw.bind(path)\nos.setuid(65534)\nraw.listen()\n"
        "print('ready', flush=True)\nprint(raw.accept()[0].recv(1000), flush=True)",
    ) as nobody:
        assert nobody.stdout is not None
        assert nobody.stdout.readline() == "ready\n"

        asking.load()

        assert own(asking).ready
        assert nobody.stdout.readline() == "b''\n"


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """A process of our own that answers wrongly: once it is told how, with just that."""
    (tmp_path / FOLDER).mkdir(mode=0o700)
    running: list[subprocess.Popen[str]] = []

    def start(answer: bytes) -> None:
        program = (
            "import socket, sys\nraw = socket.socket(socket.AF_UNIX)\nraw.bind(sys.argv[1])\nraw.listen()\n"
            "print('ready', flush=True)\nwhile True:\n    other, _ = raw.accept()\n    other.recv(100)\n"
            f"    other.sendall({answer!r})\n    other.close()\n"
        )
        arguments = [sys.executable, "-c", program, str(tmp_path / FOLDER / SOCKET)]
        running.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        assert running[0].stdout is not None
        assert running[0].stdout.readline() == "ready\n"

    yield start
    for each in running:
        each.kill()
        each.communicate()


WRONG = {
    "nothing": b"",
    "too long": struct.pack(">II", 2, MAX_BYTES) + b"{}",
    "cut off": struct.pack(">II", 90, 0) + b"{",
    "no object": framed([]),
    "another version": framed({"generation": "all-MiniLM-L6-v1", "dimensions": 384}),
    "no dimensions": framed({"generation": MiniLM.generation, "dimensions": "384"}),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=list(WRONG))
def test_an_answer_that_cannot_be_right_is_not_taken(
    answering: Callable[[bytes], None], asking: Shared, answer: bytes
) -> None:
    answering(answer)

    asking.load()

    assert own(asking).ready


def test_vectors_of_another_length_are_not_taken(
    answering: Callable[[bytes], None], asking: Shared, alone: MiniLM
) -> None:
    answering(framed({"generation": MiniLM.generation, "dimensions": 384}))
    asking.load()
    assert not own(asking).ready

    assert (asking.query("walrus") == alone.query("walrus")).all()


async def test_a_home_whose_path_is_too_long_for_a_socket_is_told(tmp_path: Path, alone: MiniLM) -> None:
    with pytest.raises(InvalidInput, match="too long"):
        await share(alone, "minilm", tmp_path / ("long" * 25))


async def test_many_ask_at_once(guest: Shared, alone: MiniLM) -> None:
    guest.load()
    found: dict[int, numpy.ndarray] = {}

    async def ask(number: int) -> None:
        found[number] = await anyio.to_thread.run_sync(guest.query, TEXTS[number])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, number)

    assert not own(guest).ready
    assert all((found[number] == alone.query(TEXTS[number])).all() for number in range(20))
