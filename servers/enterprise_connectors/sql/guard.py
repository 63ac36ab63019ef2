"""One statement, understood and allowed, or a refusal.

The statement is parsed and every node of its tree must be of a kind listed here: what the parser or this
list does not know is refused, so a new construct fails closed. This is one layer of three. The statement runs
as it was written (rewriting it would change what analysts mean), so where parser and database disagree the
database's own limits have to hold: read-only transaction, authorizer, least privilege.

What this does not protect against: a view or a function of the schema's owner that reads more than its name
says, and statements that are merely slow. Deadlines and row limits are the engine's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from enterprise_connectors.sql.functions import COMMON, NAMES, PARSED, SIZED, named
from enterprise_connectors.sql.grammar import DuckDB, MariaDB, PostgreSQL
from enterprise_connectors.sql.placeholders import split
from usrland.errors import Denied, InvalidInput

__all__ = ["Dialect", "Guard"]

# it warns that it does not understand a statement; here that is a refusal
logging.getLogger("sqlglot").setLevel(logging.ERROR)

Dialect = str
"""As the parser calls it: `sqlite`, `postgres`, `mysql`, `duckdb`, or that of a database of another kind. For
those, the functions that every database has and those that the parser itself knows are all there are."""

MAX_CHARACTERS = 20_000
MAX_LIST_DIGITS = 7
MAX_REPEATED = 1_000
"""The largest number that a function which repeats or pads may be given."""

_RUN_COMMENT = re.compile(r"/\*M?!")
"""MySQL runs what stands in such a comment, and the parser reads over it."""

_GRAMMARS = {"duckdb": DuckDB, "mysql": MariaDB, "postgres": PostgreSQL}
"""Where more is understood than the parser knows of itself."""
_FORMATTERS = frozenset({"format", "printf"})
_WIDE_FORMAT = re.compile(r"\d{4}|\*")
_QUERIES = frozenset({"Select", "Union", "Except", "Intersect", "Subquery"})
_SHAPING = frozenset({"Pivot", "Summarize"})
"""Queries of DuckDB that begin with another word than SELECT."""
_CHANGES = frozenset({"Insert", "Update", "Delete"})
_NODES = _QUERIES | named(
    """
