"""Requests to an S3-compatible store: signed, and nothing but requests.

The signature (AWS Signature Version 4) is forty lines, and with them everything goes through the client that is
handed in, under its rules for outgoing connections. A bucket is always part of the path, never of the host's name.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable, UsrlandError
from usrland.markup import Tree, parsed

if TYPE_CHECKING:
    import httpx

__all__ = ["BucketTable", "Store", "Tree", "read_tree"]

_EMPTY = hashlib.sha256(b"").hexdigest()


class BucketTable(BaseModel):
    """A bucket of an S3-compatible store, as an operator names it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")
    endpoint: str = Field(pattern=r"^https?://[^/\s]+(/.*)?$")
    region: str = "us-east-1"
    access_key: str
    secret: str
    """`env:NAME` or `file:/path`."""
    prefix: str = ""
    """Only what is under it, and paths begin behind it."""
    allow_private: bool = False
    """Whether the store may be on this machine or in a private network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One endpoint and who we are there."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    http: httpx.AsyncClient = field(repr=False)

    async def send(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> httpx.Response:
        """Make one request; raises what an answer that is no success means."""
        path = self._path(bucket, key)
        digest = hashlib.sha256(content).hexdigest() if content else _EMPTY
        stated = {"x-amz-content-sha256": digest, **(headers or {})}
        signed = self._signed(method, path, query, stated, digest, datetime.now(UTC))
        url = f"{self._origin}{path}{f'?{_query(query)}' if query else ''}"
        from usrland.http import request as made

        request = made(method, url, headers=signed, content=content or None)
        if request.url.raw_path.partition(b"?")[0].decode() != path:
            raise InvalidInput("key: it does not stay what it is on the way there.")
        response = await self.http.send(request)
        if response.status_code >= 300:
            raise _failure(response, f"{bucket}/{key}" if key else bucket)
        return response

    def presigned(self, method: str, bucket: str, key: str, seconds: int, now: datetime | None = None) -> str:
        """An address that lets whoever has it do this one thing for a while."""
        moment, path = now or datetime.now(UTC), self._path(bucket, key)
        scope, stamp = self._scope(moment), moment.strftime("%Y%m%dT%H%M%SZ")
        query = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(seconds)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        canonical = f"{method}\n{path}\n{_query(query)}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        signature = self._signature(canonical, stamp, scope, moment)
        return f"{self._origin}{path}?{_query(query)}&X-Amz-Signature={signature}"

    def _signed(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        digest: str,
        moment: datetime,
    ) -> dict[str, str]:
        scope, stamp = self._scope(moment), moment.strftime("%Y%m%dT%H%M%SZ")
        stated = {**{key.lower(): " ".join(value.split()) for key, value in headers.items()}, "x-amz-date": stamp}
        signing = {"host": self._host, **stated}
        names = ";".join(sorted(signing))
        lines = "".join(f"{name}:{signing[name]}\n" for name in sorted(signing))
        canonical = f"{method}\n{path}\n{_query(query)}\n{lines}\n{names}\n{digest}"
        signature = self._signature(canonical, stamp, scope, moment)
        credential = f"{self.access_key}/{scope}"
        stated["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        )
        return stated

    def _signature(self, canonical: str, stamp: str, scope: str, moment: datetime) -> str:
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for part in (moment.strftime("%Y%m%d"), self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def _scope(self, moment: datetime) -> str:
        return f"{moment.strftime('%Y%m%d')}/{self.region}/s3/aws4_request"

    @property
    def _origin(self) -> str:
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def _host(self) -> str:
        """As the client writes it: without the port that everybody expects."""
        parts = urlsplit(self.endpoint)
        usual = {"http": 80, "https": 443}[parts.scheme]
        return (parts.hostname or "") if parts.port in (None, usual) else f"{parts.hostname}:{parts.port}"

    def _path(self, bucket: str, key: str) -> str:
        if any(part in (".", "..") for part in key.split("/")) or re.search(r"[\x00-\x1f\x7f]", key):
            raise InvalidInput("key: '.', '..' and control characters cannot be part of it.")
        base = urlsplit(self.endpoint).path.rstrip("/")
        return f"{base}/{bucket}/{quote(key, safe='/-._~')}" if key else f"{base}/{bucket}"


def _query(query: Sequence[tuple[str, str]]) -> str:
    pairs = sorted((quote(key, safe="-._~"), quote(value, safe="-._~")) for key, value in query)
    return "&".join(f"{key}={value}" for key, value in pairs)


def read_tree(content: bytes) -> Tree:
    """An answer's XML, with no namespaces; raises `Unavailable` where it is none."""
    try:
        root = parsed(content)
    except ValueError as error:
        raise Unavailable("the store's answer cannot be read.") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _failure(response: httpx.Response, what: str) -> UsrlandError:
    code = ""
    if response.content.lstrip().startswith(b"<"):
        try:
            code = read_tree(response.content).findtext("Code") or ""
        except UsrlandError:
            code = ""
    fact = f"the store answered {response.status_code}{f' ({code})' if code else ''} for {what!r}."
    match response.status_code:
        case 404:
            return NotFound(fact, fix="List what there is.")
        case 401 | 403:
            return Denied(fact, fix="The operator has to check the rights of this key.")
        case 409 | 412:
            return Conflict(fact)
        case 429 | 503:
            return Unavailable(fact)
        case status if status >= 500:
            return Unavailable(fact, fix="Look before you repeat what changes something.")
        case status if status < 400:
            return Unavailable(fact, fix="Redirects are not followed; the operator corrects endpoint or region.")
        case _:
            return InvalidInput(fact)
