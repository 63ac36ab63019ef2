"""Does the contract suite notice what an author can do wrong? Each mutation is a real connector, edited and tested.

    python tests/testing/mutations.py [--only TEXT ...] [--markdown FILE]

A project is made as `usrland new` makes it, one thing in it is broken, and its own `pytest` is run: a mutation
that passes has survived. The controls are edits that break nothing; each must pass, or the suite would prove
nothing by failing. Ends with 1 where a mutation survived or a control failed.
"""

# ruff: noqa: E501 - code is quoted as it stands in its file

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from usrland.cli.new import project

PACKAGE = "example_connector"
CONNECTOR, STORE, SERVER, MAIN = (f"{PACKAGE}/{name}.py" for name in ("connector", "store", "server", "__main__"))
TEST = "tests/test_contract.py"


class Edit(NamedTuple):
    """One place in one file: the text that stands there once, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    name: str
    edits: tuple[Edit, ...]
    control: bool = False


@dataclass(frozen=True)
class Result:
    mutation: Mutation
    passed: bool
    told: str
    """The first test that failed, or how it ended."""

    @property
    def right(self) -> bool:
        return self.passed == self.mutation.control


def of(name: str, *edits: tuple[str, str, str], control: bool = False) -> Mutation:
    return Mutation(name, tuple(Edit(*edit) for edit in edits), control)


def body(name: str, code: str, imports: str = "") -> Mutation:
    """Put code at the beginning of `task_find`."""
    edits = [(CONNECTOR, FIND, f"        {code}\n{FIND}")]
    if imports:
        edits.append(imported(imports))
    return of(name, *edits)


def imported(line: str, file: str = CONNECTOR) -> tuple[str, str, str]:
    return (file, "from pathlib import Path\n", f"from pathlib import Path\n{line}\n")


def added(name: str, code: str, *, control: bool = False, effect: str = "read", sample: str = "{}") -> Mutation:
    """Give the connector one more operation, and the contract a sample of it."""
    scope = "example:read" if effect == "read" else "example:write"
    declared = f'Operation(call=self.task_more, effect="{effect}", scopes=frozenset({{"{scope}"}})),'
    return of(
        name,
        (CONNECTOR, "        return [\n", f"        return [\n            {declared}\n"),
        (CONNECTOR, "    async def task_add(", f"{code}\n    async def task_add("),
        (CONNECTOR, "from usrland import Call,", "from usrland import Answer, Call, InvalidInput, NotFound,"),
        (CONNECTOR, "class ExampleConnector(", "class Text(Answer):\n    text: str\n\n\nclass ExampleConnector("),
        (TEST, "samples: ClassVar = {", f'samples: ClassVar = {{"task_more": {sample}, '),
        control=control,
    )


def generated(name: str, schema: str) -> Mutation:
    """Offer `task_find` with a schema of its own instead of its signature's."""
    return of(
        name,
        (
            CONNECTOR,
            'Operation(call=self.task_find, effect="read", scopes=frozenset({"example:read"})),',
            f'Operation(call=self.any_find, name="task_find", effect="read", scopes=frozenset({{"example:read"}}), '
            f'parameters={{"type": "object", "required": [], {schema}}}),',
        ),
        (
            CONNECTOR,
            "    async def task_add(",
            "    async def any_find(self, call: Call, **arguments: str) -> Page[Task]:\n"
            '        """Find tasks, newest first; without a text, all of them."""\n'
            '        return await self.task_find(call, str(arguments.get("text", "")))\n\n'
            "    async def task_add(",
        ),
    )


