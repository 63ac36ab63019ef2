"""How much of the text that answers a question is inside the first 4,000 characters that `fs_search` returns.

    python tests/benchmarks/retrieval/excerpts.py DATA/chunking --work /tmp/excerpts

The folder holds `corpora/*.md` and `questions.jsonl`: {question, corpus_id, references: [{start_index,
end_index}]}, in characters. Passages are taken in their order until they have 4,000 characters; a passage counts
as those that it covers in its file. Recall is the share of the referenced characters that are among them,
precision the share of the referenced ones among all of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from quality import SERVER, indexed, served

BUDGET = 4_000


async def measure(data: Path, work: Path) -> None:
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "usrland.toml").write_text(
        f'[{SERVER}]\nroots = {{ docs = "{data / "corpora"}" }}\n', encoding="utf-8"
    )
    texts = {file.name: file.read_text(encoding="utf-8") for file in (data / "corpora").glob("*.md")}
    lines = (data / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    recalls, precisions = [], []
    async with served(home) as client:
        await indexed(client)
        for question in map(json.loads, lines):
            arguments = {"query": question["question"], "limit": 20, "max_tokens": 25_000}
            result = await client.call_tool("fs_search", arguments)
            shown = covered((result.structured_content or {})["items"], texts)
            file = f"{question['corpus_id']}.md"
            wanted = {
                (file, at)
                for reference in question["references"]
                for at in range(reference["start_index"], reference["end_index"])
            }
            recalls.append(len(wanted & shown) / len(wanted))
            precisions.append(len(wanted & shown) / len(shown) if shown else 0.0)
    count = len(recalls)
    print(f"{count} questions: recall {sum(recalls) / count:.4f} precision {sum(precisions) / count:.4f}")


def covered(items: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> set[tuple[str, int]]:
    """The characters of the files that the first passages show."""
    found: set[tuple[str, int]] = set()
    room = BUDGET
    for item in items:
        text, source = item["text"], texts[item["path"]]
        near = sum(len(line) + 1 for line in source.split("\n")[: item["first_line"] - 1])
        start = source.find(text, near)
        if start < 0:
            raise SystemExit(f"a passage of {item['path']} is not in the file")
        found |= {(item["path"], at) for at in range(start, start + min(len(text), room))}
        room -= len(text)
        if room <= 0:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    anyio.run(measure, options.data, options.work)


if __name__ == "__main__":
    main()
