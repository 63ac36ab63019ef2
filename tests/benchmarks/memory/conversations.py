"""What a memory finds again, and keeps in a budget, measured through its tools.

    python tests/benchmarks/memory/conversations.py locomo FILE [--half first|second] [--floor]
    python tests/benchmarks/memory/conversations.py beam FOLDER

Each conversation is remembered turn by turn in a server of its own and asked its own questions. `locomo` takes
LoCoMo's file of conversations, `beam` a folder of BEAM's `chat_N.json` and `probes_N.json`. Neither is part of
this repository.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import anyio
from mcp import Client

from memory_snapshot.server import service
from usrland.host import running
from usrland.settings import Settings

BUDGETS = (1_000, 2_000, 4_000)
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


@dataclass(frozen=True)
class Turn:
    name: str
    session: str
    speaker: str
    text: str
    date: str | None


@dataclass(frozen=True)
class Question:
    text: str
    evidence: frozenset[str]
    group: str


@dataclass(frozen=True)
class Conversation:
    name: str
    turns: Sequence[Turn]
    questions: Sequence[Question]


@dataclass
class Figures:
    """Means over questions, by name and group."""

    values: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, name: str, group: str, value: float) -> None:
        self.values[name][group].append(value)

    def mean(self, name: str, groups: Iterable[str] | None = None) -> float:
        found = self.values[name]
        return fmean(value for group in (groups or found) for value in found.get(group, []))


@asynccontextmanager
async def remembered(conversation: Conversation) -> AsyncIterator[tuple[Client, dict[str, str]]]:
    """A server that was told the conversation, and item id → turn."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), tables={})
        async with running(service(settings), settings) as host, Client(host.server) as client:
            names: dict[str, str] = {}
            for start in range(0, len(conversation.turns), 100):
                some = conversation.turns[start : start + 100]
                answer = await call(client, "memory_remember", items=[item(turn) for turn in some])
                names.update(
                    {done["item_id"]: turn.name for done, turn in zip(answer["items"], some, strict=True)}
                )
            while "degraded" in await call(client, "memory_recall", query="hello"):  # noqa: ASYNC110
                await anyio.sleep(0.5)  # there is nothing to wait for but the answer itself
            yield client, names


def item(turn: Turn) -> dict[str, Any]:
    source = {"uri": turn.session, "span": turn.name}
    found = {"text": turn.text, "kind": "transcript", "speaker": turn.speaker, "source": source}
    return {**found, "valid_from": turn.date} if turn.date else found


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    if result.is_error:
        raise SystemExit(str(result.content))
    return dict(result.structured_content or {})