FIND = "        tasks, total = await self._store.find("
NOTE = 'note=None if total else "No task fits.",'
READS = 'Operation(call=self.task_find, effect="read", scopes=frozenset({"example:read"})),'
ADDS = 'effect="write",\n                scopes=frozenset({"example:write"}),\n                undo="task_remove",'
REMOVES = 'effect="destroy",\n                scopes=frozenset({"example:write"}),'
ENVIRON = 'os.environ.get("CONTRACT_SECRET", "")'
SQL_FAILS = """        except sqlite3.Error as error:
            raise Unavailable(f"the task file cannot be used: {error}.") from error
"""
INSERT = """            cursor = connection.execute(
                "INSERT INTO task (tenant, namespace, title, owner) VALUES (?, ?, ?, ?)",
                (principal.tenant, principal.namespace, title, owner),
            )
            return Task(task=cursor.lastrowid or 0, title=title, owner=owner)

        return await self._run(work)
"""
RACING = """            connection.execute(
                "INSERT INTO task (task, tenant, namespace, title, owner) VALUES (?, ?, ?, ?, ?)",
                (number, principal.tenant, principal.namespace, title, owner),
            )
            return Task(task=number, title=title, owner=owner)

        def last(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT coalesce(max(task), 0) + 1 FROM task").fetchone()[0])

        number = await self._run(last)
        return await self._run(work)
"""
FITS = """"tenant = ? AND namespace = ? AND instr(lower(title || char(10) || owner), lower(?))"
            values = (principal.tenant, principal.namespace, text)"""
READ_FILE = '''    async def task_more(
        self, file: Annotated[str, Field(description="Name of an attachment.")] = "a.txt"
    ) -> Text:
        """Read an attachment of a task."""
        path = self.config.file.parent / file
{check}        try:
            return Text(text=path.read_text())
        except (OSError, ValueError):
            {missing}
'''
WRITE_FILE = '''    async def task_more(
        self, path: Annotated[str, Field(description="Where to.")] = "a.txt"
    ) -> Text:
        """Export the tasks to a file."""
        target = self.config.file.parent / path
{check}        try:
            target.write_text("tasks")
        except (OSError, ValueError):
            raise InvalidInput("the file cannot be written.") from None
        return Text(text="done")
'''
MISSING = 'raise NotFound("there is no such attachment.", fix="Look for another one.") from None'
NONE = 'return Text(text="")'
BENEATH = """        if "\\0" in {name} or not (self.config.file.parent / {name}).resolve().is_relative_to(self.config.file.parent.resolve()):
            raise InvalidInput("that leads outside.")
"""
MATCHES = '''    async def task_more(
        self, call: Call, pattern: Annotated[str, Field(description="What to look for.")] = "offer"
    ) -> Text:
        """Count the tasks whose title fits a pattern."""
        tasks, _ = await self._store.find(call.principal, "", skip=0, limit=200)
        return Text(text=str(len([task for task in tasks if {test}])))
'''

