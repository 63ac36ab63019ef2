"""Access tokens with something wrong, each in its own way. None may open anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from issuer import Issuer, Signer

__all__ = ["ED", "ES", "HERE", "PS", "RS", "WEAK", "WRONG"]

HERE = "http://127.0.0.1/toy"
ES, RS, PS, ED = (Signer.make(name, name) for name in ("ES256", "RS256", "PS256", "EdDSA"))
STRANGER = Signer.make("ES256")
WEAK = Signer.make("weak", "RS256", bits=1024)


def forged(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part(header) + b"." + part(claims)
    return (signed + b"." + base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")).decode()


NOW = int(time.time())
WRONG: dict[str, Callable[[Issuer], str]] = {
    "no signature": lambda i: forged(
        {"typ": "at+jwt", "alg": "none", "kid": "ES256"}, i.claims(HERE), lambda _: b""
    ),
    "the public key as a secret": lambda i: forged(
        {"typ": "at+jwt", "alg": "HS256", "kid": "RS256"},
        i.claims(HERE),
        lambda signed: hmac.new(json.dumps(RS.jwk()).encode(), signed, hashlib.sha256).digest(),
    ),
    "another's key under a known name": lambda i: i.token(STRANGER, HERE),
    "a key of its own in the header": lambda i: i.token(STRANGER, HERE, header={"jwk": STRANGER.jwk()}),
    "an address of its own for keys": lambda i: i.token(STRANGER, HERE, header={"jku": "http://127.0.0.1:1/keys"}),
    "a certificate's address": lambda i: i.token(STRANGER, HERE, header={"x5u": "http://127.0.0.1:1/x"}),
    "a weaker algorithm of the key's kind": lambda i: i.token(
        Signer("PS256", "RS256", PS.private), HERE, header={"kid": "PS256"}
    ),
    "a stronger hash than the key's": lambda i: i.token(Signer("RS256", "RS512", RS.private), HERE),
    "a weak key": lambda i: i.token(WEAK, HERE),
    "an unknown key": lambda i: i.token(ES, HERE, header={"kid": "who"}),
    "a path as the key's name": lambda i: i.token(ES, HERE, header={"kid": "../../dev/null"}),
    "no key's name": lambda i: i.token(ES, HERE, header={"kid": None}),
    "an empty key's name": lambda i: i.token(ES, HERE, header={"kid": ""}),
    "an ID token": lambda i: i.token(ES, HERE, header={"typ": "JWT"}),
    "no type": lambda i: i.token(ES, HERE, header={"typ": None}),
    "a demand that is not understood": lambda i: i.token(ES, HERE, header={"crit": ["exp"]}),
    "another server's": lambda i: i.token(ES, "http://127.0.0.1/other"),
    "a longer address": lambda i: i.token(ES, HERE + "/more"),
    "a shorter address": lambda i: i.token(ES, HERE[:-1]),
    "a trailing slash": lambda i: i.token(ES, HERE + "/"),
    "another case": lambda i: i.token(ES, HERE.upper()),
    "a list of others": lambda i: i.token(ES, ["http://a", "http://b"]),
    "an empty list": lambda i: i.token(ES, []),
    "an audience that is a number": lambda i: forged(
        {"typ": "at+jwt", "alg": "ES256", "kid": "ES256"}, i.claims(1), lambda _: b"x" * 64
    ),
    "another issuer's": lambda i: i.token(ES, HERE, iss="https://evil.example"),
    "the issuer with a slash": lambda i: i.token(ES, HERE, iss=i.url + "/"),
    "expired": lambda i: i.token(ES, HERE, iat=NOW - 600, exp=NOW - 60),
    "not yet valid": lambda i: i.token(ES, HERE, nbf=NOW + 3_600),
    "made in the future": lambda i: i.token(ES, HERE, iat=NOW + 3_600, exp=NOW + 7_200),
    "good for a month": lambda i: i.token(ES, HERE, exp=NOW + 30 * 86_400),
    "an end that is no number": lambda i: i.token(ES, HERE, exp="tomorrow"),
    "scopes that are no words": lambda i: i.token(ES, HERE, scope=[1, 2]),
    "scopes that are an object": lambda i: i.token(ES, HERE, scope={"toy:read": True}),
    "a subject with line breaks": lambda i: i.token(ES, HERE, sub="alice\nroot"),
    "an empty subject": lambda i: i.token(ES, HERE, sub=""),
    "a subject without end": lambda i: i.token(ES, HERE, sub="a" * 500),
    "too long": lambda i: i.token(ES, HERE, padding="a" * 9_000),
    "cut": lambda i: i.token(ES, HERE)[:-8],
    "a changed claim": lambda i: ".".join(
        [
            i.token(ES, HERE).split(".")[0],
            base64.urlsafe_b64encode(json.dumps(i.claims(HERE, sub="root")).encode()).rstrip(b"=").decode(),
            i.token(ES, HERE).split(".")[2],
        ]
    ),
    "two parts": lambda i: ".".join(i.token(ES, HERE).split(".")[:2]),
    "not a token": lambda _: "hello",
    "nothing": lambda _: "",
    "binary": lambda _: "\x00\xff\x00",
    **{
        f"no {claim}": (lambda i, claim=claim: i.token(ES, HERE, **{claim: None}))  # type: ignore[misc]
        for claim in ("iss", "aud", "exp", "iat", "sub", "client_id", "jti")
    },
}