Add Alias Aliases All And Any Anonymous AnonymousAggFunc Array ArrayContainedBy ArrayContainsAll
ArrayOverlaps AtTimeZone Between BitString BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr
BitwiseRightShift BitwiseXor Boolean Bracket ByteString CTE Case Cast Collate Column ColumnDef
CombinedAggFunc Cube DPipe DataType DataTypeParam Distinct Div Dot EQ Escape Except Exists Fetch Filter From
GT GTE Glob Group GroupingSets Having HexString ILike Identifier If IgnoreNulls In Interval IntervalSpan Is
JSONBContains JSONBExtract JSONBExtractScalar JSONExtract JSONExtractScalar JSONPath JSONPathKey
JSONPathRoot JSONPathSubscript Join LT LTE Lateral Like Limit LimitOptions Literal Match Mod Mul NEQ
National Neg Not Null NullSafeEQ NullSafeNEQ Offset Or Order Ordered Parameter Paren Placeholder Pow
RegexpILike RegexpLike RespectNulls Rollup SimilarTo Slice Star Sub Table TableAlias TableSample Tuple
JSONColumnDef JSONKeyValue JSONSchema JSONValue Unnest Values Var Where Window WindowSpec With WithinGroup Xor
"""
)
_CHANGE_NODES = frozenset({"OnConflict", "Returning", "Schema"})
_MORE: dict[Dialect, frozenset[str]] = {
    "sqlite": frozenset(),
    "postgres": named("Adjacent Distance DistanceNd ExtendsLeft ExtendsRight IntDiv RecursiveWithSearch"),
    "mysql": named("IntDiv Collate CharacterSet IndexTableHint"),
    "duckdb": named(
        "Comprehension IntDiv Kwarg Lambda Nearest Pivot PivotAlias PivotAny PositionalColumn PropertyEQ Qualify"
        " Summarize UnpivotColumns"
    ),
}
_LESS: dict[Dialect, frozenset[str]] = {
    "sqlite": frozenset(),
    "postgres": frozenset(),
    "mysql": frozenset({"Parameter"}),  # there it is a variable of the session
    "duckdb": frozenset(),
}

_CLAUSES = named("with_ expressions distinct from_ joins laterals where group having windows qualify order limit"
                 " offset fetch sample")  # fmt: skip
_BARE = named("backup begin break checkpoint commit continue dump end exec execute go kill load reconfigure return"
              " revert rollback save shutdown throw use")  # fmt: skip
_TAKES_DOLLARS = frozenset({"sqlite", "postgres", "duckdb"})
_HIDDEN_SCHEMAS = frozenset(
    [
        "pg_catalog",
        "information_schema",
        "pg_toast",
        "pg_temp",
        "temp",
        "mysql",
        "performance_schema",
        "sys",
        "system",
    ]
)
_DEFAULT_SCHEMA: dict[Dialect, str] = {"sqlite": "main", "postgres": "public", "mysql": "", "duckdb": "main"}
_HIDDEN_PREFIX: dict[Dialect, str] = {"sqlite": "sqlite_", "postgres": "pg_", "duckdb": "duckdb_"}
_PLAIN_TABLE = re.compile(r"[\w $-]+")


@dataclass(frozen=True, slots=True)
class Guard:
    """What may be said to one database. `tables` is None where every table may be used."""

    dialect: Dialect
    tables: frozenset[str] | None = None
    default_schema: str = ""
    """Where a table without a schema is, if not where the dialect says."""
    writable: frozenset[str] | None = None
    """The tables that may be changed; None is all that may be used."""
    exists: Callable[[str, str], bool] | None = None
    """For databases whose own tables have no names that are known here: whether name and schema are somebody's."""

    def query(self, sql: str) -> None:
        """Raises unless `sql` is one query that only reads, with allowed functions and tables."""
        tree = self._parsed(sql)
        if type(tree).__name__ not in _QUERIES | (_MORE.get(self.dialect, frozenset()) & _SHAPING):
            raise Denied(
                f"only one SELECT is allowed here, not {_kind(tree)}.",
                fix="For a plan use the operation explain; for the schema use tables and describe.",
            )
        self._walk(tree, self._nodes)

    def change(self, sql: str) -> None:
        """Raises unless `sql` is one INSERT, UPDATE or DELETE on an allowed table."""
        tree = self._parsed(sql)
        if type(tree).__name__ not in _CHANGES:
            raise Denied(f"only one INSERT, UPDATE or DELETE is allowed here, not {_kind(tree)}.")
        self._walk(tree, self._nodes | _CHANGE_NODES)
        table = self.changed(tree)
        if self.writable is not None and not self._is_among(self.writable, *table):
            raise Denied(f"the table {table[0]!r} may be read and not changed here.")

    def target(self, sql: str) -> tuple[str, str]:
        """The name and schema of the table that an allowed change is made to."""
        return self.changed(self._parsed(sql))

    def rows_met(self, sql: str) -> tuple[str, list[int]] | None:
        """A query for the rows that an UPDATE or DELETE would meet, and the parameters it takes, in order.

        None for an INSERT, and where other tables decide as well.
        """
        tree = self._parsed(sql)
        if not isinstance(tree, exp.Update | exp.Delete) or any(
            tree.args.get(k) for k in ("from_", "using", "with_")
        ):
            return None
        query = exp.select("*").from_(tree.this.copy())
        if tree.args.get("where") is not None:
            query = query.where(tree.args["where"].this.copy())
        numbers: list[int] = []
        for node in list(query.find_all(exp.Placeholder, exp.Parameter)):
            number = str(node.this.this if isinstance(node.this, exp.Expr) else node.this).removeprefix("p")
            if not number.isdigit():
                return None
            numbers.append(int(number))
            position = str(len(numbers))
            node.replace(exp.Placeholder(this=f"p{position}"))
        # written in one way by every dialect, and then in ours; inside a text it would stay a text
        return re.sub(
            r":p(\d+)", r"$\1", query.sql(dialect="mysql" if self.dialect == "mysql" else "sqlite")
        ), numbers

    def changed(self, tree: exp.Expr) -> tuple[str, str]:
        node = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        if not isinstance(node, exp.Table):
            raise Denied("a change names one table.")
        return self._folded(node.this), self._folded(node.args.get("db"))

    @property
    def _nodes(self) -> frozenset[str]:
        return (_NODES | _MORE.get(self.dialect, frozenset())) - _LESS.get(self.dialect, frozenset())

    def allows(self, name: str, schema: str = "") -> bool:
        """Whether this table, by its exact name, may be used."""
        if self._is_hidden(name, schema) or (self.exists is not None and not self.exists(name, schema)):
            return False
        return self.tables is None or self._is_among(self.tables, name, schema)

    def _is_among(self, tables: frozenset[str], name: str, schema: str) -> bool:
        fold = str if self.dialect in ("postgres", "mysql") else str.lower
        among = {fold(table) for table in tables}
        plain = schema in ("", self.default_schema or _DEFAULT_SCHEMA.get(self.dialect, ""))
        return fold(f"{schema}.{name}") in among or (plain and fold(name) in among)

    def _is_hidden(self, name: str, schema: str) -> bool:
        if schema.lower() in _HIDDEN_SCHEMAS or schema.lower().startswith("pg_"):
            return True
        prefix = _HIDDEN_PREFIX.get(self.dialect, "")
        return bool(prefix) and name.lower().startswith(prefix)

    def _folded(self, identifier: object) -> str:
        """A name as the database will read it."""
        if not isinstance(identifier, exp.Identifier):
            return ""
        keeps_case = identifier.args.get("quoted") or self.dialect == "mysql"
        return identifier.name if keeps_case else identifier.name.lower()

    def _parsed(self, sql: str) -> exp.Expr:
        if len(sql) > MAX_CHARACTERS or "\0" in sql:
            raise InvalidInput(f"sql: at most {MAX_CHARACTERS} characters and no zero byte.")
        other = self.exists is not None
        if (other or self.dialect == "mysql") and _RUN_COMMENT.search(sql):
            raise Denied("comments that the server runs as code are not allowed.")
        if other or self.dialect not in _TAKES_DOLLARS:
            texts, numbers = split(sql, self.dialect)
            sql = "".join(f"{text}:p{number}" for text, number in zip(texts, numbers, strict=False)) + texts[-1]
        try:
            trees = sqlglot.parse(sql, read=_GRAMMARS.get(self.dialect, self.dialect))
        except SqlglotError as error:
            raise InvalidInput(f"the statement is not understood: {_where(error)}.") from None
        except RecursionError:
            raise InvalidInput("the statement is nested too deeply.") from None
        statements = [tree for tree in trees if tree is not None]
        if len(statements) != 1:
            raise Denied(f"one statement at a time, not {len(statements)}.", fix="Send them one by one.")
        return statements[0]

    def _walk(self, tree: exp.Expr, allowed: frozenset[str]) -> None:
        for node in tree.walk():
            kind = type(node).__name__
            if isinstance(node, exp.Func):
                self._check_function(node)
            elif kind not in allowed and not (node is tree and kind in _CHANGES):
                raise Denied(f"{_kind(node)} is not allowed in a statement here.")
            if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func):
                raise Denied("functions are called without a schema here.")
            if isinstance(node, exp.Table):
                self._check_table(node)
            if self.exists is not None:
                _check_plain(node)

    def _check_function(self, node: exp.Func) -> None:
        if type(node).__name__ in SIZED:
            times = node.args.get(SIZED[type(node).__name__])
            if isinstance(times, exp.Literal) and not times.is_string and _is_small(times.name):
                return
            raise Denied(
                f"the function {node.sql_name().lower()!r} takes a plain number here.",
                fix=f"Write it out, up to {MAX_REPEATED}.",
            )
        if self.dialect == "duckdb" and isinstance(node, exp.GenerateSeries):
            self._check_list(node)
        if isinstance(node, exp.Format) or node.name.lower() in _FORMATTERS:
            self._check_format(node)
        if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
            known = node.name.lower() in NAMES.get(self.dialect, COMMON)
        else:
            known = type(node).__name__ in PARSED
        if not known:
            name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
            raise Denied(
                f"the function {name.lower()!r} is not allowed.", fix="Use functions that compute on values."
            )

    def _check_list(self, node: exp.Func) -> None:
        """`SELECT range(900000000)` makes a list of so many at once; in FROM the same gives rows one by one."""
        numbers = [each.name for each in node.find_all(exp.Literal) if not each.is_string]
        if isinstance(node.parent, exp.Table) or all(len(number) < MAX_LIST_DIGITS for number in numbers):
            return
        raise Denied("a list of so many values is not made here.", fix="Put the series into FROM.")

    def _check_format(self, node: exp.Func) -> None:
        """`format('%999999999s', 'x')` makes a gigabyte; MySQL's `format` takes a number and does not."""
        given = node.this if isinstance(node.this, exp.Expr) else next(iter(node.expressions), None)
        plain = isinstance(given, exp.Literal) and given.is_string and not _WIDE_FORMAT.search(given.name)
        if not plain and self.dialect != "mysql":
            raise Denied(
                "a format is written out, with widths of at most three digits.", fix="Use concatenation instead."
            )

    def _check_table(self, node: exp.Table) -> None:
        if isinstance(node.this, exp.Func | exp.Values):
            return
        if not isinstance(node.this, exp.Identifier) or node.args.get("catalog"):
            raise Denied("a table is named by itself or with its schema, nothing else.")
        schema = self._folded(node.args.get("db"))
        name = self._folded(node.this)
        if not schema and self._is_common(node):
            return
        if self.dialect == "duckdb" and not _PLAIN_TABLE.fullmatch(name):
            raise Denied("a table is named by itself; files cannot be read.")
        if not self.allows(name, schema):
            raise Denied(
                f"the table {f'{schema}.{name}' if schema else name!r} is not available.",
                fix="The operation tables lists the tables there are.",
            )

    def _is_common(self, table: exp.Table) -> bool:
        """Whether this name stands for a WITH query rather than for a table of the same name.

        Exactly the scope of SQL, or narrower: a query sees those listed before it, itself when RECURSIVE.
        """
        name = self._folded(table.this)
        for scope, inside in _with_scopes(table):
            names = [self._folded(cte.args["alias"].this) for cte in scope.expressions]
            visible = len(names) if inside is None else inside + bool(scope.args.get("recursive"))
            if name in names[:visible]:
                return True
        return False