MUTATIONS = (
    # risk and hints
    of(
        "a scope that readers have is enough to add",
        (CONNECTOR, ADDS, ADDS.replace("example:write", "example:read")),
    ),
    of(
        "a scope that readers have is enough to remove",
        (CONNECTOR, REMOVES, REMOVES.replace("example:write", "example:read")),
    ),
    of("a write says that it reads", (CONNECTOR, ADDS, 'effect="read",\n scopes=frozenset({"example:read"}),')),
    of("what destroys says that it writes", (CONNECTOR, REMOVES, REMOVES.replace("destroy", "write"))),
    of("what destroys asks nobody", (CONNECTOR, REMOVES, f"{REMOVES} consent=False,")),
    of("a write says that it may be repeated", (CONNECTOR, ADDS, f"{ADDS} idempotent=True,")),
    of(
        "a dry run is not dry",
        (CONNECTOR, "found = await self._store.get(", "found = await self._store.remove("),
    ),
    of("undo leads nowhere", (CONNECTOR, 'undo="task_remove"', 'undo="task_unadd"')),
    of("a deadline of a day", (CONNECTOR, ADDS, f"{ADDS} timeout_seconds=86_400,")),
    of("an answer without limit", (CONNECTOR, ADDS, f"{ADDS} max_tokens=1_000_000,")),
    # standard output
    body("it prints when it is called", "print('looking')"),
    body("it writes to descriptor 1 when it is called", "os.write(1, b'looking')", "import os"),
    of("it prints when it is imported", (CONNECTOR, "PAGE_ITEMS = 200\n", "PAGE_ITEMS = 200\nprint('ready')\n")),
    of("it prints before it starts", (MAIN, "    launch(", "    print('starting', flush=True)\n    launch(")),
    # the event loop
    body("it sleeps on the event loop", "time.sleep(0.01)", "import time"),
    body("it computes on the event loop", "sum(range(25_000_000))"),
    body("it waits for a thread on the event loop", "threading.Event().wait(0.8)", "import threading"),
    body("it starts a program on the event loop", "subprocess.run(['true'])", "import subprocess"),
    of(
        "it opens its database on the event loop",
        (STORE, "return await anyio.to_thread.run_sync(self._run_now, work)", "return self._run_now(work)"),
    ),
    # deadline and cancellation
    of(
        "it cannot be cancelled",
        (CONNECTOR, FIND, f"        with anyio.CancelScope(shield=True):\n    {FIND}"),
        (CONNECTOR, "call.principal, text, skip", "call.principal, text, skip"),
        imported("import anyio"),
    ),
    of(
        "it takes its cancellation for a failure",
        (CONNECTOR, FIND, f"        try:\n    {FIND}"),
        (
            CONNECTOR,
            "        return Page(\n            items=tasks",
            "        except BaseException:\n            return Page(items=[], total=0)\n"
            "        return Page(\n            items=tasks",
        ),
    ),
    of(
        "a cancelled call keeps a lock",
        (CONNECTOR, FIND, f"        await self._lock.acquire()\n        await anyio.sleep(0)\n{FIND}"),
        (
            CONNECTOR,
            "        return Page(\n            items=tasks",
            "        self._lock.release()\n        return Page(\n            items=tasks",
        ),
        (
            CONNECTOR,
            "        self._store = TaskStore(",
            "        self._lock = anyio.Lock()\n        self._store = TaskStore(",
        ),
        imported("import anyio"),
    ),
    # answers
    of(
        "an answer is far too long",
        (STORE, "title=row[1], owner=row[2]) for row", "title=row[1] * 9_000, owner=row[2]) for row"),
    ),
    of("every page is the first", (CONNECTOR, "skip=call.offset", "skip=0")),
    of("the total is wrong", (CONNECTOR, "total=total,", "total=total + 1,")),
    of(
        "the rest is not mentioned",
        (CONNECTOR, "PAGE_ITEMS = 200", "PAGE_ITEMS = 5"),
        (CONNECTOR, "more=call.offset + len(tasks) < total,", ""),
    ),
    # errors
    of(
        "a failure looks like nothing found",
        (STORE, SQL_FAILS, "        except sqlite3.Error:\n            return [], 0  # type: ignore\n"),
    ),
    of(
        "a failure of the system is not foreseen",
        (STORE, SQL_FAILS, "        except ZeroDivisionError:\n            raise\n"),
    ),
    of(
        "what is not there is not foreseen",
        (
            STORE,
            '    if row is None:\n        raise NotFound(f"there is no task {number}.", fix="Find its number with `task_find`.")\n    return Task(task=row[0]',
            "    return Task(task=row[0]",
        ),
    ),
    of(
        "an error holds its stack",
        (
            STORE,
            'raise Unavailable(f"the task file cannot be used: {error}.") from error\n\n',
            "raise Unavailable(traceback.format_exc()) from error\n\n",
        ),
        imported("import traceback", STORE),
    ),
    of(
        "an error names a file of the machine",
        (
            STORE,
            'raise Unavailable(f"the task file cannot be used: {error}.") from error\n\n',
            'raise Unavailable(f"{self._file} cannot be used.") from error\n\n',
        ),
    ),
    # secrets
    body(
        "a secret is in the log", f'logging.getLogger("tasks").warning("as %s", {ENVIRON})', "import logging, os"
    ),
    body(
        "a secret is in the debugging log",
        f'logging.getLogger("tasks").debug("as %s", {ENVIRON})',
        "import logging, os",
    ),
    of("a secret is in an answer", (CONNECTOR, NOTE, f"note={ENVIRON},"), imported("import os")),
    of(
        "a secret is in an answer, encoded",
        (CONNECTOR, NOTE, f"note=base64.b64encode({ENVIRON}.encode()).decode(),"),
        imported("import base64, os"),
    ),
    of(
        "a secret is in an error",
        (CONNECTOR, FIND, f'        if "\'" in text:\n            raise InvalidInput("as " + {ENVIRON})\n{FIND}'),
        (CONNECTOR, "from usrland import Call,", "from usrland import Call, InvalidInput,"),
        imported("import os"),
    ),
    of(
        "a secret is written down",
        (
            STORE,
            "        try:\n            self._file.parent",
            "        try:\n            self._file.with_name('debug').write_text(str(os.environ))\n            self._file.parent",
        ),
        imported("import os", STORE),
    ),
    of(
        "a configured password is in an error",
        (CONNECTOR, "    file: Path = Field(", '    password: str = ""\n    file: Path = Field('),
        (
            CONNECTOR,
            FIND,
            f'        if "\'" in text:\n            raise InvalidInput("as " + self.config.password)\n{FIND}',
        ),
        (CONNECTOR, "from usrland import Call,", "from usrland import Call, InvalidInput,"),
        (
            SERVER,
            "connector = ExampleConnector(config,",
            'config = config.model_copy(update={"password": settings.environment[config.password[4:]]})\n    connector = ExampleConnector(config,',
        ),
        (
            TEST,
            "    private = True\n",
            '    private = True\n    usrland_toml = "[example-connector]\\npassword = \\"env:TASKS_PASSWORD\\"\\n"\n',
        ),
    ),
    # state
    of(
        "an answer depends on the calls before it",
        (CONNECTOR, NOTE, "note=f'answer {self._count}',"),
        (CONNECTOR, FIND, f"        self._count += 1\n{FIND}"),
        (
            CONNECTOR,
            "        self._store = TaskStore(",
            "        self._count = 0\n        self._store = TaskStore(",
        ),
    ),
    of(
        "what was found before is found again",
        (CONNECTOR, "            items=tasks,", "            items=self._seen,"),
        (CONNECTOR, "        return Page(\n", "        self._seen += tasks\n        return Page(\n"),
        (
            CONNECTOR,
            "        self._store = TaskStore(",
            "        self._seen: list[Task] = []\n        self._store = TaskStore(",
        ),
    ),
    of(
        "calls at the same time share a variable",
        (CONNECTOR, FIND, f"        self._text = text\n        await anyio.sleep(0)\n{FIND}"),
        (CONNECTOR, "call.principal, text, skip", "call.principal, self._text, skip"),
        (
            CONNECTOR,
            "        self._store = TaskStore(",
            '        self._text = ""\n        self._store = TaskStore(',
        ),
        imported("import anyio"),
    ),
    of(
        "a cache forgets whose answer it holds",
        (CONNECTOR, FIND, f"        if text in self._kept:\n            return self._kept[text]\n{FIND}"),
        (
            CONNECTOR,
            "        return Page(\n            items=tasks",
            "        self._kept[text] = Page(\n            items=tasks",
        ),
        (CONNECTOR, "    async def task_add(", "        return self._kept[text]\n\n    async def task_add("),
        (
            CONNECTOR,
            "        self._store = TaskStore(",
            "        self._kept: dict[str, Page[Task]] = {}\n        self._store = TaskStore(",
        ),
    ),
    of("every tenant sees everything", (STORE, FITS, FITS.replace("tenant = ? AND ", "? != '' AND "))),
    of("every namespace sees everything", (STORE, FITS, FITS.replace("namespace = ?", "? != ''"))),
    of("two at the same time get the same number", (STORE, INSERT, RACING)),
    # start and end
    of("it loads something heavy at import", imported("import numpy")),
    of(
        "it sleeps at import",
        (CONNECTOR, "PAGE_ITEMS = 200\n", "PAGE_ITEMS = 200\ntime.sleep(0.05)\n"),
        imported("import time"),
    ),
    of(
        "it asks the network before it starts",
        (SERVER, "    connector = ", '    socket.getaddrinfo("localhost", 80)\n    connector = '),
        (SERVER, "from contextlib", "import socket\nfrom contextlib"),
    ),
    of(
        "it needs an environment that no host gives",
        (CONNECTOR, "PAGE_ITEMS = 200\n", 'PAGE_ITEMS = 200\nHOME = os.environ["HOME"]\n'),
        imported("import os"),
    ),
    of(
        "it does not end with its input",
        (MAIN, "    launch(", "    threading.Thread(target=threading.Event().wait).start()\n    launch("),
        (MAIN, "from usrland.launch", "import threading\n\nfrom usrland.launch"),
    ),
    of(
        "it ends with a failure",
        (MAIN, "    launch(", "    atexit.register(os._exit, 3)\n    launch("),
        (MAIN, "from usrland.launch", "import atexit, os\n\nfrom usrland.launch"),
    ),
    of(
        "it keeps its file wherever it was started",
        (SERVER, 'settings.home / NAME / "tasks.sqlite"', '__import__("pathlib").Path("tasks.sqlite")'),
    ),
    body(
        "it connects without saying so",
        "await _knock()",
        "import socket, contextlib, anyio\nasync def _knock() -> None:\n    with contextlib.suppress(OSError):\n        await anyio.connect_tcp('127.0.0.1', 9)\n",
    ),
    # hostile arguments
    added("a path leads out of its folder", READ_FILE.format(check="", missing=NONE)),
    added(
        "a path is checked by its first letters",
        READ_FILE.format(
            check='        if file.startswith(("/", "..")):\n            raise InvalidInput("that leads outside.")\n',
            missing=NONE,
        ),
    ),
    added("an export can be written anywhere", WRITE_FILE.format(check=""), effect="write"),
    of(
        "a text becomes SQL",
        (
            STORE,
            FITS,
            "f\"tenant = ? AND namespace = ? AND instr(lower(title || char(10) || owner), lower('{text}'))\"\n            values = (principal.tenant, principal.namespace)",
        ),
    ),
    of(
        "a text becomes SQL, and its failures are hidden",
        (
            STORE,
            FITS,
            "f\"tenant = ? AND namespace = ? AND (title LIKE '%{text}%')\"\n            values = (principal.tenant, principal.namespace)",
        ),
        (
            STORE,
            SQL_FAILS,
            SQL_FAILS.replace(
                "        except sqlite3.Error as error:\n",
                "        except sqlite3.OperationalError:\n            return [], 0  # type: ignore\n        except sqlite3.Error as error:\n",
            ),
        ),
    ),
    of(
        "a pattern that is none is not foreseen",
        *added("", MATCHES.format(test="re.search(pattern, task.title)")).edits,
        imported("import re"),
    ),
    # schemas and listing
    generated(
        "a schema refers to another",
        '"properties": {"text": {"$ref": "#/$defs/T"}}, "$defs": {"T": {"type": "string"}}',
    ),
    generated("a schema allows null", '"properties": {"text": {"anyOf": [{"type": "string"}, {"type": "null"}]}}'),
    generated("a schema lists types", '"properties": {"text": {"type": ["string", "null"]}}'),
    generated(
        "unknown arguments are taken", '"properties": {"text": {"type": "string"}}, "additionalProperties": True'
    ),
    of(
        "text is taken for a number",
        (CONNECTOR, "Annotated[int, Field(ge=1", "Annotated[int, BeforeValidator(int), Field(ge=1"),
        (CONNECTOR, "from pydantic import BaseModel,", "from pydantic import BaseModel, BeforeValidator,"),
    ),
    of(
        "there is no description",
        (CONNECTOR, '        """Remove one task for good and answer what it was."""\n', ""),
    ),
    of("a description says nothing", (CONNECTOR, "Remove one task for good and answer what it was.", "Remove.")),
    of(
        "a description holds hidden characters",
        (CONNECTOR, "Remove one task for good", "Remove one\\u200b task for good"),
    ),
    of(
        "two operations have one description",
        (
            CONNECTOR,
            "Remove one task for good and answer what it was.",
            "Add one task and answer it with its number. Look with `task_find` first whether it is there already.",
        ),
    ),
    of(
        "the order of the tools changes",
        (CONNECTOR, "        return [\n", "        return random.sample([\n"),
        (CONNECTOR, "            ),\n        ]\n", "            ),\n        ] * 1, 3)\n"),
        imported("import random"),
    ),
    of(
        "each start describes itself anew",
        (CONNECTOR, '"""Remove one task for good and answer what it was."""', ""),
        (CONNECTOR, REMOVES, f'{REMOVES} description=f"Remove one task, {{time.time_ns()}}.",'),
        (CONNECTOR, "PAGE_ITEMS = 200\n", "PAGE_ITEMS = 200\nNOW = time.time_ns()\n"),
        imported("import time"),
    ),
    of(
        "there are more tools than a host takes",
        (
            CONNECTOR,
            "        return [\n",
            '        return [\n            *(Operation(call=self.task_find, name=f"task_{at}", description=f"Find {at} tasks.", effect="read", scopes=frozenset({"example:read"})) for at in range(11)),\n',
        ),
    ),
    of(
        "it does not say what it is for",
        (
            SERVER,
            'instructions="The task list of the team. Find tasks before adding one; removing needs the user\'s consent."',
            'instructions=" "',
        ),
    ),
    # edits that break nothing
    of("nothing was edited", control=True),
    added(
        "a path is kept in its folder",
        READ_FILE.format(check=BENEATH.format(name="file"), missing=NONE),
        control=True,
    ),
    added(
        "an export is kept in its folder",
        WRITE_FILE.format(check=BENEATH.format(name="path")),
        effect="write",
        control=True,
    ),
    of(
        "a pattern is text",
        *added("", MATCHES.format(test="pattern in task.title")).edits,
        control=True,
    ),
)


