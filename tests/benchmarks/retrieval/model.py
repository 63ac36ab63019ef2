"""How many passages a second of CPU the embedded model takes, beside the graph that its weights came in.

    python tests/benchmarks/retrieval/model.py

Passages of about 700 characters, one thread, tokens made beforehand; and how near the vectors of the two are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy
import onnxruntime
from material import sentences
from tokenizers import Tokenizer

from usrland.embedding.bert import SOURCE, graph
from usrland.embedding.minilm import MAX_TOKENS, TOKENIZER, WEIGHTS, _verified

PASSAGES = 40


def main() -> None:
    weights, tokenizer = _verified(WEIGHTS), Tokenizer.from_buffer(_verified(TOKENIZER))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    pool = sentences(4_000)
    texts = [" ".join(pool[start : start + 7])[:700] for start in range(0, 7 * PASSAGES, 7)]
    tokens = [numpy.array([tokenizer.encode(text).ids]) for text in texts]
    came, ours = _session(weights), _session(graph(weights))

    def theirs(ids: Any) -> Any:
        whole = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
        return came.run(None, whole)[0][0].mean(axis=0)

    first, vectors = rate(theirs, tokens)
    second, others = rate(lambda ids: ours.run(None, {SOURCE: ids})[0][0], tokens)
    near = [a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b) for a, b in zip(vectors, others, strict=True)]
    print(f"as it came {first:.1f} a CPU s, ours {second:.1f} ({second / first:.2f} times)")
    print(f"cosine mean {numpy.mean(near):.4f}, lowest {min(near):.4f}")


def rate(embed: Callable[[Any], Any], tokens: list[Any]) -> tuple[float, list[Any]]:
    embed(tokens[0])
    begun = time.process_time()
    vectors = [embed(ids) for ids in tokens]
    return len(tokens) / (time.process_time() - begun), vectors


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


if __name__ == "__main__":
    main()
