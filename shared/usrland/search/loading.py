"""Import the tables, and LanceDB with them, at less than half of what that costs.

LanceDB imports the client of its REST catalogues whole, to name some of its answers. That builds validators for
hundreds of calls, which take as long as all the rest and which nothing here makes. So the client's package is
entered without running what it runs first: its parts that are asked for are imported as ever, and whoever imports
the package itself later gets all of it.

And it has every method that replaces another compared with that one at each import, which finds nothing that its
own tests have not found. So while it is imported a stand-in takes the place of the package that compares.

It warns of each partition of its indexes that a small change left as it was, in hundreds of lines; who wants to
read them sets `LANCE_LOG`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC
from collections.abc import Mapping
from types import ModuleType

from usrland.settings import tell_by_environment

__all__ = ["tables_module"]

TABLES = "usrland.search.lance"
CLIENT = "lance_namespace_urllib3_client"
COMPARES = "overrides"


def tables_module() -> ModuleType:
    """The module of the tables; call this in a thread."""
    tell_by_environment({"LANCE_LOG": "error"}, unless_said=True)
    if "lancedb" in sys.modules or CLIENT in sys.modules:
        return importlib.import_module(TABLES)
    stand_ins = {name: made for name, made in ((CLIENT, _entered()), (COMPARES, _trusting())) if made is not None}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(TABLES)
    except (ImportError, AttributeError):  # another version, which takes something else from them
        _remove(stand_ins)
        return importlib.import_module(TABLES)
    finally:
        _remove(stand_ins)


def _entered() -> ModuleType | None:
    """The client's package without what it runs first; None where there is none."""
    spec = importlib.util.find_spec(CLIENT)
    if spec is None or spec.submodule_search_locations is None:
        return None
    entered = ModuleType(CLIENT)
    entered.__path__ = list(spec.submodule_search_locations)
    entered.__spec__ = spec
    return entered


def _trusting() -> ModuleType | None:
    """What LanceDB takes of `overrides`, doing nothing; None where the package itself is in use already."""
    if COMPARES in sys.modules:
        return None
    trusting = ModuleType(COMPARES)
    trusting.__dict__.update(override=lambda method: method, EnforceOverrides=ABC)
    return trusting


def _remove(stand_ins: Mapping[str, ModuleType]) -> None:
    for name, made in stand_ins.items():
        if sys.modules.get(name) is made:
            del sys.modules[name]
