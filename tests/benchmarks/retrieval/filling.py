"""Fill another server's store through its own library, in its own environment; see `latency.py`.

/path/to/its/python filling.py qdrant FOLDER PASSAGES.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy

MODEL = "fast-all-minilm-l6-v2"
AT_ONCE = 1_000


def qdrant(folder: Path, texts: list[str], vectors: numpy.ndarray) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder / "store"))
    params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("documents", vectors_config={MODEL: params})
    for start in range(0, len(texts), AT_ONCE):
        points = [
            models.PointStruct(
                id=at,
                vector={MODEL: vectors[at].tolist()},
                payload={"document": texts[at], "metadata": {"name": str(at)}},
            )
            for at in range(start, min(start + AT_ONCE, len(texts)))
        ]
        client.upsert("documents", points)
    client.close()


def chroma(folder: Path, texts: list[str], vectors: numpy.ndarray) -> None:
    import chromadb

    collection = chromadb.PersistentClient(path=str(folder / "store")).create_collection("documents")
    for start in range(0, len(texts), AT_ONCE):
        end = min(start + AT_ONCE, len(texts))
        ids = [str(at) for at in range(start, end)]
        collection.add(ids=ids, embeddings=vectors[start:end], documents=texts[start:end])


def main() -> None:
    name, folder, given = sys.argv[1:]
    read = numpy.load(given)
    {"qdrant": qdrant, "chroma": chroma}[name](Path(folder), read["texts"].tolist(), read["vectors"])


if __name__ == "__main__":
    main()
