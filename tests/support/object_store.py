"""An S3-compatible store as a process of its own: moto's server, or a small Ceph cluster with its gateway.

moto keeps objects in its memory and answers from one Python process. Ceph (Debian: radosgw, ceph-mon, ceph-mgr,
ceph-osd) is what companies run; a monitor, a manager, one store of objects in memory and the gateway are enough.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from processes import free_port

__all__ = ["Kind", "ObjectStore", "object_store"]

Kind = Literal["moto", "ceph"]
START_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """Where it is, who may come in, and an empty bucket."""

    endpoint: str
    access_key: str
    secret: str
    bucket: str

    def settings(self, prefix: str = "") -> str:
        """The table `[index.bucket]`, with its secret in the variable INDEX_SECRET."""
        return (
            f'[index.bucket]\nname = "{self.bucket}"\nendpoint = "{self.endpoint}"\nallow_private = true\n'
            f'access_key = "{self.access_key}"\nsecret = "env:INDEX_SECRET"\nprefix = "{prefix}"\n'
        )

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def object_store(folder: Path, kind: Kind = "moto") -> Iterator[ObjectStore]:
    """A store with an empty bucket, until the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        port = free_port()
        store = ObjectStore(
            endpoint=f"http://127.0.0.1:{port}",
            access_key=secrets.token_hex(8),
            secret=secrets.token_hex(16),
            bucket=f"index-{secrets.token_hex(4)}",
        )
        (_moto if kind == "moto" else _ceph)(folder, port, store, stack)
        with store.client() as client:
            client.create_bucket(Bucket=store.bucket)
        yield store


def _moto(folder: Path, port: int, store: ObjectStore, stack: contextlib.ExitStack) -> None:
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    _start([sys.executable, "-W", "ignore", "-c", code], folder / "moto.log", stack)
    _answers(f"{store.endpoint}/moto-api/data.json")


def _ceph(folder: Path, port: int, store: ObjectStore, stack: contextlib.ExitStack) -> None:
    """As its manual deployment page has it, with everything in one folder and no authentication inside."""
    monitor, identity = free_port(), "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    (folder / "ceph.conf").write_text(
        f"[global]\nfsid = {identity}\nmon host = v1:127.0.0.1:{monitor}/0\n"
        "auth cluster required = none\nauth service required = none\nauth client required = none\n"
        "osd pool default size = 1\nosd pool default min size = 1\nosd pool default pg num = 4\n"
        "osd pool default pgp num = 4\nosd crush chooseleaf type = 0\nmon allow pool size one = true\n"
        "osd objectstore = memstore\nmemstore device bytes = 2147483648\npublic addr = 127.0.0.1\n"
        f"mon data = {folder}/mon\nmgr data = {folder}/mgr\nosd data = {folder}/osd\nrgw data = {folder}/rgw\n"
        f"run dir = {folder}\nlog file = {folder}/$name.log\nadmin socket = {folder}/$name.asok\n"
        "mgr initial modules =\nmon pg warn on no replicas = false\n",
        encoding="utf-8",
    )
    for name in ("mon", "mgr", "osd", "rgw"):
        (folder / name).mkdir()
    of = ["-c", str(folder / "ceph.conf")]
    there, monitors = f"[v1:127.0.0.1:{monitor}]", f"{folder}/monmap"
    _do(["monmaptool", "--create", "--fsid", identity, "--addv", "a", there, monitors])
    _do(["ceph-mon", *of, "--mkfs", "-i", "a", "--monmap", monitors])
    _start(["ceph-mon", *of, "-f", "-i", "a"], folder / "mon.out", stack)
    _until(lambda: _do(["ceph", *of, "--connect-timeout", "5", "mon", "stat"]))
    _start(["ceph-mgr", *of, "-f", "-i", "a"], folder / "mgr.out", stack)
    _until(lambda: _do(["ceph", *of, "osd", "new", identity]))  # the monitor may not take it at once
    _do(["ceph-osd", *of, "-i", "0", "--mkfs", "--osd-uuid", identity])
    _start(["ceph-osd", *of, "-f", "-i", "0"], folder / "osd.out", stack)
    gateway = [*of, "-n", "client.rgw", "--rgw-frontends", f"beast endpoint=127.0.0.1:{port}"]
    _start(["radosgw", *gateway, "-f"], folder / "rgw.out", stack)
    _answers(store.endpoint)
    keys = [f"--access-key={store.access_key}", f"--secret-key={store.secret}"]
    user = ["user", "create", "--uid=usrland", "--display-name=usrland"]
    _do(["radosgw-admin", *of, "-n", "client.rgw", *user, *keys])


def _start(command: Sequence[str], log: Path, stack: contextlib.ExitStack) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed here")
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


def _do(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=START_SECONDS)


def _until(work: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            work()
            return
        except (OSError, subprocess.SubprocessError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _answers(url: str) -> None:
    _until(lambda: urllib.request.urlopen(url, timeout=2).close())
