"""A sentence encoder as an ONNX graph: tokenise, run, normalise.

One text is one run on one thread, and several texts are several threads: no padding, no barrier between threads
after every step, and one text's vector never depends on another text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy
import onnxruntime
from numpy import float32, int64
from numpy.typing import NDArray
from tokenizers import Tokenizer

from usrland.embedding.bert import SOURCE, graph, probe

__all__ = ["Encoder", "OnnxJudge"]

MAX_THREADS = 8
_ERRORS_ONLY = 3


class Encoder:
    """Session and tokenizer; both may be used from several threads at once."""

    def __init__(self, weights: bytes, tokenizer: bytes, *, max_tokens: int, threads: int | None = None) -> None:
        self._session = _session(graph(weights, signed=not _saturates()))
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        self._threads = threads or _threads()

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """One row of length 1 for each text."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        if not tokens:
            return numpy.empty((0, 0), dtype=float32)
        if len(tokens) == 1 or self._threads == 1:
            return numpy.stack([self._run(each) for each in tokens])
        with ThreadPoolExecutor(self._threads) as threads:
            return numpy.stack(list(threads.map(self._run, tokens)))

    def _run(self, tokens: Sequence[int]) -> NDArray[float32]:
        ((mean,),) = self._session.run(None, {SOURCE: numpy.array([tokens], dtype=int64)})
        normalised: NDArray[float32] = (mean / numpy.linalg.norm(mean)).astype(float32)
        return normalised


class OnnxJudge:
    """A cross-encoder: from a question and a text to how well the one answers the other."""

    def __init__(self, model: bytes, tokenizer: bytes, *, max_tokens: int) -> None:
        self._session = _session(model, _threads())
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.enable_truncation(max_tokens, strategy="only_second")
        self._tokenizer.no_padding()

    def score(self, query: str, text: str) -> float:
        pair = self._tokenizer.encode(query, text)
        given = {"input_ids": pair.ids, "attention_mask": pair.attention_mask, "token_type_ids": pair.type_ids}
        inputs = {name: numpy.array([row], dtype=int64) for name, row in given.items() if name in self._inputs}
        logits = self._session.run(None, inputs)[0].reshape(-1)
        return float(logits[-1])  # of two classes the second is that it answers


def _session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _saturates() -> bool:
    """Whether this processor adds 8-bit products up wrongly, as some do that have no instruction for them."""
    model, right = probe()
    ((((found,),),),) = _session(model).run(None, {SOURCE: numpy.ones((1, 1), dtype=int64)})
    return abs(float(found) - right) > 0.01 * right


def _threads() -> int:
    """The processor belongs to the user's other programs as well: of many cores, half."""
    cores = os.cpu_count() or 1
    return min(cores, max(2, cores // 2), MAX_THREADS)
