"""How well `fs_search` answers known questions: of a collection, or a person's own over their roots.

A collection is a folder as BEIR has them: `corpus.jsonl` ({_id, title, text}), `queries.jsonl` ({_id, text}) and
`qrels.tsv` or `qrels/test.tsv` (query, document, grade). Every document becomes a file in a root of a home of its
own. A person's own questions are lines of JSON, {"query": …, "paths": […]}: what should be found in the roots that
are open now. Either way a question is one call of the tool, and a file counts where its best passage stands.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filesystem_retrieval.config import SERVER, Table
from filesystem_retrieval.indexer import Progress
from usrland.cli.calling import Caller, calling
from usrland.errors import InvalidInput
from usrland.settings import Settings

__all__ = ["MODES", "Figures", "Trial", "evaluate", "read_trial"]

MODES = ("hybrid", "lexical", "semantic")
DEPTH = 10
MOST_HITS = 50
_NAMES = ("qrels.tsv", "qrels/test.tsv", "qrels/dev.tsv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Questions, and the grades of the files that answer them; documents by file name, where there are some."""

    questions: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]
    documents: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one model in one mode, over all questions."""

    embedding: str
    mode: str
    questions: int
    ndcg_at_10: float
    recall_at_10: float
    first_rank: float
    """The mean of one divided by the place of the first right file, 0 where none was found."""
    nothing_found: int
    p50_ms: float
    p95_ms: float


def read_trial(path: Path, suffix: str = ".txt") -> Trial:
    """A collection's folder or a file of questions. `suffix` is given to documents whose ids have none.

    Raises `InvalidInput` where it is neither.
    """
    try:
        return _collection(path, suffix) if path.is_dir() else _own_questions(path)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{str(path)!r} cannot be read as a collection or as questions: {error}.",
            fix="A collection is a folder with corpus.jsonl, queries.jsonl, qrels.tsv; questions are lines like "
            '{"query": "how are refunds paid", "paths": ["handbook/refunds.md"]}.',
        ) from error


async def evaluate(
    trial: Trial,
    settings: Settings,
    work: Path,
    embeddings: Sequence[str],
    modes: Sequence[str],
    progress: Progress,
) -> list[Figures]:
    """Index where that is still to be done, ask every question, and compare. `work` keeps what was indexed."""
    table = settings.section(SERVER, Table)
    found = []
    for embedding in embeddings or [table.embedding]:
        if trial.documents is None and embedding == table.embedding:
            here = settings
        else:
            here = _apart(trial, settings, work, embedding)
        async with calling(SERVER, here) as caller:
            await caller.service.state["index_once"](progress)
            found += [await _ask(caller, trial, embedding, mode, progress) for mode in modes]
    return found


def _apart(trial: Trial, settings: Settings, work: Path, embedding: str) -> Settings:
    """A home of its own for one model, over the collection's documents or over the same roots."""
    name = hashlib.sha256(embedding.encode()).hexdigest()[:12]
    table: dict[str, Any] = dict(settings.tables.get(SERVER, {}))
    if trial.documents is not None:
        table = {"roots": {"collection": str(_written(trial.documents, work))}}
    home = work / name
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, tables={SERVER: {**table, "embedding": embedding}})


def _written(documents: Mapping[str, str], work: Path) -> Path:
    folder = (work / "files").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in folder.iterdir():
        if file.name not in documents:
            file.unlink()
    return folder


async def _ask(caller: Caller, trial: Trial, embedding: str, mode: str, progress: Progress) -> Figures:
    gains, recalls, firsts, times = [], [], [], []
    for number, (key, question) in enumerate(trial.questions.items(), start=1):
        begun = time.perf_counter()
        answer = await caller.call("fs_search", query=question, mode=mode, limit=MOST_HITS)
        times.append(1000 * (time.perf_counter() - begun))
        ranked = _files(answer["items"], trial.grades[key])
        gains.append(_ndcg(ranked, trial.grades[key]))
        recalls.append(len(set(ranked[:DEPTH]) & trial.grades[key].keys()) / len(trial.grades[key]))
        firsts.append(next((1 / place for place, name in enumerate(ranked, 1) if name in trial.grades[key]), 0.0))
        await progress(f"{embedding} {mode}", number, len(trial.questions))
    times.sort()
    count = len(gains)
    return Figures(
        embedding=embedding,
        mode=mode,
        questions=count,
        ndcg_at_10=round(sum(gains) / count, 4),
        recall_at_10=round(sum(recalls) / count, 4),
        first_rank=round(sum(firsts) / count, 4),
        nothing_found=sum(first == 0.0 for first in firsts),
        p50_ms=round(times[count // 2], 1),
        p95_ms=round(times[count * 95 // 100], 1),
    )


def _files(items: Sequence[Mapping[str, Any]], grades: Mapping[str, int]) -> list[str]:
    """Files in the order of their best passages, by the names under which the answers know them."""
    ranked: dict[str, None] = {}
    for item in items:
        for path in (item["path"], *item.get("also_at", ())):
            full = f"{item['root']}/{path}"
            ranked[full if full in grades else path] = None
    return list(ranked)


def _ndcg(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    gain = sum(grades.get(name, 0) / math.log2(place + 2) for place, name in enumerate(ranked[:DEPTH]))
    best = sorted(grades.values(), reverse=True)[:DEPTH]
    return gain / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))


def _collection(folder: Path, suffix: str) -> Trial:
    names, documents = {}, {}
    for row in _rows(folder / "corpus.jsonl"):
        key, title, text = str(row["_id"]), row.get("title") or "", row.get("text") or ""
        # a digest: ids may hold what no file name can
        names[key] = hashlib.sha256(key.encode()).hexdigest()[:16] + (Path(key).suffix[:9] or suffix)
        documents[names[key]] = (text if text.startswith(title) else f"{title}\n\n{text}") or title
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    file = next((folder / name for name in _NAMES if (folder / name).exists()), folder / _NAMES[0])
    with file.open(encoding="utf-8", newline="") as lines:
        for query, document, grade in list(csv.reader(lines, delimiter="\t"))[1:]:
            if int(grade) > 0 and document in names:
                grades[query][names[document]] = int(grade)
    questions = {str(row["_id"]): row["text"] for row in _rows(folder / "queries.jsonl")}
    return _trial({key: text for key, text in questions.items() if key in grades}, grades, documents)


def _own_questions(file: Path) -> Trial:
    rows = _rows(file)
    grades = {}
    for number, row in enumerate(rows):
        paths = [row["path"]] if "path" in row else row["paths"]
        grades[str(number)] = dict.fromkeys(map(str, paths), 1)
    return _trial({str(number): row["query"] for number, row in enumerate(rows)}, grades, None)


def _trial(
    questions: Mapping[str, str], grades: Mapping[str, Mapping[str, int]], documents: Mapping[str, str] | None
) -> Trial:
    if not questions or not all(grades[key] for key in questions):
        raise ValueError("there is no question with an answer")
    return Trial(questions=questions, grades=grades, documents=documents)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
