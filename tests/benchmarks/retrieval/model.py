"""How many passages a second of CPU the embedded model takes, beside the graph that its weights came in.

    python tests/benchmarks/retrieval/model.py

Passages of about 700 characters, one thread, tokens made beforehand; and how near the vectors of the two are.
`--other MODEL` puts a model of sentence-transformers (name or folder) beside them, where that extra is installed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import onnxruntime
from material import sentences
from tokenizers import Tokenizer

from usrland.embedding import embedder
from usrland.embedding.bert import SOURCE, graph
from usrland.embedding.minilm import MAX_TOKENS, TOKENIZER, WEIGHTS, _verified
from usrland.embedding.onnx import _saturates

PASSAGES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other")
    options = parser.parse_args()
    weights, tokenizer = _verified(WEIGHTS), Tokenizer.from_buffer(_verified(TOKENIZER))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    pool = sentences(4_000)
    texts = [" ".join(pool[start : start + 7])[:700] for start in range(0, 7 * PASSAGES, 7)]
    tokens = [numpy.array([tokenizer.encode(text).ids]) for text in texts]
    came, ours = _session(weights), _session(graph(weights, signed=not _saturates()))

    def theirs(ids: Any) -> Any:
        whole = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
        return came.run(None, whole)[0][0].mean(axis=0)

    first, vectors = rate(theirs, tokens)
    second, others = rate(lambda ids: ours.run(None, {SOURCE: ids})[0][0], tokens)
    near = [a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b) for a, b in zip(vectors, others, strict=True)]
    print(f"as it came {first:.1f} a CPU s, ours {second:.1f} ({second / first:.2f} times)")
    print(f"cosine mean {numpy.mean(near):.4f}, lowest {min(near):.4f}")
    if options.other:
        beside(options.other, texts, numpy.stack([each / numpy.linalg.norm(each) for each in others]))


def beside(name: str, texts: list[str], ours: Any) -> None:
    """Passages a CPU second, in as many threads as that library takes, and how near its vectors are to ours."""
    warnings.simplefilter("error")  # it says so a version ahead when it will change
    other = embedder(f"sentence-transformers:{name}")
    assert other is not None
    other.load()
    begun = time.process_time()
    vectors = other.documents(texts)
    rate = len(texts) / (time.process_time() - begun)
    cosine = "" if vectors.shape != ours.shape else f", cosine mean {(vectors * ours).sum(axis=1).mean():.4f}"
    print(
        f"{other.generation}: {rate:.1f} a CPU s{cosine}, to a question {other.query(texts[0]) @ vectors[0]:.4f}"
    )


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
