"""A cross-encoder in a folder."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from crossing import cross_encoder

from usrland.embedding import reranking
from usrland.embedding.reranking import Reranker, reranker
from usrland.errors import Unavailable


def made(folder: Path, seconds: float) -> Reranker:
    judge = reranker(str(folder), seconds=seconds)
    assert judge is not None
    return judge


def test_no_name_is_no_model() -> None:
    assert reranker("", seconds=1) is None


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx"])
def test_what_the_model_judges_best_comes_first(tmp_path: Path, name: str) -> None:
    judge = made(cross_encoder(tmp_path, name), seconds=60)

    assert judge.order("walrus", ["rain", "walrus", "walrus clams", "other", "clams"]) == [2, 4, 1, 3, 0]
    assert judge.order("walrus", []) == []


def test_what_there_was_no_time_for_follows_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    judge = made(cross_encoder(tmp_path), seconds=4.2)
    judge.load()
    monkeypatch.setattr(reranking.time, "monotonic", lambda: next(seconds))

    assert judge.order("walrus", ["rain", "walrus", "clams", "clams clams"]) == [1, 0, 2, 3]


@pytest.mark.parametrize("broken", ["nothing", "model", "tokenizer"])
def test_a_folder_that_holds_no_model_is_told(tmp_path: Path, broken: str) -> None:
    if broken != "nothing":
        cross_encoder(tmp_path)
        (tmp_path / {"model": "model.onnx", "tokenizer": "tokenizer.json"}[broken]).write_bytes(b"no")

    with pytest.raises(Unavailable, match="reranking model holds no model"):
        made(tmp_path, seconds=1).order("walrus", ["rain"])