CAUGHT_BY = {
    "a scope that": "risk_of_each",
    "a write says that it reads": "only_reads",
    "what destroys says": "risk_of_each",
    "what destroys asks": "risk_of_each",
    "a write says that it may": "calls_itself_idempotent",
    "a dry run": "dry_run_changes",
    "undo leads": "risk_of_each",
    "a deadline of": "risk_of_each",
    "an answer without": "risk_of_each",
    "it prints when": "says_nothing",
    "it writes to descriptor": "says_nothing",
    "it prints before": "nothing_else_on_standard_output",
    "it sleeps on": "leaves_the_event_loop",
    "it computes": "leaves_the_event_loop",
    "it waits for": "leaves_the_event_loop",
    "it starts a": "leaves_the_event_loop",
    "it opens its": "leaves_the_event_loop",
    "it cannot be": "ends_at_its_deadline",
    "it takes its": "ends_at_its_deadline",
    "a cancelled call": "ends_at_its_deadline",
    "an answer is far": "within_its_budget",
    "every page": "pages_join",
    "the total": "pages_join",
    "the rest": "pages_join",
    "a failure": "broken_file",
    "what is not there": "names_nothing",
    "an error holds": "broken_file",
    "an error names": "broken_file",
    "a secret is in the log": "says_nothing",
    "a secret": "no_secret",
    "a configured": "no_secret",
    "an answer depends": "only_reads",
    "what was found": "only_reads",
    "calls at the same": "at_the_same_time",
    "a cache": "another_tenant",
    "every tenant": "another_tenant",
    "every namespace": "another_tenant",
    "two at the same": "at_the_same_time",
    "it loads": "nothing_is_waited_for",
    "it sleeps at": "nothing_is_waited_for",
    "it asks": "nothing_is_waited_for",
    "it needs": "nothing_else_on_standard_output",
    "it does not end": "ends_when",
    "it ends with": "ends_when",
    "it keeps": "writes_nowhere",
    "it connects": "reaches_out",
    "a path": "leads_nowhere",
    "an export": "leads_nowhere",
    "a text becomes SQL, and": "finds_no_more",
    "a text": "odd_texts",
    "a pattern": "odd_texts",
    "a schema": "used_by_every_host",
    "unknown arguments": "unknown_argument",
    "text is taken": "mistyped",
    "a description says": "risk_of_each",
    "a description holds": "used_by_every_host",
    "two operations": "risk_of_each",
    "the order": "same_each_time",
    "each start": "another_process",
    "there are more": "fits_into_a_conversation",
    "it does not say": "says_of_itself",
}
"""By how a mutation's name begins, the test of the suite that should fail: it alone is run, which takes less time. The
first that fits counts; without one the whole suite is run, as for the controls."""


