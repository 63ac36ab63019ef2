"""What the manuals of PostgreSQL, MariaDB and DuckDB have and the parser does not know.

Only what leaves the tree of a statement as telling as before: every expression is still a node of it, and what is
dropped are names (`JOIN … USING (a) AS j`, the columns of SEARCH and CYCLE) and directions (`GROUP BY a DESC`).
"""

from __future__ import annotations

from typing import ClassVar

from sqlglot import TokenType, exp
from sqlglot.dialects import duckdb
from sqlglot.dialects.mysql import MySQL
from sqlglot.dialects.postgres import Postgres
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.parsers.mysql import MySQLParser
from sqlglot.parsers.postgres import PostgresParser

__all__ = ["DuckDB", "MariaDB", "PostgreSQL"]

_GEOMETRIC = ("<<|", "|>>", "&<|", "|&>", "~=", "<^", ">^", "?#", "?-|", "?||", "@-@")
_BY_BYTES = ("~<~", "~<=~", "~>=~", "~>~")
_TYPES = ("BOX", "CIRCLE", "LSEG", "POLYGON")
"""In front of a literal. PATH and LINE are left to columns of these names."""


class _PostgreSQLParser(PostgresParser):
    def _parse_using_identifiers(self) -> list[exp.Expr]:
        columns = super()._parse_using_identifiers()
        if self._match(TokenType.ALIAS):
            self._parse_id_var()
        return columns

    def _parse_table_sample(self, as_modifier: bool = False) -> exp.TableSample | None:
        """`TABLESAMPLE method (expressions) [REPEATABLE (expression)]`."""
        if not self._match(TokenType.TABLE_SAMPLE):
            return None
        method = self._parse_var(upper=True)
        sizes = self._parse_wrapped_csv(self._parse_assignment)
        seed = self._match_texts(("REPEATABLE",)) and self._parse_wrapped(self._parse_assignment)
        return self.expression(exp.TableSample(method=method, expressions=sizes, seed=seed))

    def _parse_recursive_with_search(self) -> exp.RecursiveWithSearch | None:
        """`SEARCH DEPTH | BREADTH FIRST BY a, b SET c`, and `CYCLE a, b SET c [TO v DEFAULT v] USING d`."""
        self._match_text_seq("SEARCH")
        kind = self._match_texts(self.RECURSIVE_CTE_SEARCH_KIND) and self._prev.text.upper()
        if not kind:
            return None
        self._match_text_seq("FIRST", "BY")
        columns = self._parse_csv(self._parse_id_var)
        return self.expression(
            exp.RecursiveWithSearch(
                kind=kind,
                this=columns[0] if columns else None,
                expression=self._match_text_seq("SET") and self._parse_id_var(),
                to=self._match_text_seq("TO") and self._parse_bitwise(),
                default=self._match(TokenType.DEFAULT) and self._parse_bitwise(),
                using=self._match_text_seq("USING") and self._parse_id_var(),
            )
        )


class PostgreSQL(Postgres):
    class Tokenizer(Postgres.Tokenizer):
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            **Postgres.Tokenizer.KEYWORDS,
            **dict.fromkeys((*_GEOMETRIC, *_BY_BYTES), TokenType.AMP_LT),
            **dict.fromkeys(_TYPES, TokenType.POINT),
        }

    Parser = _PostgreSQLParser


class _MariaDBParser(MySQLParser):
    def _parse_group(self, skip_group_by_token: bool = False) -> exp.Group | None:
        """`GROUP BY a DESC, b`."""
        group = super()._parse_group(skip_group_by_token)
        if group is not None and self._match_set((TokenType.ASC, TokenType.DESC)):
            self._match(TokenType.COMMA)
            more = self._parse_group(skip_group_by_token=True)
            for key, value in more.args.items() if more is not None else ():
                for each in value if isinstance(value, list) else ():
                    group.append(key, each)
        return group

    def _parse_derived_table_values(self, allow_value_synonym: bool = False) -> exp.Values | None:
        """`(VALUES (1) UNION …)` is a query in parentheses, and no list of values."""
        start = self._index
        if self._match_pair(TokenType.L_PAREN, TokenType.VALUES):
            self._parse_csv(self._parse_value)
            is_whole = self._match(TokenType.R_PAREN)
            self._retreat(start)
            if not is_whole:
                return None
        return super()._parse_derived_table_values(allow_value_synonym)


class MariaDB(MySQL):
    class Tokenizer(MySQL.Tokenizer):
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            **MySQL.Tokenizer.KEYWORDS,
            "SIGNED INT": TokenType.BIGINT,
            "UNSIGNED INT": TokenType.UBIGINT,
        }

    Parser = _MariaDBParser


class _DuckDBParser(DuckDBParser):
    def _parse_wrapped_id_vars(self, optional: bool = False) -> list[exp.Expr]:
        """`WITH RECURSIVE t(a, b) USING KEY (a, max(b))`."""
        if self._prev and self._prev.text.upper() == "KEY":
            return self._parse_wrapped_csv(lambda: self._parse_alias(self._parse_assignment()), optional=optional)
        return super()._parse_wrapped_id_vars(optional)


class DuckDB(duckdb.DuckDB):
    Parser = _DuckDBParser
