"""Analytics queries out of the engines' own manuals and test suites: how many of them are refused.

    python tests/benchmarks/connectors/suites.py ENGINE=FOLDER [ENGINE=FOLDER …] [--show N]

An ENGINE is one of `queries.py`. A FOLDER holds pages of a manual (`*.html`, of which the examples count) or
files of a suite (`*.sql`, `*.test`), at any depth: Debian's packages postgresql-doc, sqlite3-doc and mariadb-
test-data have such, and the source trees of PostgreSQL (src/test/regress) and DuckDB (test/sql). None of it
comes with this project. Suites alter whole servers: let them have one of their own (USRLAND_BENCHMARK_POSTGRESQL
is its URL).

Each file has a schema of its own, with what `test_setup.sql` beside it makes. Its statements run in order on the
engine itself; each that

* the engine takes,
* reads tables and sums up, joins, ranks or combines them (`_ANALYTICS`), and
* is nothing that an analyst is not meant to do here (`_NOT_MEANT`: catalogues of the system, files, sessions,
  locks, functions that the suite itself made)

has to go through the operation `query` of a connector too, and to give as many rows. What depends on its session
is made independent where that is possible (`TEMPORARY` is left out, no setting is made); where the engine then
says that something is absent, it is not counted.
"""

from __future__ import annotations

import asyncio
import collections
import html
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from enterprise_connectors.sql import SqlConfig, SqlConnector
from usrland.connector import Call
from usrland.errors import Denied, InvalidInput, UsrlandError
from usrland.schemas.principal import Principal

sys.path.insert(0, str(Path(__file__).parent))
from queries import ENGINES

CALLER = Call(id="s", principal=Principal(subject="s", scopes=frozenset({"*"})), operation="s")

_QUERY = re.compile(r"(?is)^\(*\s*(select|with)\b")
_ANALYTICS = re.compile(
    r"(?is)\b(group\s+by|over\s*\(|over\s+\w+|join|having|union|intersect|except|rollup|cube|grouping\s+sets"
    r"|(count|sum|avg|min|max|stddev\w*|var\w*|string_agg|group_concat|array_agg|listagg|list|quantile\w*|median"
    r"|percentile_\w+|corr|regr_\w+|covar\w*|bool_and|bool_or|every|total|rank|row_number|ntile|lag|lead)\s*\()"
)
_READS = re.compile(r"(?is)\bfrom\b")
_NOT_MEANT = {
    "a catalogue of the system": r"\b(pg_\w+|information_schema|duckdb_\w+|sqlite_\w+|mysql|performance_schema|sys"
    r"|pragma_\w+|sysdate|dbstat|regclass|regproc\w*|regtype|oid|ctid|xmin|tableoid)\b",
    "a file or another place": r"\b(read_\w+|glob\s*\(|parquet_\w+|sniff_\w+|load_file|outfile|dumpfile|csv\w*"
    r"|copy|dblink|lo_\w+|query_table|query\s*\()|from\s+'",
    "a session": r"@|\b(current_setting|set_config|getvariable|currval|nextval|lastval|setval|last_insert_\w+"
    r"|found_rows|row_count|connection_id|user|current_user|session_user|current_schema\w*|database|version"
    r"|in_search_path|txid_\w+|get_lock|release_lock|sleep|benchmark|advisory\w*)\b|\bprocedure\s+analyse",
    "a lock or a place to write to": r"\bfor\s+(no\s+key\s+)?(update|share)\b|\block\s+in\s+share\b"
    r"|\binto\b|\b(insert|update|delete|merge)\b",
    "a cost on purpose": r"\b(repeat|generate_series|range)\s*\([^)]*\d{7}",
    "the state of an aggregate": r"\b(export_state|finalize|combine|combine_aggr)\b",
    "of the suite alone": r":\w+|\$\w+|\bsql_\w+_result\b|\bexplain\b|\btest_\w+\s*\(",
}
_MADE = re.compile(
    r"(?is)\bcreate\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:aggregate\s+)?"
    r"(?:aggregate|function|macro|operator|type|domain|collation|procedure|window\s+function)\s+(?:if\s+not\s+exists\s+)?([\w.]+)"
)
_TEMPORARY = re.compile(r"(?is)^(create\s+)(?:or\s+replace\s+)?(?:local\s+|global\s+)?temp(?:orary)?\s+")
_SETS_UP = re.compile(
    r"(?is)^(create\s+(or\s+replace\s+)?(unlogged\s+)?(unique\s+|materialized\s+|recursive\s+|virtual\s+|fulltext\s+)?"
    r"(table|view|index|sequence|type|function|aggregate|macro|domain|operator(?!\s+(class|family)))\b|alter\s+table\b"
    r"|drop\s+(table|view|index|macro|function|type|sequence|materialized)\b|insert\b|update\b|delete\b|replace\b"
    r"|truncate\b|analyze\b|refresh\b|comment\b)"
)
"""What may be run of a suite: manuals show how to alter a whole server too."""
_SYSTEM = re.compile(r"(?is)^\w+\s+(\w+\s+)?(pg_|mysql\.|sys\.|information_schema)")
_LIMITS = {
    "postgres": ["SET statement_timeout = '10s'"],
    "mysql": ["SET max_statement_time = 10, lock_wait_timeout = 10"],
}
_ABSENT = re.compile(r"(?i)does not exist|doesn't exist|no such table|not exist|not available")


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.suffix in (".html", ".sql", ".test"))


