"""Import the tables, and LanceDB with them, at half of what that costs.

LanceDB imports the client of its REST catalogues whole, to name some of its answers. That builds validators for
hundreds of calls, which take as long as all the rest and which nothing here makes. So the client's package is
entered without running what it runs first: its parts that are asked for are imported as ever, and whoever imports
the package itself later gets all of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

__all__ = ["tables_module"]

TABLES = "usrland.search.lance"
CLIENT = "lance_namespace_urllib3_client"


def tables_module() -> ModuleType:
    """The module of the tables; call this in a thread."""
    if "lancedb" in sys.modules or CLIENT in sys.modules:
        return importlib.import_module(TABLES)
    spec = importlib.util.find_spec(CLIENT)
    if spec is None or spec.submodule_search_locations is None:
        return importlib.import_module(TABLES)
    entered = ModuleType(CLIENT)
    entered.__path__ = list(spec.submodule_search_locations)
    entered.__spec__ = spec
    sys.modules[CLIENT] = entered
    try:
        return importlib.import_module(TABLES)
    except (ImportError, AttributeError):  # another version, which takes something from the package itself
        sys.modules.pop(CLIENT, None)
        return importlib.import_module(TABLES)
    finally:
        if sys.modules.get(CLIENT) is entered:
            del sys.modules[CLIENT]
