"""The systems of a small company, started on this machine: each is the real program, with data of its own.

Each function is a context manager that yields the table for `connectors.toml`, and raises `Absent` where the
program is not installed. Debian's packages: redmine redmine-sqlite thin, mediawiki php-cli php-sqlite3 php-xml
php-mbstring php-intl, dovecot-imapd, slapd; RabbitMQ, NATS, Mosquitto and Redis are expected on their usual ports.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SECRETS: dict[str, str] = {}
"""What the tables refer to with `env:`."""


class Absent(Exception):
    """Raised where a system cannot be started here."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.1)
    raise Absent(f"nothing listens on {port}")


def service(port: int) -> None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        raise Absent(f"nothing listens on {port}") from None


@contextlib.contextmanager
def process(
    command: Sequence[object], folder: Path, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    with log.open("w") as out:
        started = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)  # its workers, too: they would outlive it
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def done(command: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if finished.returncode:
        raise Absent(f"{command[0]}: {finished.stdout[-300:]} {finished.stderr[-300:]}")
    return finished.stdout


@contextlib.contextmanager
def redmine(work: Path) -> Iterator[str]:
    source = Path("/usr/share/redmine")
    if not source.is_dir() or not shutil.which("bundle") or not shutil.which("thin"):
        raise Absent("redmine is not installed")
    app = work / "redmine"
    shutil.copytree(source, app, symlinks=True)
    for left in ("instances", "Gemfile.lock"):
        (app / left).unlink(missing_ok=True)
    instance = app / "instances" / "default"
    for name in ("config", "files", "log", "tmp", "public"):
        (instance / name).mkdir(parents=True)
    database = f"production:\n  adapter: sqlite3\n  database: {work / 'redmine.sqlite'}\n"
    (instance / "config" / "database.yml").write_text(database)
    (instance / "config" / "secret_key.txt").write_text(secrets.token_hex(64))
    prepare = work / "prepare.rb"
    prepare.write_text(
        "Setting.rest_api_enabled = '1'\nadmin = User.find_by_login('admin')\nadmin.must_change_passwd = false\n"
        "admin.save!\nputs 'KEY=' + admin.api_key\n"
    )
    rails = {"RAILS_ENV": "production", "X_DEBIAN_SITEID": "default", "REDMINE_LANG": "en"}
    done(["bundle", "install", "--local", "--quiet"], app, rails)
    done(["bundle", "exec", "rake", "db:migrate"], app, rails)
    done(["bundle", "exec", "rake", "redmine:load_default_data"], app, rails)
    said = done(["bundle", "exec", "rails", "runner", prepare], app, rails)
    SECRETS["REDMINE_KEY"] = said.rpartition("KEY=")[2].strip()
    port = free_port()
    command = ["bundle", "exec", "thin", "start", "-a", "127.0.0.1", "-p", port, "-e", "production"]
    with process(command, app, work / "thin.log", rails):
        listening(port, 120)
        yield f'[tracker]\nkind = "redmine"\nurl = "http://127.0.0.1:{port}"\nsecret = "env:REDMINE_KEY"\n'


@contextlib.contextmanager
def mediawiki(work: Path) -> Iterator[str]:
    source = Path("/usr/share/mediawiki")
    if not source.is_dir() or not shutil.which("php"):
        raise Absent("mediawiki is not installed")
    port, data = free_port(), work / "wikidata"
    data.mkdir()
    settings = {"MW_CONFIG_FILE": str(data / "LocalSettings.php")}
    SECRETS["WIKI_PASSWORD"] = secrets.token_hex(16)
    done(
        ["php", "maintenance/install.php", "--confpath", data, "--dbtype", "sqlite", "--dbpath", data,
         "--dbname", "wiki", "--pass", secrets.token_hex(16), "--server", f"http://127.0.0.1:{port}",
         "--scriptpath", "", "--lang", "en", "Wiki", "Admin"],
        source,
        settings,
    )  # fmt: skip
    grants = "basic,highvolume,editpage,createeditmovepage,delete,editprotected,rollback"
    bot = ["php", "maintenance/createBotPassword.php", "--appid", "usrland", "--grants", grants, "Admin"]
    done([*bot, SECRETS["WIKI_PASSWORD"]], source, settings)
    serve = {**settings, "PHP_CLI_SERVER_WORKERS": "4"}
    with process(["php", "-S", f"127.0.0.1:{port}"], source, work / "php.log", serve):
        listening(port)
        yield (
            f'[wiki]\nkind = "mediawiki"\nurl = "http://127.0.0.1:{port}"\nusername = "Admin@usrland"\n'
            'password = "env:WIKI_PASSWORD"\n'
        )


@contextlib.contextmanager
def mail(work: Path) -> Iterator[str]:
    if not Path("/usr/sbin/dovecot").exists():
        raise Absent("dovecot is not installed")
    folder, port, smtp = work / "dovecot", free_port(), free_port()
    for name in ("run", "state", "home"):
        (folder / name).mkdir(parents=True)
    work.chmod(0o755)
    shutil.chown(folder / "home", "nobody", "nogroup")
    SECRETS["MAIL_PASSWORD"] = secrets.token_hex(8)
    (folder / "dovecot.conf").write_text(
        f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
passdb {{
  driver = static
  args = password={SECRETS["MAIL_PASSWORD"]}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/home
}}
namespace inbox {{
  inbox = yes
  mailbox Archive {{
    auto = create
  }}
}}
"""
    )
    code = (
        "import asyncio, sys\n"
        "from aiosmtpd.controller import Controller\n"
        "import imaplib\n"
        "class Deliver:\n"
        "    async def handle_DATA(self, server, session, envelope):\n"
        "        box = imaplib.IMAP4('127.0.0.1', int(sys.argv[2]))\n"
        "        box.login('ann', sys.argv[3])\n"
        "        box.append('INBOX', None, None, envelope.content)\n"
        "        box.logout()\n"
        "        return '250 delivered'\n"
        "Controller(Deliver(), hostname='127.0.0.1', port=int(sys.argv[1])).start()\n"
        "import threading; threading.Event().wait()\n"
    )
    with (
        process(["/usr/sbin/dovecot", "-F", "-c", folder / "dovecot.conf"], folder, work / "dovecot.log"),
        process([sys.executable, "-c", code, smtp, port, SECRETS["MAIL_PASSWORD"]], work, work / "smtp.log"),
    ):
        listening(port)
        listening(smtp)
        yield (
            f'[post]\nkind = "mail"\nplain = true\nimap = "imap://127.0.0.1:{port}"\nsmtp = "smtp://127.0.0.1:{smtp}"\n'
            'username = ""\nsender = "Ann <ann@example.org>"\n'
        ).replace('username = ""\n', "") + 'username = "ann"\npassword = "env:MAIL_PASSWORD"\n'


@contextlib.contextmanager
def directory(work: Path) -> Iterator[str]:
    slapd = shutil.which("slapd", path="/usr/sbin")
    if slapd is None:
        raise Absent("slapd is not installed")
    folder, port = work / "slapd", free_port()
    (folder / "data").mkdir(parents=True)
    SECRETS["LDAP_PASSWORD"] = secrets.token_hex(8)
    (folder / "slapd.conf").write_text(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
        "include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f'pidfile {folder}/pid\ndatabase mdb\nsuffix "dc=example,dc=org"\nrootdn "cn=admin,dc=example,dc=org"\n'
        f"rootpw {SECRETS['LDAP_PASSWORD']}\ndirectory {folder}/data\n"
    )
    (folder / "entries.ldif").write_text(
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n"
        "dn: uid=ann,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: ann\ncn: Ann Lee\nsn: Lee\n"
        "telephoneNumber: 111\n"
    )
    done([slapd, "-T", "add", "-f", folder / "slapd.conf", "-l", folder / "entries.ldif"], folder)
    command = [slapd, "-d", "0", "-f", folder / "slapd.conf", "-h", f"ldap://127.0.0.1:{port}"]
    with process(command, folder, work / "slapd.log"):
        listening(port)
        yield (
            f'[staff]\nkind = "ldap"\nurl = "ldap://127.0.0.1:{port}"\nplain = true\nbase = "dc=example,dc=org"\n'
            'bind = "cn=admin,dc=example,dc=org"\npassword = "env:LDAP_PASSWORD"\n'
            '[staff.changes.set_phone]\ndescription = "Set a telephone number."\nattribute = "telephoneNumber"\n'
        )


@contextlib.contextmanager
def objects(work: Path) -> Iterator[str]:
    from moto_store import moto_store

    SECRETS["S3_SECRET"] = "moto-checks-it-elsewhere"
    with moto_store() as store:
        client = store.client()
        client.create_bucket(Bucket="reports")
        client.put_bucket_versioning(Bucket="reports", VersioningConfiguration={"Status": "Enabled"})
        yield (
            f'[archive]\nkind = "s3"\nendpoint = "{store.url}"\naccess_key = "x"\nsecret = "env:S3_SECRET"\n'
            'buckets = ["reports"]\n'
        )


@contextlib.contextmanager
def rabbitmq(work: Path) -> Iterator[str]:
    service(5672)
    import asyncio

    import aio_pika

    name = f"usrland.{secrets.token_hex(4)}"

    async def queue(make: bool) -> None:
        connection = await aio_pika.connect("amqp://guest:guest@127.0.0.1/")
        channel = await connection.channel()
        await (channel.declare_queue(name, durable=True) if make else channel.queue_delete(name))
        await connection.close()

    asyncio.run(queue(True))
    try:
        yield f'[work]\nkind = "rabbitmq"\nurl = "amqp://guest:guest@127.0.0.1/"\nqueues = ["{name}"]\n'
    finally:
        asyncio.run(queue(False))


@contextlib.contextmanager
def nats(work: Path) -> Iterator[str]:
    service(4222)
    import asyncio

    from nats import connect

    name = f"usrland-{secrets.token_hex(4)}"

    async def stream(make: bool) -> None:
        client = await connect("nats://127.0.0.1:4222")
        js = client.jetstream()
        await (js.add_stream(name=name, subjects=[f"{name}.>"]) if make else js.delete_stream(name))
        await client.close()

    asyncio.run(stream(True))
    try:
        yield f'[events]\nkind = "nats"\nurl = "nats://127.0.0.1:4222"\nstreams = ["{name}"]\n'
    finally:
        asyncio.run(stream(False))


@contextlib.contextmanager
def mqtt(work: Path) -> Iterator[str]:
    service(1883)
    yield f'[plant]\nkind = "mqtt"\nurl = "mqtt://127.0.0.1"\ntopics = ["usrland/{secrets.token_hex(4)}/#"]\n'


@contextlib.contextmanager
def redis(work: Path) -> Iterator[str]:
    service(6379)
    streams = f"usrland:{secrets.token_hex(4)}:*"
    yield f'[queue]\nkind = "redis"\nurl = "redis://127.0.0.1:6379/9"\nstreams = ["{streams}"]\n'


@contextlib.contextmanager
def graphql(work: Path) -> Iterator[str]:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from graphql import build_schema, graphql_sync

    schema = build_schema(
        'type Item { id: ID!, name: String! }\ntype Query { "Find items." items: [Item!]! }\n'
        "type Mutation { addItem(name: String!): Item!, removeItem(id: ID!): Boolean! }"
    )
    items: dict[str, dict[str, str]] = {}

    def add(_: Any, name: str) -> dict[str, str]:
        return items.setdefault(str(len(items) + 1), {"id": str(len(items) + 1), "name": name})

    root = {
        "items": lambda _: list(items.values()),
        "addItem": add,
        "removeItem": lambda _, id: items.pop(id, None) is not None,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = graphql_sync(schema, asked["query"], root, variable_values=asked["variables"]).formatted
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield (
        f'[shop]\nkind = "graphql"\nurl = "http://127.0.0.1:{server.server_port}"\n'
        '[shop.operations.remove_item]\neffect = "destroy"\n[shop.operations.add_item]\nundo = "remove_item"\n'
    )
    server.shutdown()


@contextlib.contextmanager
def foreign_npm(work: Path) -> Iterator[str]:
    """The filesystem server of the protocol's own project, from the npm registry."""
    if not shutil.which("npm"):
        raise Absent("npm is not installed")
    folder, shared = work / "npm", work / "shared"
    folder.mkdir()
    shared.mkdir()
    done(
        ["npm", "install", "--silent", "--no-fund", "--no-audit", "@modelcontextprotocol/server-filesystem"],
        folder,
    )
    program = folder / "node_modules" / ".bin" / "mcp-server-filesystem"
    command = json.dumps([str(program), str(shared.resolve())])
    yield (
        f'[files]\nkind = "mcp"\ncommand = {command}\n'
        + "".join(f'[files.tools.{name}]\neffect = "read"\n' for name in ("list_directory", "read_text_file"))
    )


@contextlib.contextmanager
def foreign_pypi(work: Path) -> Iterator[str]:
    """The time server of the protocol's own project, from PyPI, in an environment of its own."""
    folder = work / "time"
    done([sys.executable, "-m", "venv", folder], work)
    done([folder / "bin" / "python", "-m", "pip", "install", "-q", "mcp-server-time"], work)
    command = json.dumps([str(folder / "bin" / "mcp-server-time"), "--local-timezone", "UTC"])
    yield f'[clock]\nkind = "mcp"\ncommand = {command}\n[clock.tools.convert_time]\neffect = "read"\n'