def statements(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".html":
        for block in re.findall(r"(?is)<pre\b[^>]*>(.*?)</pre>|<blockquote>(.*?)</blockquote>", text):
            plain = html.unescape(re.sub(r"(?s)<[^>]*>", "", block[0] or block[1]))
            yield from split(re.sub(r"(?m)^\s*\w*=[>#] ?", "", plain))
    elif "\nquery " in text or "\nstatement " in text:
        yield from logic(text)
    else:
        for name, file in re.findall(r"(?m)^\\set (\w+) :abs_srcdir '(.*)'$", text):
            # a file may set the same name again and again; each holds up to the next
            text = text.replace(f":'{name}'", f"'{path.parents[1]}{file}'", 1)
        yield from split(re.sub(r"(?m)^(--\w.*|[ \t]*#.*|\\.*)$", "", text))


def logic(text: str) -> Iterator[str]:
    """Of a file of sqllogictest: records apart by an empty line, the statement above `----`."""
    for record in re.split(r"\n\s*\n", text):
        lines = [line for line in record.splitlines() if not line.startswith("#")]
        if lines and lines[0].startswith(("query ", "statement ok")):
            yield from split("\n".join(lines[1:]).split("\n----")[0])


def split(text: str) -> Iterator[str]:
    """At semicolons outside of quotes and comments."""
    start = 0
    for match in re.finditer(
        r"(?s)'(?:''|\\'|[^'])*'|\"(?:\"\"|[^\"])*\"|`[^`]*`|(\$\w*\$).*?\1|--[^\n]*|/\*.*?\*/|;", text
    ):
        if match[0] == ";":
            yield text[start : match.start()]
            start = match.end()
    yield text[start:]


def is_analytics(sql: str, made: set[str]) -> bool:
    if not _QUERY.match(sql) or not _READS.search(sql) or not _ANALYTICS.search(sql) or len(sql) > 15_000:
        return False
    bare = re.sub(r"'(?:''|[^'])*'", "''", sql)
    if any(re.search(pattern, bare, re.IGNORECASE) for pattern in _NOT_MEANT.values()):
        return False
    words = {word.lower() for word in re.findall(r"\w+", bare)}
    return not words & made


async def file(engine: str, path: Path, seen: set[str]) -> tuple[int, list[tuple[str, str]]]:
    """How many statements of one file counted, and which of them did not go through, and why."""
    counted, wrong = 0, []
    made: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        url, run = ENGINES[engine](Path(folder))
        for setting in _LIMITS.get(engine, ()):
            run(setting)
        setup = path.with_name("test_setup.sql")
        for sql in statements(setup) if setup.exists() and setup != path else ():
            with suppress(Exception):
                run(sql.strip())
        connector = SqlConnector(SqlConfig(url=url, max_rows=10_000), cast("Any", None))
        try:
            for raw in statements(path):
                sql = re.sub(r"(?m)^\s*--[^\n]*\n", "", raw).strip()
                sql = _TEMPORARY.sub(r"\1", sql)
                if not (_SETS_UP.match(sql) and not _SYSTEM.match(sql)) and not is_analytics(sql, made):
                    continue
                made |= {match.rpartition(".")[2].lower() for match in _MADE.findall(sql)}
                try:
                    expected = run(sql)
                except Exception:  # not a statement of this engine, or wrong on purpose
                    continue
                if sql in seen or _SETS_UP.match(sql):
                    continue
                seen.add(sql)
                try:
                    given = len((await connector.query(sql, CALLER)).items)
                    if given != min(expected, 10_000):
                        wrong.append((f"{given} rows instead of {expected}", sql))
                except (Denied, InvalidInput) as error:
                    if isinstance(error, InvalidInput) and _ABSENT.search(error.fact):
                        continue
                    wrong.append((error.fact, sql))
                except UsrlandError as error:
                    wrong.append((error.fact, sql))
                counted += 1
        finally:
            await connector.aclose()
    return counted, wrong


async def main(arguments: list[str]) -> None:
    show = int(arguments.pop(arguments.index("--show") + 1)) if "--show" in arguments else 10
    totals: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for argument in [each for each in arguments if not each.startswith("--")]:
        engine, _, folder = argument.partition("=")
        counted, wrong, seen = 0, list[tuple[str, str]](), set[str]()
        for path in files(Path(folder)):
            try:
                one, missed = await file(engine, path, seen)
            except Exception as error:
                print(f"  {path.name}: {str(error)[:100]}", file=sys.stderr)
                continue
            counted, wrong = counted + one, wrong + missed
        print(
            f"{engine} {Path(folder).name}: {len(wrong)} of {counted} ({len(wrong) / max(counted, 1):.2%})",
            flush=True,
        )
        reasons = collections.Counter(re.sub(r"\d+", "N", fact) for fact, _ in wrong)
        for reason, number in reasons.most_common(show):
            print(f"    {number} × {reason[:110]}")
            for sql in [sql for fact, sql in wrong if re.sub(r"\d+", "N", fact) == reason][:3]:
                print(f"        {' '.join(sql.split())[:250]}")
        totals[engine][0] += len(wrong)
        totals[engine][1] += counted
    for engine, (wrong_number, number) in totals.items():
        print(f"{engine}: {wrong_number} of {number} refused or different, {wrong_number / max(number, 1):.2%}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
