"""The operations of a SQL database.

They are the same for every database, so listing them reads no schema. A statement passes three layers, each
of which holds alone where it can: the guard (a parsed statement of allowed nodes, functions and tables), the
session (read-only, one statement, deadlines, always rolled back) and the role the operator gave.

`execute` is one operation and called destructive, because an UPDATE without a WHERE destroys as much as a
DELETE, and no parser knows which of them somebody meant.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.declare import destroying, reading
from enterprise_connectors.sql.copies import Copies
from enterprise_connectors.sql.named import Named
from enterprise_connectors.sql.other import DIALECTS
from usrland.connector import Call, Connector, Operation
from usrland.errors import Denied, InvalidInput, NotFound, Unavailable, UsrlandError
from usrland.redact import keep_secret
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer, Page, Preview

if TYPE_CHECKING:
    import httpx

    from enterprise_connectors.sql.engine import Engine, Limits, Result, Table
    from enterprise_connectors.sql.guard import Dialect, Guard

__all__ = ["SqlConfig", "SqlConnector"]

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "postgres": "postgres",
    "mariadb": "mysql",
    "mysql": "mysql",
    "duckdb": "duckdb",
}

_SECRET = re.compile(r"pass|pwd|token|secret|key", re.IGNORECASE)
"""In the name of a part of an address: what stands there is not to be seen."""


MAX_TABLES = 200
"""At once; there may be tens of thousands."""
EXPIRY_SECONDS = 30.0
EXAMPLES = 10
"""Rows that a dry run shows."""

WorkT = TypeVar("WorkT")

Sql = Annotated[str, Field(description="One statement; values as $1, $2 ….")]
Parameters = Annotated[list[Any] | None, Field(description="Values for $1, $2 …, in order.")]


class Roles(BaseModel):
    """In whose name the database is asked: `SET ROLE` for each call, so that its own grants and row security hold.

    The role in `url` needs nothing but membership in the others. A caller who is not in the map is refused.
    """

    model_config = ConfigDict(extra="forbid")

    by: Literal["subject", "tenant", "namespace"] = "tenant"
    map: dict[str, str] = Field(min_length=1)

    def of(self, caller: Principal) -> str:
        role = self.map.get(getattr(caller, self.by))
        if role is None:
            raise Denied(f"this {self.by} has no role in the database.", fix="The operator adds it to [roles].")
        return role


class SqlConfig(BaseModel):
    """The keys of a `kind = "sql"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(repr=False)
    """`sqlite:////absolute/path`, `duckdb:////absolute/path`, or `postgresql`, `mariadb` or `mysql` and
    `://role:password@host/database`. Any other address of SQLAlchemy's (`oracle+oracledb://…`, `mssql+pymssql://…`,
    `snowflake://…`) is a database that is only read; see `other`."""
    dialect: str = ""
    """For those, the language as sqlglot calls it, where it does not follow from the address."""
    tables: list[str] | None = None
    """The only tables that may be used: `name` (without a schema, or in `public`) or `schema.name`. Default: all
    that the role may read."""
    write_tables: list[str] | None = None
    """The only tables that `execute` may change. Default: all that may be used."""
    queries: dict[str, Named] = Field(default_factory=dict)
    """Queries under names of their own: see `named`."""
    roles: Roles | None = None
    """PostgreSQL: a role of the database for each caller."""
    max_rows: int = Field(default=200, ge=1, le=10_000)
    max_changed: int = Field(default=1_000, ge=1)
    """Rows one `execute` may change."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=50)


class Rows(Page[list[Any]]):
    """Rows of a query, each a list in the order of `columns`."""

    columns: list[str]


class TableSummary(Answer):
    name: str
    kind: str
    rows: int | None = Field(default=None, description="An estimate.")
    comment: str | None = None


class ColumnSummary(Answer):
    name: str
    type: str
    nullable: bool
    default: str | None = None
    comment: str | None = None


class TableDescription(Answer):
    name: str
    columns: list[ColumnSummary]
    keys: list[str]
    sample: list[list[Any]] = Field(description="Up to three rows, in the order of the columns.")


class Plan(Answer):
    lines: list[str]


class Changed(Answer):
    affected: int
    columns: list[str] | None = None
    rows: list[list[Any]] | None = Field(default=None, description="What RETURNING gave.")
    note: str | None = None


