from __future__ import annotations

from pathlib import Path

import pytest

from enterprise_connectors.systems import systems
from usrland.settings import Settings


def configured(home: Path, toml: str, **environment: str) -> tuple[dict[str, object], dict[str, str]]:
    (home / "connectors.toml").write_text(toml, encoding="utf-8")
    found = systems(Settings(home=home, environment=environment))
    return {system.name: system for system in found.systems}, found.problems


def test_no_file_is_no_systems(tmp_path: Path) -> None:
    found = systems(Settings(home=tmp_path))

    assert (found.systems, found.problems) == ([], {})


def test_a_table_is_a_system_with_secrets_resolved_at_any_depth(tmp_path: Path) -> None:
    toml = '[tickets]\nkind = "openapi"\nspec = "a.yaml"\nauth = { kind = "bearer", secret = "env:TOKEN" }\n'

    found, problems = configured(tmp_path, toml, TOKEN="sesame-open")

    assert problems == {}
    assert found["tickets"].options["auth"]["secret"] == "sesame-open"  # type: ignore[attr-defined]
    assert "sesame-open" not in repr(found["tickets"])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[crm]\nurl = "x"', "kind"),
        ('[crm]\nkind = "sql"\nwrite = "yes"', "write"),
        ('[crm]\nkind = "sql"\nurl = "env:NOT_SET"', "NOT_SET"),
        ('[crm]\nkind = "openapi"\nauth = { secret = "plain-text-1" }', "never as plain text"),
        ('[fs]\nkind = "sql"', "cannot be the name"),
        ('[Crm]\nkind = "sql"', "cannot be the name"),
    ],
)
def test_one_wrong_table_is_reported_and_costs_no_other(tmp_path: Path, table: str, said: str) -> None:
    found, problems = configured(tmp_path, f'{table}\n[good]\nkind = "sql"\n')

    assert list(found) == ["good"]
    assert len(problems) == 1
    assert said in next(iter(problems.values()))
    assert "plain-text-1" not in str(problems)


def test_a_file_that_is_not_toml_is_one_problem(tmp_path: Path) -> None:
    found, problems = configured(tmp_path, "[crm\n")

    assert found == {}
    assert list(problems) == ["connectors.toml"]
