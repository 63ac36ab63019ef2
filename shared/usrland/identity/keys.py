"""The public keys of one issuer: fetched when they are needed, and not trusted for ever.

A token names its key, and anybody can send a token: so an unknown name leads to one fetch in `COOLDOWN_SECONDS`
and no more. Keys older than `MAX_AGE_SECONDS` that cannot be fetched again are forgotten, so that a revoked key
does not outlive the issuer's silence.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from usrland.errors import UsrlandError

if TYPE_CHECKING:
    import httpx

__all__ = ["KeySet", "VerifyingKey"]

logger = logging.getLogger(__name__)

COOLDOWN_SECONDS = 30.0
FRESH_SECONDS = 300.0
MAX_AGE_SECONDS = 600.0
FETCH_SECONDS = 5.0
MAX_ANSWER_BYTES = 256 * 1024
MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, and the one algorithm it is for."""

    key: Any
    """As PyJWT takes it."""
    algorithm: str


class KeySet:
    """The keys behind `jwks_url`, or behind what the issuer's metadata names where that is empty."""

    def __init__(self, issuer: str, jwks_url: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._keys: Mapping[str, VerifyingKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._turn = anyio.Lock()

    async def key(self, name: str) -> VerifyingKey | None:
        """The key of that name (`kid`); None where the issuer has none, or cannot be asked any more."""
        async with self._turn:
            now = self._clock()
            stale = now - self._fetched_at > FRESH_SECONDS
            if (stale or name not in self._keys) and now - self._tried_at > COOLDOWN_SECONDS:
                self._tried_at = now
                await self._fetch()
            if now - self._fetched_at > MAX_AGE_SECONDS:
                return None
            return self._keys.get(name)

    async def _fetch(self) -> None:
        from usrland.http import client

        try:
            async with client(
                allow_private=True, total_seconds=FETCH_SECONDS, max_answer_bytes=MAX_ANSWER_BYTES
            ) as http:
                url = self._jwks_url or await self._discovered(http)
                self._keys = _usable(await _json(http, url))
            self._fetched_at = self._clock()
        except (UsrlandError, ValueError) as error:
            logger.warning("the keys of %s cannot be fetched: %s", self._issuer, error)

    async def _discovered(self, http: httpx.AsyncClient) -> str:
        parts = urlsplit(self._issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        for place in (  # RFC 8414 puts its name before the issuer's path, OpenID Connect behind it
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        ):
            try:
                metadata = await _json(http, place)
            except (UsrlandError, ValueError):
                continue
            if metadata.get("issuer") == self._issuer and isinstance(metadata.get("jwks_uri"), str):
                return str(metadata["jwks_uri"])
        raise ValueError("it has no metadata that names it and its keys")


async def _json(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    if not is_safe_url(url):
        raise ValueError("an address that is neither https nor on this machine")
    answer = await http.get(url, headers={"accept": "application/json"})
    if answer.status_code != 200:
        raise ValueError(f"HTTP {answer.status_code}")
    value = json.loads(answer.content)
    if not isinstance(value, dict):
        raise ValueError("an answer that is not an object")
    return value


def is_safe_url(url: str) -> bool:
    """Whether nobody between can change what comes from there: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    )


def _usable(document: Mapping[str, Any]) -> Mapping[str, VerifyingKey]:
    """The keys that may verify a token, by name. Others in the set are not ours to complain about."""
    keys: dict[str, VerifyingKey] = {}
    for jwk in document.get("keys", ()):
        name = jwk.get("kid") if isinstance(jwk, dict) else None
        made = _key(jwk) if isinstance(name, str) and name not in keys else None
        if made is not None:
            keys[str(name)] = made
    return keys


def _key(jwk: Mapping[str, Any]) -> VerifyingKey | None:
    """The algorithm comes from the key: a token that could choose would choose a weaker one."""
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    algorithms = {
        ("RSA", None): ("RS256", "PS256"),
        ("EC", "P-256"): ("ES256",),
        ("OKP", "Ed25519"): ("EdDSA",),
    }.get((str(jwk.get("kty")), jwk.get("crv")))
    if algorithms is None or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    algorithm = jwk.get("alg", algorithms[0])
    if algorithm not in algorithms or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    try:
        key = PyJWK.from_dict(dict(jwk), algorithm=algorithm).key
    except PyJWTError:
        return None
    if jwk["kty"] == "RSA" and key.key_size < MIN_RSA_BITS:
        return None
    return VerifyingKey(key, algorithm)