def made(mutation: Mutation, folder: Path) -> None:
    """Write the project as `usrland new` does, and edit it."""
    files = dict(project("example"))
    for edit in mutation.edits:
        text = files[edit.file]
        if text.count(edit.old) != 1:
            raise ValueError(f"{mutation.name!r}: {edit.old!r} stands {text.count(edit.old)} times in {edit.file}")
        files[edit.file] = text.replace(edit.old, edit.new)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def tried(mutation: Mutation, folder: Path) -> Result:
    """Run the project's own tests in a process that has loaded all but the project."""
    made(mutation, folder)
    log = folder / "log.txt"
    child = os.fork()
    if child == 0:
        _become_pytest(folder, log, "" if mutation.control else _expected(mutation.name))
    _, status = os.waitpid(child, 0)
    said, code = log.read_text(encoding="utf-8", errors="replace"), os.waitstatus_to_exitcode(status)
    if code not in (0, 1, 2):  # all passed, some failed, or the project could not even be read
        raise RuntimeError(f"{mutation.name!r}: no test was run: {said[-400:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (?:\S*::)?(\S+)", said, re.MULTILINE)
    told = failed[1] if failed else said.strip().splitlines()[-1][:200] if said.strip() else "nothing"
    return Result(mutation, code == 0, told)


