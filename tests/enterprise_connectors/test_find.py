from __future__ import annotations

from enterprise_connectors.find import Document, Index, words


def document(
    name: str, summary: str = "", description: str = "", system: str = "", arguments: str = ""
) -> Document:
    return Document(
        key=name, name=name, summary=summary, system=system, description=description, arguments=arguments
    )


def best(index: Index, request: str) -> list[str]:
    return index.search(request, 5, lambda _: True)


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