class SqlConnector(Connector[SqlConfig]):
    """A database behind a URL. The parser and the driver are loaded at the first call."""

    name = "sql"
    config_type = SqlConfig

    def __init__(self, config: SqlConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.url)
        self._dialect = _DIALECTS.get(parts.scheme, "")
        self._changes = bool(self._dialect)
        if not self._dialect:
            self._dialect = config.dialect or DIALECTS.get(parts.scheme.partition("+")[0], "")
        elif config.dialect:
            raise InvalidInput("dialect: it goes with databases that are reached through SQLAlchemy.")
        if not self._dialect:
            raise InvalidInput(
                f"url: the scheme {parts.scheme!r} is not known.",
                fix=f"Use one of {', '.join(_DIALECTS)}, or another of SQLAlchemy's and say its dialect.",
            )
        if not self._changes and (
            writing := [name for name, query in config.queries.items() if query.effect != "read"]
        ):
            raise InvalidInput(f"queries: {writing[0]!r} changes something, and this database is only read here.")
        if parts.scheme in ("sqlite", "duckdb") and not config.url.startswith(f"{parts.scheme}:////"):
            raise InvalidInput(
                f"url: a {parts.scheme} file is named by its whole path.",
                fix=f"Use {parts.scheme}:////absolute/path.",
            )
        if self._changes and self._dialect == "mysql" and not parts.path.strip("/"):
            raise InvalidInput("url: it names no database.", fix=f"Use {parts.scheme}://role@host/database.")
        if config.roles is not None and not (self._changes and self._dialect == "postgres"):
            raise InvalidInput("roles: only PostgreSQL takes on roles.")
        if parts.password:
            keep_secret(unquote(parts.password))
        for key, value in parse_qsl(parts.query):
            if _SECRET.search(key):
                keep_secret(value)
        self._opening = threading.Lock()
        self._opened: tuple[Guard, Engine] | None = None
        self._copies = Copies()

    def operations(self) -> Sequence[Operation]:
        named = [self._named(name, query) for name, query in self.config.queries.items()]
        reads = [
            *named,
            reading(self.tables, cost="low"),
            reading(self.describe, cost="low"),
            reading(self.query),
            reading(self.explain, cost="low"),
        ]
        if not self._changes:
            return reads
        return [
            *reads,
            destroying(self.execute, self.would_execute),
        ]

    async def check(self) -> None:
        await self._work(lambda guard, engine: next(_available(guard, engine), None), None)

    async def work(self) -> None:
        """Let go of rows that nobody comes back for."""
        while True:
            await anyio.sleep(EXPIRY_SECONDS)
            self._copies.expire()

    async def aclose(self) -> None:
        if self._opened is not None:
            await anyio.to_thread.run_sync(self._opened[1].close)

    def _named(self, name: str, query: Named) -> Operation:
        async def read(_call: Call, **arguments: Any) -> Rows:
            sql, values = query.statement(arguments, _call.principal)
            return await self._read(sql, values, _call, guarded=False)

        async def change(_call: Call, **arguments: Any) -> Changed:
            sql, values = query.statement(arguments, _call.principal)
            return _changed(await self._change(sql, values, _call, commit=True, guarded=False))

        async def would_change(_call: Call, **arguments: Any) -> Preview:
            sql, values = query.statement(arguments, _call.principal)
            result = await self._change(sql, values, _call, commit=False, guarded=False)
            return _would(f"{name} changes {result.affected} rows", result)

        reads = query.effect == "read"
        return Operation(
            call=read if reads else change,
            preview=None if reads else would_change,
            name=name,
            description=query.description,
            parameters=query.schema_of_arguments,
            effect=query.effect,
            scopes=frozenset({f"sys:{query.effect}", *(f"sys:{scope}" for scope in query.scopes)}),
            cache_seconds=query.cache_seconds,
        )

    async def tables(
        self,
        call: Call,
        pattern: Annotated[str, Field(description="Part of the name.")] = "",
    ) -> Page[TableSummary]:
        """List the tables and views of the database. Look here before you write a query."""
        from enterprise_connectors.sql.engine import shown

        def work(guard: Guard, engine: Engine) -> list[Table]:
            with closing(_available(guard, engine, pattern)) as found:
                return list(islice(found, call.offset, call.offset + MAX_TABLES + 1))

        tables = await self._work(work, call)
        more = len(tables) > MAX_TABLES
        return Page(
            items=[
                TableSummary(name=shown(table), kind=table.kind, rows=table.rows, comment=table.comment)
                for table in tables[:MAX_TABLES]
            ],
            total=None if more else call.offset + len(tables),
            more=more,
        )

    async def describe(
        self, table: Annotated[str, Field(description="As tables names it.")], call: Call
    ) -> TableDescription:
        """The columns, keys and three sample rows of one table."""

        def work(guard: Guard, engine: Engine) -> TableDescription:
            described = engine.describe(_named(guard, engine, table), self._limits())
            return TableDescription(
                name=table,
                columns=[
                    ColumnSummary(
                        name=column.name,
                        type=column.type,
                        nullable=column.nullable,
                        default=column.default,
                        comment=column.comment,
                    )
                    for column in described.columns
                ],
                keys=described.keys,
                sample=described.sample.rows,
            )

        return await self._work(work, call)

    async def query(
        self,
        sql: Sql,
        call: Call,
        parameters: Parameters = None,
        max_rows: Annotated[int | None, Field(ge=1, description="At once; default as configured.")] = None,
    ) -> Rows:
        """Run one SELECT and get its rows. ORDER BY when you mean to read on with the cursor."""
        return await self._read(sql, parameters, call, max_rows=max_rows)

    async def _read(
        self,
        sql: str,
        parameters: Sequence[Any] | None,
        call: Call,
        *,
        max_rows: int | None = None,
        guarded: bool = True,
    ) -> Rows:
        limits = self._limits(max_rows, call.offset)

        def work(guard: Guard, engine: Engine) -> Rows:
            if guarded:
                guard.query(sql)
            result, again = self._page(engine, sql, parameters or (), limits, call)
            facts = _facts(result, again=again)
            if guarded and (warning := engine.warning()):
                facts.append(warning)
            return Rows(items=result.rows, columns=result.columns, more=result.more, note=" ".join(facts) or None)

        return await self._work(work, call)

    def _page(
        self, engine: Engine, sql: str, parameters: Sequence[Any], limits: Limits, call: Call
    ) -> tuple[Result, bool]:
        """Rows from `limits.offset` on, and whether the query had to be run again for them."""
        from enterprise_connectors.sql.copies import copied

        caller = call.principal
        who = (caller.tenant, caller.namespace, caller.subject)
        what = (call.operation, self._role_of(caller), limits.max_rows, sql, repr(parameters))
        copy = self._copies.get(who, what, limits.offset) if limits.offset else None
        again = bool(limits.offset) and copy is None
        if copy is None:
            copy = copied(engine.reading(sql, parameters, limits), limits)
        page = copy.page(limits)
        # the answer is cut to its budget after this; a token is at least one character
        if page.more or sum(len(str(row)) for row in page.rows) > call.max_tokens:
            self._copies.keep(who, what, copy)
        return page, again

    async def explain(self, sql: Sql, call: Call) -> Plan:
        """How the database would run one SELECT; it is not run. For queries that are slow."""

        def work(guard: Guard, engine: Engine) -> list[str]:
            guard.query(sql)
            return engine.plan(sql, self._limits())

        return Plan(lines=await self._work(work, call))

    async def execute(self, sql: Sql, call: Call, parameters: Parameters = None) -> Changed:
        """Run one INSERT, UPDATE or DELETE. Use dry_run first: it says how many rows would change."""
        return _changed(await self._change(sql, parameters, call, commit=True))

    async def would_execute(self, sql: Sql, call: Call, parameters: Parameters = None) -> Preview:
        """Run it and take it back."""
        result = await self._change(sql, parameters, call, commit=False)
        statement = " ".join(sql.split())
        return _would(
            f"Change {result.affected} rows: {statement[:300]}{'…' if len(statement) > 300 else ''}", result
        )

    async def _change(
        self, sql: str, parameters: Sequence[Any] | None, call: Call, *, commit: bool, guarded: bool = True
    ) -> Result:
        def work(guard: Guard, engine: Engine) -> Result:
            if guarded:
                guard.change(sql)
            if not engine.can_take_back(*guard.target(sql)):
                raise Denied("changes of this table cannot be taken back, so they are not made here.")
            before = None if commit else _before(guard, engine, sql, parameters or (), self._limits())
            result = engine.execute(sql, parameters or (), self._limits(), commit=commit)
            return (
                result
                if before is None or result.columns
                else replace(result, rows=before.rows, columns=before.columns)
            )

        return await self._work(work, call)

    def _limits(self, max_rows: int | None = None, offset: int = 0) -> Limits:
        from enterprise_connectors.sql.engine import Limits

        return Limits(
            max_rows=min(max_rows or self.config.max_rows, self.config.max_rows),
            offset=offset,
            seconds=self.config.timeout_seconds,
            max_changed=self.config.max_changed,
        )

    async def _work(self, work: Callable[[Guard, Engine], WorkT], call: Call | None) -> WorkT:
        role = self._role_of(call.principal) if call is not None else ""

        def run() -> WorkT:
            guard, engine = self._open()
            return work(guard, engine.as_role(role) if role else engine)

        return await anyio.to_thread.run_sync(run)

    def _role_of(self, caller: Principal) -> str:
        return self.config.roles.of(caller) if self.config.roles is not None else ""

    def _open(self) -> tuple[Guard, Engine]:
        with self._opening:
            if self._opened is None:
                self._opened = self._made()
            return self._opened

    def _made(self) -> tuple[Guard, Engine]:
        from enterprise_connectors.sql.guard import Guard

        url, dialect = self.config.url, self._dialect
        tables = None if self.config.tables is None else frozenset(self.config.tables)
        writable = None if self.config.write_tables is None else frozenset(self.config.write_tables)
        file = unquote(url.partition(":///")[2])
        guard = Guard(dialect, tables, writable=writable)
        if not self._changes:
            from enterprise_connectors.sql.other import Other

            schemas = {table.rpartition(".")[0] for table in tables or ()} - {""}
            other = Other(url, dialect, schemas)
            return replace(guard, exists=other.is_listed), other
        try:
            match dialect:
                case "sqlite":
                    from enterprise_connectors.sql.sqlite import Sqlite

                    return guard, Sqlite(file, guard.allows)
                case "duckdb":
                    from enterprise_connectors.sql.duck import Duck

                    return guard, Duck(file)
                case "mysql":
                    from enterprise_connectors.sql.mariadb import MariaDb

                    engine = MariaDb(url)
                    return replace(guard, default_schema=engine.database), engine
                case _:
                    from enterprise_connectors.sql.postgres import Postgres

                    return guard, Postgres(url)
        except ModuleNotFoundError as error:
            extra = {"mysql": "mariadb", "duckdb": "duckdb", "postgres": "postgres"}.get(dialect, "")
            raise Unavailable(f"this database needs: pip install 'usrland[{extra}]'.") from error