def _expected(name: str) -> str:
    return next((test for begin, test in CAUGHT_BY.items() if name.startswith(begin)), "")


def _become_pytest(folder: Path, log: Path, test: str) -> None:
    """Never returns."""
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(folder)  # `python -m` finds the edited package here before the installed one
        sys.path.insert(0, str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]  # the template was read to copy it
        import pytest

        quiet = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", "-k", test]
        code = int(pytest.main([*quiet, "--rootdir", str(folder), "-c", str(folder / "pyproject.toml"), TEST]))
        sys.stdout.flush()
    finally:
        os._exit(code)


def _warm() -> None:
    """Load what every project loads, before the processes part."""
    import usrland.cli.man
    import usrland.host
    import usrland.outgoing
    import usrland.testing  # noqa: F401


def results(only: Sequence[str]) -> Iterator[Result]:
    _warm()
    for mutation in MUTATIONS:
        if not only or any(text in mutation.name for text in only):
            folder = Path(tempfile.mkdtemp(prefix="usrland-mutation-"))
            try:
                yield tried(mutation, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="mutations whose name holds this")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    options = parser.parse_args()
    found = []
    for result in results(options.only):
        found.append(result)
        verdict = "passed" if result.passed else "caught by"
        sys.stdout.write(f"{'ok ' if result.right else 'BAD'} {result.mutation.name}: {verdict} {result.told}\n")
        sys.stdout.flush()
    wrong = [result for result in found if not result.right]
    broken = [result for result in found if not result.mutation.control]
    sys.stdout.write(
        f"{len(broken)} mutations, {len(found) - len(broken)} controls, {len(wrong)} not as they must be\n"
    )
    if options.markdown:
        rows = [f"| {each.mutation.name} | `{each.told}` |" for each in broken]
        options.markdown.write_text(
            "\n".join(["| mutation | caught by |", "|---|---|", *rows, ""]), encoding="utf-8"
        )
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())
