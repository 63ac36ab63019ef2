"""How a REST system knows us, and on whose behalf we come.

A key, a name with a password and a bearer token are the same for every caller and are read from the
configuration. The two OAuth kinds get short-lived tokens from an authorization server:

    [crm.auth]
    kind = "client_credentials"            # or "token_exchange"
    token_url = "https://login.example.org/token"
    client_id = "usrland"
    secret = "env:CRM_CLIENT_SECRET"
    scope = "deals:read"
    audience = "https://crm.example.org"

`client_credentials` (RFC 6749) is one token for everybody. `token_exchange` (RFC 8693) gives each caller a token
of their own: the access token that the caller proved themselves with is shown to the authorization server, and to
nobody else; what comes back names the caller and is good for this system alone. Tokens are kept in memory until
shortly before they expire, fetched once however many calls wait for them, and never written anywhere.
"""

from __future__ import annotations

import base64
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field, model_validator

from usrland.errors import Denied, Timeout, Unavailable
from usrland.redact import keep_secret
from usrland.schemas.principal import Principal

if TYPE_CHECKING:
    import httpx

__all__ = ["Auth", "Credentials", "Shown"]

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EARLY_SECONDS = 30.0
"""Before its end a token is renewed, so that none ends on its way."""
UNTOLD_SECONDS = 300.0
"""How long a token is good whose answer does not say."""
MAX_KEPT = 1_000


class Auth(BaseModel):
    """The table `auth` of a system. `secret` is a reference in the file and the secret itself in here."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["bearer", "basic", "api_key", "client_credentials", "token_exchange"]
    secret: str = Field(default="", repr=False)
    username: str = ""
    """For `basic`."""
    name: str = "X-Api-Key"
    """For `api_key`: the header or query parameter."""
    location: Literal["header", "query"] = "header"

    token_url: str = ""
    client_id: str = ""
    client_auth: Literal["basic", "post", "none"] = "basic"
    """How the client proves itself to the authorization server; `none` where a certificate does (`tls`)."""
    scope: str = ""
    audience: str = ""
    resource: str = ""

    @property
    def asks(self) -> bool:
        """Whether tokens come from an authorization server."""
        return self.kind in ("client_credentials", "token_exchange")

    @model_validator(mode="after")
    def _whole(self) -> Auth:
        if not self.secret and not (self.asks and self.client_auth == "none"):
            raise ValueError("secret is missing")
        if self.asks and not self.client_id:
            raise ValueError("client_id is missing")
        if self.asks and not _is_guarded(self.token_url):
            raise ValueError("token_url: it is https://host/path, or http:// on this machine")
        return self


def _is_guarded(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one request shows to prove itself."""

    headers: Mapping[str, str]
    query: tuple[tuple[str, str], ...] = ()
    token: str = ""
    """Where it was asked for: what has to be blotted out should the system repeat it, and can be renewed."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    ends: float


class Credentials:
    """The credentials of one system."""

    def __init__(self, auth: Auth | None, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic):
        self._auth = auth
        self._http = http
        self._clock = clock
        self._kept: OrderedDict[tuple[Any, ...], _Token] = OrderedDict()
        self._asking: dict[tuple[Any, ...], anyio.Lock] = {}
        self._fixed = None if auth is not None and auth.asks else _fixed(auth)

    async def shown(self, caller: Principal | None, *, spent: str = "") -> Shown:
        """What to show for this caller; `spent` is a token that the system has just refused."""
        if self._fixed is not None:
            return self._fixed
        token = await self._token(caller, spent)
        return Shown(headers={"authorization": f"Bearer {token}"}, token=token)

    async def _token(self, caller: Principal | None, spent: str) -> str:
        auth = self._auth
        assert auth is not None
        key: tuple[Any, ...] = (auth.audience, auth.resource, auth.scope)
        if auth.kind == "token_exchange":
            if caller is None or not caller.token:
                raise Denied(
                    "this system is called in its caller's name, and this caller came without an access token.",
                    fix="Reach this server over HTTP with a token of the identity provider.",
                )
            # the scopes, too: what was given for a mighty token must not serve a later, weaker one
            key += (caller.tenant, caller.subject, caller.client, tuple(sorted(caller.scopes)))
        if (token := self._good(key, spent)) is not None:
            return token
        async with self._asking.setdefault(key, anyio.Lock()):
            if (token := self._good(key, spent)) is None:  # else somebody was faster
                fresh = await self._asked(auth, caller)
                self._kept[key] = fresh
                token = fresh.value
        self._asking.pop(key, None)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return token

    def _good(self, key: tuple[Any, ...], spent: str) -> str | None:
        kept = self._kept.get(key)
        if kept is None or kept.value == spent or self._clock() >= kept.ends:
            return None
        self._kept.move_to_end(key)
        return kept.value

    async def _asked(self, auth: Auth, caller: Principal | None) -> _Token:
        from usrland.http import request

        form = {"grant_type": "client_credentials"}
        if auth.kind == "token_exchange":
            assert caller is not None
            form = {"grant_type": EXCHANGE, "subject_token": caller.token, "subject_token_type": ACCESS_TOKEN}
        form |= {
            name: value
            for name, value in (("scope", auth.scope), ("audience", auth.audience), ("resource", auth.resource))
            if value
        }
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        if auth.client_auth == "basic":
            headers["authorization"] = _basic(quote(auth.client_id, safe=""), quote(auth.secret, safe=""))
        else:
            form["client_id"] = auth.client_id
            form |= {"client_secret": auth.secret} if auth.client_auth == "post" else {}
        try:
            answer = await self._http.send(
                request("POST", auth.token_url, headers=headers, content=urlencode(form).encode())
            )
        except (Unavailable, Timeout) as error:
            raise Unavailable("the authorization server of this system does not answer.", unsent=True) from error
        return self._read(answer)

    def _read(self, answer: httpx.Response) -> _Token:
        try:
            said = answer.json()
        except ValueError:
            said = {}
        said = said if isinstance(said, dict) else {}
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Unavailable("the authorization server of this system cannot answer now.", unsent=True)
        token, lifetime = said.get("access_token"), said.get("expires_in", UNTOLD_SECONDS)
        if answer.status_code != 200 or not isinstance(token, str) or not token:
            # its description may repeat what was sent; the code is from a closed list
            code = str(said.get("error", f"status {answer.status_code}"))[:60]
            raise Denied(
                f"the authorization server of this system refuses: {code!r}.",
                fix="The operator has to check its [auth].",
            )
        if str(said.get("token_type", "bearer")).lower() != "bearer":
            raise Denied("the authorization server of this system gives tokens of a kind that is not known here.")
        seconds = float(lifetime) if isinstance(lifetime, int | float | str) and _is_number(lifetime) else 0.0
        return _Token(token, self._clock() + max(seconds - min(EARLY_SECONDS, seconds / 2), 0.0))


def _is_number(value: Any) -> bool:
    try:
        return float(value) >= 0
    except ValueError:
        return False


def _basic(user: str, password: str) -> str:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    keep_secret(pair)
    return f"Basic {pair}"


def _fixed(auth: Auth | None) -> Shown:
    if auth is None:
        return Shown(headers={})
    match auth.kind, auth.location:
        case "bearer", _:
            return Shown(headers={"authorization": f"Bearer {auth.secret}"})
        case "basic", _:
            return Shown(headers={"authorization": _basic(auth.username, auth.secret)})
        case _, "query":
            return Shown(headers={}, query=((auth.name, auth.secret),))
        case _:
            return Shown(headers={auth.name: auth.secret})