def _changed(result: Result) -> Changed:
    return Changed(
        affected=result.affected,
        columns=result.columns or None,
        rows=result.rows if result.columns else None,
        note="There are more rows than shown." if result.more else None,
    )


def _would(what: str, result: Result) -> Preview:
    """The dry run's answer: how many rows, and some of them as they are now."""
    rows = (dict(zip(result.columns, row, strict=True)) for row in result.rows[:EXAMPLES])
    examples = [json.dumps(row, ensure_ascii=False) for row in rows]
    return Preview(would=what, affected=result.affected, examples=examples)


def _before(guard: Guard, engine: Engine, sql: str, parameters: Sequence[Any], limits: Limits) -> Result | None:
    """Some of the rows that a change would meet, as they are now; None where that cannot be asked simply."""
    asked = guard.rows_met(sql)
    if asked is None:
        return None
    question, numbers = asked
    try:
        values = [parameters[number - 1] for number in numbers]
        return engine.query(question, values, replace(limits, max_rows=EXAMPLES))
    except (UsrlandError, IndexError):  # what is wrong with the change, the change itself says better
        return None


def _available(guard: Guard, engine: Engine, part: str = "") -> Generator[Table]:
    with closing(cast("Generator[Table]", engine.tables(part))) as tables:
        for table in tables:
            if guard.allows(table.name, table.schema):
                yield table


def _named(guard: Guard, engine: Engine, name: str) -> Table:
    from enterprise_connectors.sql.engine import shown

    with closing(_available(guard, engine, name.removeprefix("public.").removeprefix("main."))) as tables:
        for table in tables:
            if name in (shown(table), f"{table.schema}.{table.name}", f"main.{table.name}"):
                return table
    raise NotFound(f"there is no table {name!r}.", fix="The operation tables lists the tables there are.")


def _facts(result: Result, *, again: bool) -> list[str]:
    facts = []
    if result.shortened:
        facts.append(f"{result.shortened} long values are shortened; select a part of them with substr().")
    if again:
        facts.append(
            "The query was run again for these: where rows changed meanwhile, some may repeat or be missing."
        )
    return facts