def _check_plain(node: exp.Expr) -> None:
    """For a database that is hardly known: clauses of every SQL alone, and no statement in the place of an alias.

    A batch of T-SQL needs nothing between its statements: `FROM t SHUTDOWN` is two there, and an alias to the
    parser.
    """
    if isinstance(node, exp.Select) and (more := {key for key, value in node.args.items() if value} - _CLAUSES):
        raise Denied(f"{min(more).strip('_').upper()} is not allowed in a statement here.")
    if isinstance(node, exp.Alias | exp.TableAlias):
        alias = node.args.get("alias") if isinstance(node, exp.Alias) else node.this
        if isinstance(alias, exp.Identifier) and not alias.args.get("quoted") and alias.name.lower() in _BARE:
            raise Denied(f"{alias.name!r} is not allowed as a name here.", fix="Quote it.")


def _is_small(text: str) -> bool:
    return text.isdigit() and len(text) < 6 and int(text) <= MAX_REPEATED


def _with_scopes(node: exp.Expr) -> Iterator[tuple[exp.With, int | None]]:
    """The WITH clauses around a node, from the inside out, and in which of their queries it stands."""
    child: exp.Expr = node
    inside: int | None = None
    while (parent := child.parent) is not None:
        if isinstance(parent, exp.With):
            inside = next(number for number, cte in enumerate(parent.expressions) if cte is child)
            yield parent, inside
        elif (scope := parent.args.get("with_")) is not None and scope is not child:
            yield scope, None
        child = parent


def _kind(node: exp.Expr) -> str:
    if isinstance(node, exp.Command):
        return str(node.this).upper()
    return type(node).__name__.upper()


def _where(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return "it has no valid tokens"
    first = details[0]
    return (
        f"{str(first.get('description', '')).rstrip('.')} at line {first.get('line')}, column {first.get('col')}"
    )