async def recalled(client: Client, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await call(client, "memory_recall", query=query, limit=100, max_tokens=25_000, **cursor)
        found += page["items"]
        if "cursor" not in page:
            return found
        cursor = {"cursor": page["cursor"]}


async def measure(conversation: Conversation, figures: Figures) -> None:
    sessions = {turn.name: turn.session for turn in conversation.turns}
    async with remembered(conversation) as (client, names):
        for question in conversation.questions:
            hits = [names[hit["id"]] for hit in await recalled(client, question.text)]
            for most in (5, 10, 20):
                share = len(question.evidence.intersection(hits[:most])) / len(question.evidence)
                figures.add(f"recall@{most}", question.group, share)
            figures.add("nDCG@10", question.group, gain(hits[:10], question.evidence))
            wanted = {sessions[name] for name in question.evidence}
            line = list(dict.fromkeys(sessions[name] for name in hits))
            for most in (5, 10):
                share = len(wanted.intersection(line[:most])) / len(wanted)
                figures.add(f"session recall@{most}", question.group, share)
            for budget in BUDGETS:
                pack = await call(client, "memory_restore", query=question.text, budget_tokens=budget)
                kept = {names[name] for name in re.findall(r"^\[(\w{8})\]", pack["text"], re.MULTILINE)}
                share = len(question.evidence & kept) / len(question.evidence)
                figures.add(f"kept in {budget} tokens", question.group, share)
            sys.stderr.write(".")
            sys.stderr.flush()
    sys.stderr.write(f" {conversation.name}\n")


def gain(hits: Sequence[str], evidence: frozenset[str]) -> float:
    """nDCG with one grade."""
    got = sum(1 / math.log2(place + 2) for place, name in enumerate(hits) if name in evidence)
    return got / sum(1 / math.log2(place + 2) for place in range(min(len(hits) or 1, len(evidence), 10)))


async def measure_floor(conversations: Sequence[Conversation]) -> tuple[float, float]:
    """AUROC of the first hit's confidence, and how many unanswerable questions are answered where nine tenths of
    the answerable are. Unanswerable: questions of the other conversations, with this one's names."""
    chance = random.Random(1)
    answerable: list[float] = []
    unanswerable: list[float] = []
    for conversation in conversations:
        own = [question.text for question in conversation.questions if question.group != "adversarial"]
        others = [
            renamed(question.text, other, conversation)
            for other in conversations
            if other is not conversation
            for question in other.questions
            if question.group != "adversarial"
        ]
        async with remembered(conversation) as (client, _):
            for texts, most, found in ((own, 80, answerable), (others, 90, unanswerable)):
                for text in chance.sample(texts, min(most, len(texts))):
                    hits = (await call(client, "memory_recall", query=text, limit=1))["items"]
                    found.append(hits[0]["confidence"] if hits else 0.0)
    pairs = [(a > b) + (a == b) / 2 for a in answerable for b in unanswerable]
    threshold = sorted(answerable)[len(answerable) // 10]
    return fmean(pairs), fmean(value >= threshold for value in unanswerable)


def renamed(text: str, other: Conversation, own: Conversation) -> str:
    theirs, ours = (list(dict.fromkeys(turn.speaker for turn in found.turns)) for found in (other, own))
    for old, new in zip(theirs, ours, strict=False):
        text = re.sub(rf"\b(?:{old}|{old[:3]})\b", new, text)
    return text


def locomo(file: Path) -> list[Conversation]:
    return [_locomo(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]


def _locomo(entry: dict[str, Any]) -> Conversation:
    said = entry["conversation"]
    turns: list[Turn] = []
    for number in range(1, 100):
        if (date := said.get(f"session_{number}_date_time")) is None:
            continue
        when = datetime.strptime(date, "%I:%M %p on %d %B, %Y").isoformat()
        for turn in said.get(f"session_{number}", []):
            caption = f" [shares image: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            turns.append(Turn(turn["dia_id"], f"session {number}", turn["speaker"], turn["text"] + caption, when))
    names = {turn.name for turn in turns}
    questions = []
    for asked in entry["qa"]:
        cited = re.findall(r"D:?(\d+):(\d+)", " ".join(asked.get("evidence", [])))
        evidence = frozenset(f"D{int(session)}:{int(turn)}" for session, turn in cited) & names
        if evidence:
            questions.append(Question(asked["question"], evidence, CATEGORIES[asked["category"]]))
    return Conversation(entry["sample_id"], turns, questions)


def beam(folder: Path) -> list[Conversation]:
    numbers = sorted(int(file.stem.split("_")[1]) for file in folder.glob("chat_*.json"))
    return [_beam(folder, number) for number in numbers]


def _beam(folder: Path, number: int) -> Conversation:
    chat = json.loads((folder / f"chat_{number}.json").read_text(encoding="utf-8"))
    turns: list[Turn] = []
    date = None
    for batch in chat:
        for exchange in batch["turns"]:
            for said in exchange:
                if said.get("time_anchor"):
                    date = datetime.strptime(said["time_anchor"], "%B-%d-%Y").date().isoformat()
                session = f"batch {batch['batch_number']}"
                turns.append(Turn(str(said["id"]), session, said["role"], said["content"][:20_000], date))
    names = {turn.name for turn in turns}
    questions = []
    probes = json.loads((folder / f"probes_{number}.json").read_text(encoding="utf-8"))
    for group, asked in probes.items():
        for probe in asked:
            evidence = frozenset(_ids(probe.get("source_chat_ids"))) & names
            if evidence:
                questions.append(Question(probe["question"], evidence, group))
    return Conversation(f"chat {number}", turns, questions)


def _ids(found: Any) -> Iterable[str]:
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from _ids(part)
    elif found is not None:
        yield str(found)


def chosen(conversations: Sequence[Conversation], half: str | None) -> Sequence[Conversation]:
    """All, or every second."""
    return conversations[{"first": 0, "second": 1}[half] :: 2] if half else conversations


async def run(options: argparse.Namespace) -> None:
    conversations = chosen(
        locomo(options.where) if options.collection == "locomo" else beam(options.where), options.half
    )
    if options.floor:
        area, answered = await measure_floor(conversations)
        print(f"floor: AUROC {area:.3f}; unanswerable answered where 90 % of the answerable are: {answered:.2f}")
        return
    figures = Figures()
    for conversation in conversations:
        await measure(conversation, figures)
    report(conversations, figures)


def report(conversations: Sequence[Conversation], figures: Figures) -> None:
    groups = sorted(figures.values["nDCG@10"])
    headline = [group for group in groups if group != "adversarial"]
    print(f"{len(conversations)} conversations, {sum(len(c.questions) for c in conversations)} questions")
    print(f"{'':24}{'all':>8}{'headline':>10}" + "".join(f"{group[:14]:>16}" for group in groups))
    for name in figures.values:
        means = "".join(f"{figures.mean(name, [group]):16.3f}" for group in groups)
        print(f"{name:24}{figures.mean(name):8.3f}{figures.mean(name, headline):10.3f}{means}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", choices=["locomo", "beam"])
    parser.add_argument("where", type=Path)
    parser.add_argument("--half", choices=["first", "second"])
    parser.add_argument("--floor", action="store_true", help="how well confidence tells an answer from none")
    anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
