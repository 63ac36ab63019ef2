"""OAuth 2.1 as a resource server: access tokens of an issuer that the operator trusts.

We never hand out tokens and have no login page: that is an authorization server's work. What is checked is
RFC 9068 (JWT access tokens) read strictly; a token that is not meant for this very server (RFC 8707) is refused,
and the token itself goes nowhere: calls to other systems use credentials of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from usrland.identity.grants import BY_GRANT
from usrland.identity.keys import KeySet, is_safe_url
from usrland.schemas.principal import Principal

__all__ = ["OAuth", "Verifier"]

logger = logging.getLogger(__name__)

MAX_TOKEN_CHARS = 8_192
MAX_NAME_CHARS = 200
MAX_LIFETIME_SECONDS = 86_400
LEEWAY_SECONDS = 30
REQUIRED = ("iss", "aud", "exp", "iat", "sub", "client_id", "jti")


class OAuth(BaseModel):
    """The `[oauth]` table: whose access tokens are accepted over HTTP."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(default="", description="The authorization server, exactly as its tokens name it.")
    audience: list[str] = Field(
        default=[], description="What tokens for these servers name as `aud`. Default: each server's own address."
    )
    jwks_url: str = Field(default="", description="Its public keys. Default: what its metadata names.")
    tenant_claim: str = Field(default="", description="The claim that says whose data is reached.")
    tenant: str = Field(default="local", description="The tenant of all callers, where there is no such claim.")
    namespace_claim: str = Field(default="", description="The claim that says which part of the tenant's data.")
    namespace: str = "main"
    groups_claim: str = Field(default="", description="The claim that lists groups, for [groups] of grants.toml.")
    scopes: Literal["token", "grants"] = Field(
        default="token",
        description="Who says what may be done: the token (grants.toml can only narrow it), or grants.toml alone.",
    )

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _proven(cls, url: str) -> str:
        if url and not is_safe_url(url):
            raise ValueError("must be an https address (or one on this machine)")
        return url


class Verifier:
    """Access token → principal. One for a process: it keeps the issuer's keys."""

    def __init__(self, config: OAuth, keys: KeySet | None = None) -> None:
        self.config = config
        self._keys = keys or KeySet(config.issuer, config.jwks_url)

    async def principal(self, token: str, *, audience: Collection[str]) -> Principal | None:
        """Who holds this token, if it is meant for one of `audience`; None where anything is wrong with it."""
        from jwt.exceptions import PyJWTError

        try:
            return await self._principal(token, self.config.audience or list(audience))
        except (PyJWTError, _Refused) as error:
            logger.info("an access token was refused: %s", error)  # what is wrong with it, never the token
            return None

    async def _principal(self, token: str, audience: list[str]) -> Principal:
        import jwt

        if len(token) > MAX_TOKEN_CHARS:
            raise _Refused("it is too long")
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if str(header.get("typ", "")).lower() not in ("at+jwt", "application/at+jwt") or "crit" in header:
            raise _Refused("it is not an access token")
        if not isinstance(kid, str) or not kid:
            raise _Refused("it does not name its key")
        key = await self._keys.key(kid)
        if key is None:
            raise _Refused("its key is not known")
        if header.get("alg") != key.algorithm:
            raise _Refused("its algorithm is not that of its key")
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=audience,
            issuer=self.config.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(REQUIRED)},
        )
        if claims["exp"] - claims["iat"] > MAX_LIFETIME_SECONDS:
            raise _Refused("it lives for longer than a day")
        return Principal(
            # by the issuer too: a token handed out by `usrland token` may bear the same name
            subject=f"{_name(claims, 'sub')}@{urlsplit(self.config.issuer).netloc}",
            client=_name(claims, "client_id"),
            tenant=_name(claims, self.config.tenant_claim) if self.config.tenant_claim else self.config.tenant,
            namespace=(
                _name(claims, self.config.namespace_claim)
                if self.config.namespace_claim
                else self.config.namespace
            ),
            scopes=frozenset(_scopes(claims) if self.config.scopes == "token" else [BY_GRANT]),
            source="oauth",
            groups=frozenset(_groups(claims, self.config.groups_claim)),
            token=token,
        )


class _Refused(Exception):
    """What is wrong with a token, for the log."""


def _name(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARS or not value.isprintable():
        raise _Refused(f"its claim {claim!r} is not a name")
    return value


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    """`scope` of RFC 9068, or `scp` as some issuers have it. What they cannot mean is everything."""
    granted = claims.get("scope", claims.get("scp", ""))
    parts = granted.split() if isinstance(granted, str) else granted
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _Refused("its scopes are not a list of words")
    return [part for part in parts if part not in ("*", BY_GRANT)]


def _groups(claims: Mapping[str, Any], claim: str) -> list[str]:
    groups = claims.get(claim, []) if claim else []
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise _Refused(f"its claim {claim!r} is not a list of names")
    return groups
