"""A sentence encoder as an ONNX graph: tokenise, run, take the mean of the tokens, normalise.

The one module that imports onnxruntime, tokenizers and numpy; import it where a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import onnxruntime
from numpy import float32, int64
from numpy.typing import NDArray
from tokenizers import Tokenizer

__all__ = ["Encoder"]

BATCH = 8
THREADS = 2
_ERRORS_ONLY = 3


class Encoder:
    """Session and tokenizer; both may be used from several threads at once."""

    def __init__(self, weights: bytes, tokenizer: bytes, *, max_tokens: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        # waiting threads sleep instead of spinning: the processor belongs to the user's other programs as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """One row of length 1 for each text."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        # neighbours in length share a batch, so that little is spent on padding
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        if not batches:
            return numpy.empty((0, 0), dtype=float32)
        rows = numpy.concatenate([self._run([tokens[index] for index in batch]) for batch in batches])
        return rows[numpy.argsort(order)]

    def _run(self, tokens: Sequence[Sequence[int]]) -> NDArray[float32]:
        ids = numpy.zeros((len(tokens), max(map(len, tokens))), dtype=int64)
        mask = numpy.zeros_like(ids)
        for row, line in enumerate(tokens):
            ids[row, : len(line)] = line
            mask[row, : len(line)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        (hidden,) = self._session.run(None, inputs)
        weight = mask[:, :, None].astype(float32)
        mean = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
        normalised: NDArray[float32] = (mean / numpy.linalg.norm(mean, axis=1, keepdims=True)).astype(float32)
        return normalised
