"""What is wrong with a declaration is found when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from usrland import Answer, Operation, Principal, Service
from usrland.errors import InvalidInput


class Nothing(Answer):
    pass


async def look(name: str) -> Nothing:
    """Look at it."""
    return Nothing()


async def without_help() -> Nothing:
    return Nothing()


READ = frozenset({"x:read"})


@pytest.mark.parametrize("missing", ["effect", "scopes"])
def test_an_operation_without_effect_or_scopes_cannot_be_declared(missing: str) -> None:
    facts: dict[str, Any] = {"call": look, "effect": "read", "scopes": READ}
    del facts[missing]

    with pytest.raises(TypeError, match=missing):
        Operation(**facts)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"effect": "reads"}, "effect must be"),
        ({"scopes": frozenset()}, "at least one scope"),
        ({"scopes": {"x:read"}}, "frozenset"),
        ({"name": "Look-Here"}, "lower case"),
        ({"name": "l" * 57}, "at most 56"),
        ({"call": without_help}, "docstring"),
        ({"effect": "destroy"}, "preview"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_reason(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Operation(**{"call": look, "effect": "read", "scopes": READ, **facts})


def test_name_title_help_and_consent_follow_from_the_function_and_the_effect() -> None:
    reading = Operation(call=look, effect="read", scopes=READ)
    destroying = Operation(call=look, effect="destroy", scopes=READ, preview=look)

    assert (reading.name, reading.title, reading.description) == ("look", "Look", "Look at it.")
    assert (reading.consent, reading.idempotent) == (False, True)
    assert (destroying.consent, destroying.idempotent) == (True, False)


def test_a_service_names_the_operations_it_has() -> None:
    service = Service(
        name="s", title="S", description="d", instructions="i",
        operations=[Operation(call=look, effect="read", scopes=READ)],
    )  # fmt: skip

    assert service.operation("look").name == "look"
    with pytest.raises(InvalidInput, match=r"there is no operation 'jump'.*Known: look"):
        service.operation("jump")


@pytest.mark.parametrize(
    ("held", "needed", "missing"),
    [
        ({"fs:read"}, {"fs:read"}, set()),
        ({"fs:read"}, {"fs:write"}, {"fs:write"}),
        ({"fs:*"}, {"fs:read", "fs:write"}, set()),
        ({"sql:*"}, {"sql:crm:read"}, set()),
        ({"sql:crm:*"}, {"sql:erp:read"}, {"sql:erp:read"}),
        ({"*"}, {"anything:at:all"}, set()),
        (set(), {"fs:read"}, {"fs:read"}),
    ],
)
def test_a_broad_scope_holds_the_narrow_ones_below_it(held: set[str], needed: set[str], missing: set[str]) -> None:
    principal = Principal(subject="p", scopes=frozenset(held))

    assert principal.missing(frozenset(needed)) == missing


def test_what_a_generated_operation_says_in_another_systems_words_shows_all_of_it() -> None:
    made = Operation(
        call=look, effect="read", scopes=READ, parameters={"type": "object"}, description="Look.\u202e tnuocca"
    )

    assert made.description == "Look.<U+202E> tnuocca"
