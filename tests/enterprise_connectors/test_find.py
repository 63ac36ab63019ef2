from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from enterprise_connectors.find import Document, Index
from enterprise_connectors.meaning import Meaning
from enterprise_connectors.wording import asked, words
from usrland.embedding import Embedder, Vectors, embedder
from usrland.errors import Unavailable


def document(
    name: str, summary: str = "", description: str = "", system: str = "", arguments: str = ""
) -> Document:
    return Document(
        key=name, name=name, summary=summary, system=system, description=description, place="", arguments=arguments
    )


def best(index: Index, request: str) -> list[str]:
    return index.search(request, 5, lambda _: True)


@lru_cache
def model() -> Embedder:
    found = embedder()
    assert found is not None
    return found


class Broken:
    """An embedding whose package is not there."""

    generation = "broken"
    dimensions = 384
    ready = False

    def load(self) -> None:
        raise Unavailable("no model.")

    def documents(self, texts: Sequence[str]) -> Vectors:
        raise Unavailable("no model.")

    def query(self, text: str) -> Vectors:
        raise Unavailable("no model.")


def learned(documents: Sequence[Document], folder: Path) -> Meaning:
    meaning = Meaning([document.passage for document in documents], model(), folder)
    meaning.learn(lambda: False)
    return meaning


def scores(meaning: Meaning) -> list[float]:
    found = meaning.scores("fax")
    assert found is not None
    return list(found)


def test_words_meet_across_case_punctuation_and_endings() -> None:
    assert words("createIssues") == words("issues/create")[::-1] == words("Creating an issue")


def test_a_name_counts_more_than_a_description() -> None:
    index = Index([document("list_users", description="invoices"), document("list_invoices", description="users")])

    assert best(index, "invoices")[0] == "list_invoices"


def test_what_an_api_posts_is_what_people_create() -> None:
    index = Index([document("get_customers"), document("post_customers"), document("delete_customers")])

    assert best(index, "add a customer")[0] == "post_customers"
    assert best(index, "remove the customer")[0] == "delete_customers"


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    index = Index([*(document(f"get_report_{n}") for n in range(9)), document("get_refund")])

    assert best(index, "get refund")[0] == "get_refund"


def test_a_request_that_shares_no_word_finds_nothing() -> None:
    assert best(Index([document("get_refund")]), "weather tomorrow") == []


def test_what_is_not_allowed_is_not_found() -> None:
    index = Index([document("get_refund"), document("list_refunds")])

    assert index.search("refund", 5, lambda key: key != "get_refund") == ["list_refunds"]


def test_an_empty_catalogue_finds_nothing() -> None:
    assert best(Index([]), "anything") == []


def test_a_word_people_use_finds_the_word_the_api_uses() -> None:
    index = Index([document("list_projects"), document("create_issue"), document("create_invoice")])

    assert best(index, "file a ticket")[0] == "create_issue"
    assert best(index, "make a bill")[0] == "create_invoice"


def test_the_verb_of_the_request_prefers_what_has_that_effect() -> None:
    index = Index(
        [replace(document("delete_pod"), effect="destroy"), replace(document("pod_status"), effect="read")]
    )

    assert best(index, "which pod runs?")[0] == "pod_status"
    assert [asked(text) for text in ("Please remove him", "I want to send a fax", "Who is it?", "the fax")] == [
        "destroy",
        "write",
        "read",
        None,
    ]
    assert (asked("give me a photo"), asked("give Ann access")) == ("read", "write")


def test_meaning_finds_what_shares_no_word_and_not_what_means_something_else(tmp_path: Path) -> None:
    documents = [
        document("get_forecast", summary="Sunshine, rain and temperature of the coming days"),
        document("list_payslips", summary="Salaries of employees"),
    ]
    meaning = learned(documents, tmp_path)

    found = Index(documents).search(
        "Will it be wet tomorrow outdoors?",
        5,
        lambda _: True,
        meaning.scores("Will it be wet tomorrow outdoors?"),
    )
    assert found == ["get_forecast"]


def test_vectors_are_kept_and_only_what_changed_is_read_again(tmp_path: Path) -> None:
    documents = [document("get_fax"), document("send_fax")]
    first = learned(documents, tmp_path)
    again = Meaning([d.passage for d in documents], model(), tmp_path)
    changed = Meaning([d.passage for d in (*documents, document("list_fax"))], model(), tmp_path)

    assert again.whole
    assert not changed.whole
    assert changed.scores("fax") is None
    assert [round(float(a - b), 2) for a, b in zip(scores(first), scores(again), strict=True)] == [0, 0]


def test_a_broken_file_of_vectors_is_made_anew(tmp_path: Path) -> None:
    learned([document("get_fax")], tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = Meaning([document("get_fax").passage], model(), tmp_path)

    assert not again.whole
    again.learn(lambda: False)
    assert again.whole


def test_learning_stops_when_it_is_told_to(tmp_path: Path) -> None:
    meaning = Meaning([document("get_fax").passage], model(), tmp_path)
    meaning.learn(lambda: True)

    assert not meaning.whole
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_used_is_said_and_not_waited_for(tmp_path: Path) -> None:
    meaning = Meaning([document("get_fax").passage], Broken(), tmp_path)
    meaning.learn(lambda: False)
    meaning.wait(3600)

    assert meaning.failed
    assert meaning.scores("fax") is None
