"""Models through sentence-transformers, where it is installed: real ones, as small as can be, made here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from usrland.embedding import embedder, of_generation
from usrland.embedding.reranking import Reranker, reranker
from usrland.errors import Unavailable

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "walrus", "clams", "rain", "ice", "sleep", "north"]
TEXTS = ["rain", "walrus clams", "ice north sleep", "clams", "walrus sleep ice", "north rain rain", "walrus"]

installed = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)


def bert(folder: Path, kind: str, **options: Any) -> Path:
    """A BERT of one layer with weights by chance, always the same."""
    import torch
    import transformers

    torch.manual_seed(7)
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
        **options,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    return folder


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is not None, reason="it is installed")
def test_without_the_extra_its_name_is_told_for_both() -> None:
    chosen, judge = embedder("sentence-transformers:some/model"), reranker("sentence-transformers:m", seconds=1)
    assert chosen is not None
    assert judge is not None

    with pytest.raises(Unavailable, match=r"usrland\[sentence-transformers\]"):
        chosen.load()
    with pytest.raises(Unavailable, match=r"reranking by 'm' needs: .*usrland\[sentence-transformers\]"):
        judge.load()


@installed
def test_vectors_are_those_of_the_model_with_length_one(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = bert(tmp_path / "model", "BertModel")
    chosen = embedder(f"sentence-transformers:{folder}")
    assert chosen is not None
    assert not chosen.ready

    found = chosen.documents(TEXTS)

    right = SentenceTransformer(str(folder)).encode(TEXTS)
    assert found.shape == (len(TEXTS), chosen.dimensions) == (7, 16)
    assert all(abs(row @ row - 1) < 1e-5 for row in found)
    assert all((a @ b) / (b @ b) ** 0.5 > 0.999 for a, b in zip(found, right, strict=True))
    assert chosen.query("rain") @ found[0] > 0.999
    again = of_generation(chosen.generation)
    assert again is not None
    assert again.query("rain") @ found[0] > 0.999


@installed
@pytest.mark.parametrize("classes", [1, 2])
def test_passages_come_in_the_order_of_the_models_judgement(tmp_path: Path, classes: int) -> None:
    from sentence_transformers import CrossEncoder

    folder = bert(tmp_path / "model", "BertForSequenceClassification", num_labels=classes)

    order = made(folder, seconds=60).order("walrus ice", TEXTS)

    scores = CrossEncoder(str(folder)).predict([("walrus ice", text) for text in TEXTS]).reshape(len(TEXTS), -1)
    assert order == sorted(range(len(TEXTS)), key=lambda place: -scores[place][-1])
    assert order != list(range(len(TEXTS)))


@installed
def test_the_time_that_was_given_ends_the_judging(tmp_path: Path) -> None:
    judge = made(bert(tmp_path / "model", "BertForSequenceClassification", num_labels=1), seconds=0.0)

    assert judge.order("walrus ice", TEXTS) == list(range(len(TEXTS)))


@installed
def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"the reranking model .* cannot be loaded"):
        made(tmp_path, seconds=1).load()


def made(folder: Path, seconds: float) -> Reranker:
    judge = reranker(f"sentence-transformers:{folder}", seconds=seconds)
    assert judge is not None
    return judge
