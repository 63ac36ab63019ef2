"""What importing the tables costs, and that nobody else can tell."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLIENT = "lance_namespace_urllib3_client"


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_tables_come_without_the_calls_of_a_client_that_nothing_here_makes() -> None:
    program = (
        "import sys; from usrland.search.loading import tables_module; tables_module();"
        f"print(sorted(name for name in sys.modules if name.startswith('{CLIENT}.api')))"
    )

    assert run(program) == "[]"


@pytest.mark.parametrize("first", ["", "import lancedb; "])
def test_whoever_imports_that_client_gets_all_of_it(first: str) -> None:
    program = (
        f"{first}from usrland.search.loading import tables_module; tables_module();"
        f"import {CLIENT} as client; from {CLIENT}.models import ListTablesResponse as answer;"
        "print(client.TableApi.__name__, client.ListTablesResponse is answer)"
    )

    assert run(program) == "TableApi True"


@pytest.mark.parametrize("first", ["", "import lancedb; ", "import overrides; "])
def test_whoever_imports_what_compares_methods_gets_what_compares(first: str) -> None:
    program = (
        f"{first}from usrland.search.loading import tables_module; tables_module();"
        "import overrides, lancedb\n"
        "class Above:\n"
        "    def method(self, given: int) -> int: ...\n"
        "try:\n"
        "    class Below(Above):\n"
        "        @overrides.override\n"
        "        def method(self) -> str: ...\n"
        "except TypeError:\n"
        "    print('compared', lancedb.connect_async.__name__)"
    )

    assert run(program) == "compared connect_async"


def test_where_the_package_itself_is_needed_it_is_imported_whole() -> None:
    program = (
        "import sys, types;"
        "sys.modules['usrland.search.lance'] = None;"
        "from usrland.search import loading;"
        "tries = []\n"
        "def imported(name):\n"
        f"    tries.append(['{CLIENT}' in sys.modules, 'overrides' in sys.modules])\n"
        "    if len(tries) == 1: raise ImportError(name)\n"
        "    return sys\n"
        "loading.importlib.import_module = imported\n"
        "print(loading.tables_module() is sys, tries)"
    )

    assert run(program) == "True [[True, True], [False, False]]"
