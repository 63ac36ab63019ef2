"""`$1`, `$2` … in a statement, found where they are values and not text.

PostgreSQL, SQLite and DuckDB take them as they stand. For a database that does not, the statement is read once,
quotes and comments skipped, and what is between the placeholders stays exactly as it was written.
"""

from __future__ import annotations

import re

from usrland.errors import InvalidInput

__all__ = ["READS_AS_MYSQL", "split"]

READS_AS_MYSQL = frozenset({"mysql", "doris", "starrocks", "singlestore"})
"""Languages that take a backslash in a text, and comments with `#`."""

_MYSQL = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`|--[^\n]*|\#[^\n]*|/\*.*?\*/|\$(\d{1,3})(?!\w)""",
    re.DOTALL,
)
_STANDARD = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`]*`|--[^\n]*|/\*.*?\*/|(?<![\w$])\$(\d{1,3})(?![\w$])""",
    re.DOTALL,
)


def split(sql: str, dialect: str = "mysql") -> tuple[list[str], list[int]]:
    """The texts around the placeholders (one more than there are), and the number of each placeholder.

    Raises `InvalidInput` for `$0`.
    """
    texts, numbers, last = [], [], 0
    for match in (_MYSQL if dialect in READS_AS_MYSQL else _STANDARD).finditer(sql):
        if match[1] is not None:
            if int(match[1]) == 0:
                raise InvalidInput("parameters: they are counted from $1.")
            texts.append(sql[last : match.start()])
            numbers.append(int(match[1]))
            last = match.end()
    return [*texts, sql[last:]], numbers
