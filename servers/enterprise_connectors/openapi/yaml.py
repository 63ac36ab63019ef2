"""YAML as API descriptions use it: plain values only, dates left as the text they are."""

from __future__ import annotations

from typing import Any

import yaml

from usrland.errors import InvalidInput

__all__ = ["parse"]

# the C parser where the wheel has it: ten times faster
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # the base is chosen above
    """Without timestamps: `2020-01-01` as a version or an example is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Any:
    """Raises `InvalidInput` with the place where it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # nosec B506 # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"spec: it is neither JSON nor YAML{where}.") from error
