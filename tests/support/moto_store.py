"""An S3-compatible store in this process: moto's server, with a client of it.

moto keeps what it holds, and whether it checks signatures, for as long as its process lives; a store begins empty
and takes any key all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

REGION = "us-east-1"
ALLOW = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


@dataclass
class Store:
    """A running store. `down` ends it, as a store that is not reached any more."""

    url: str
    server: Any
    thread: threading.Thread
    clients: list[Any] = field(default_factory=list)

    def client(self, kind: str = "s3", access_key: str = "key", secret: str = "secret") -> Any:
        """Another client of it, closed with the store."""
        import boto3

        made = boto3.client(
            kind,  # type: ignore[call-overload]  # stubs name every service
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
        )
        self.clients.append(made)
        return made

    def role(self) -> tuple[str, str]:
        """A role that may use all of it: its key and secret. From now on signatures are checked."""
        role = self.client("iam")
        role.create_user(UserName="usrland")
        role.put_user_policy(UserName="usrland", PolicyName="all", PolicyDocument=ALLOW)
        key = role.create_access_key(UserName="usrland")["AccessKey"]
        self._say("reset-auth", b"0")
        return key["AccessKeyId"], key["SecretAccessKey"]

    def down(self) -> None:
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()

    def _say(self, what: str, body: bytes) -> None:
        request = Request(f"{self.url}/moto-api/{what}", data=body, headers={"content-type": "text/plain"})
        urlopen(request).close()


@contextmanager
def moto_store() -> Iterator[Store]:
    """An empty store that takes any key."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it tells of every request
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    store = Store(f"http://127.0.0.1:{server.server_port}", server, thread)
    try:
        store._say("reset-auth", b"inf")
        store._say("reset", b"")
        yield store
    finally:
        for client in store.clients:
            client.close()
        store.down()
