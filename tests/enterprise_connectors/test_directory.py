"""A directory, against a slapd that these tests start."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from usrland.errors import Conflict, Denied, InvalidInput, NotFound

Serve = Callable[..., AbstractAsyncContextManager[Any]]

SLAPD = "/usr/sbin/slapd"
BASE = "dc=example,dc=org"
PASSWORD = "dir-word-1"
CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/pid
database mdb
maxsize 10485760
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw dir-word-1
directory {folder}/data
access to attrs=employeeNumber by * read
access to * by dn.exact="uid=bob,ou=people,dc=example,dc=org" read by * auth
"""
ENTRIES = """
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=secret,dc=example,dc=org
objectClass: organizationalUnit
ou: secret

dn: uid=ann,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: ann
cn: Ann Lee
sn: Lee
mail: ann@example.org
telephoneNumber: 111
userPassword: hunter22

dn: uid=bob,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob (the) *
sn: Öz
homePostalAddress: 1 Road
userPassword: bob-word-1
jpegPhoto:: /9j/4AAQ

dn: cn=team,ou=people,dc=example,dc=org
objectClass: groupOfNames
cn: team
member: uid=ann,ou=people,dc=example,dc=org

dn: uid=eve,ou=secret,dc=example,dc=org
objectClass: inetOrgPerson
uid: eve
cn: Eve
sn: Eve
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A directory of our own on a free port."""
    pytest.importorskip("ldap3")
    if not Path(SLAPD).exists() or not Path("/etc/ldap/schema/core.schema").exists():
        pytest.skip("slapd is not installed here")
    folder = tmp_path_factory.mktemp("slapd")
    (folder / "data").mkdir()
    (folder / "slapd.conf").write_text(CONFIG.format(folder=folder))
    (folder / "entries.ldif").write_text(ENTRIES, encoding="utf-8")
    config = ["-f", str(folder / "slapd.conf")]
    slapadd = [SLAPD, "-T", "add", *config, "-l", str(folder / "entries.ldif")]
    subprocess.run(slapadd, check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [SLAPD, "-d", "0", *config, "-h", f"ldap://127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)  # for a foreign process to listen; nothing tells when
        yield port
    finally:
        process.terminate()
        process.wait(10)


def table(port: int, bind: str = f"cn=admin,{BASE}", base: str = f"ou=people,{BASE}", more: str = "") -> str:
    return (
        f'[staff]\nkind = "ldap"\nurl = "ldap://127.0.0.1:{port}"\nplain = true\nwrite = true\nbind = "{bind}"\n'
        f'password = "env:P"\nbase = "{base}"\nhidden = ["homePostalAddress"]\n{more}'
    )


CHANGES = """
[staff.changes.set_phone]
description = "Set somebody's telephone number."
attribute = "telephoneNumber"
[staff.changes.join]
description = "Put people into a group."
attribute = "member"
how = "add"
undo = "leave"
[staff.changes.leave]
description = "Take people out of a group."
attribute = "member"
how = "delete"
undo = "join"
"""


async def found(run: Any, **arguments: Any) -> list[str]:
    page = await run("staff_search", **arguments)
    return sorted(each["dn"].partition(",")[0] for each in page["items"])


async def test_entries_are_found_by_conditions_and_nothing_in_them_is_syntax(serve: Serve, directory: int) -> None:
    async with serve(table(directory), P=PASSWORD) as run:
        everybody = await found(run, object_class="inetOrgPerson")
        named = await found(run, where=[{"attribute": "cn", "value": "Lee", "match": "contains"}])
        umlaut = await found(run, where=[{"attribute": "sn", "value": "Öz"}])
        exact = await found(run, where=[{"attribute": "cn", "value": "Bob (the) *"}])
        for value in ("*", "x)(uid=*", "*)(|(uid=*", "\\2a", "ann\x00"):
            assert await found(run, where=[{"attribute": "uid", "value": value}]) == []
        with pytest.raises(InvalidInput):
            await run("staff_search", where=[{"attribute": "uid=*)(cn", "value": "x"}])
        with pytest.raises(InvalidInput):
            await run("staff_search", object_class="person)(uid=*")

    assert everybody == ["uid=ann", "uid=bob"] and named == ["uid=ann"]
    assert umlaut == exact == ["uid=bob"]


async def test_what_is_hidden_or_outside_is_neither_shown_nor_asked_about(serve: Serve, directory: int) -> None:
    async with serve(table(directory), P=PASSWORD) as run:
        bob = await run("staff_read", dn=f"UID=bob,ou=People,{BASE}")
        asked = await run("staff_search", attributes=["userPassword", "cn"])
        for attribute in ("userPassword", "homePostalAddress"):
            with pytest.raises(Denied, match="searched by"):
                await run("staff_search", where=[{"attribute": attribute, "value": "h", "match": "begins"}])
        for outside in (f"uid=eve,ou=secret,{BASE}", BASE, f"uid=eve\\2cou\\3dpeople,ou=secret,{BASE}"):
            with pytest.raises(Denied, match="is not under"):
                await run("staff_read", dn=outside)
        with pytest.raises(Denied):
            await run("staff_search", under=f"ou=secret,{BASE}")
        with pytest.raises(NotFound):
            await run("staff_read", dn=f"uid=nobody,ou=people,{BASE}")

    assert bob["attributes"]["jpegPhoto"] == ["(binary, 6 bytes)"]
    assert not {"userPassword", "homePostalAddress"} & bob["attributes"].keys()
    assert all("userPassword" not in each["attributes"] for each in asked["items"])


async def test_entries_change_in_the_named_ways_alone_and_back_again(serve: Serve, directory: int) -> None:
    ann, bob = (f"uid={name},ou=people,{BASE}" for name in ("ann", "bob"))
    team = f"cn=team,ou=people,{BASE}"
    async with serve(table(directory, more=CHANGES), P=PASSWORD) as run:
        preview = await run("staff_set_phone", dn=ann, values=["222"], dry_run=True)
        changed = await run("staff_set_phone", dn=ann, values=["222"])
        back = await run("staff_set_phone", **changed["undo"])
        joined = await run("staff_join", dn=team, values=[bob])
        with pytest.raises(Conflict):
            await run("staff_join", dn=team, values=[bob])
        left = await run("staff_leave", **joined["undo"])
        with pytest.raises(Denied, match="is not under"):
            await run("staff_set_phone", dn=f"uid=eve,ou=secret,{BASE}", values=["1"])
    async with serve(table(directory, bind=bob, more=CHANGES), P="bob-word-1") as run:
        with pytest.raises(Denied, match="refuses"):
            await run("staff_set_phone", dn=ann, values=["3"])

    assert "111" in preview["examples"][0]
    assert changed["after"] == ["222"] and back["after"] == ["111"]
    assert joined["after"] == [ann, bob] and left["after"] == [ann]


async def test_a_directory_that_refuses_or_is_not_there_says_so(serve: Serve, directory: int) -> None:
    hides = CHANGES.replace("telephoneNumber", "userPassword")
    async with serve(table(directory), P="wrong-word-1") as run:
        with pytest.raises(Denied, match="credentials") as refused:
            await run("staff_search")
    async with serve(table(1), P=PASSWORD) as run:
        problems = await run.host.service.state["catalogue"].check()
    async with serve(table(directory).replace("plain = true\n", ""), P=PASSWORD) as run:
        without_tls = await run.host.service.state["catalogue"].check()
    async with serve(table(directory, more=hides), P=PASSWORD) as run:
        note = (await run("sys_find", request="phone"))["note"]

    assert "wrong-word-1" not in str(refused.value)
    assert "cannot be connected to" in problems["staff"] and without_tls["staff"]
    assert "cannot be changed" in note
