"""An authorization server, as far as a resource server sees one: metadata, keys, tokens signed by them."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import jwt.warnings
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

__all__ = ["Issuer", "Signer", "issuer"]


@dataclass
class Signer:
    """One key pair."""

    kid: str
    algorithm: str
    private: Any

    @classmethod
    def make(cls, kid: str, algorithm: str = "ES256", *, bits: int = 2048) -> Signer:
        match algorithm:
            case "ES256":
                return cls(kid, algorithm, ec.generate_private_key(ec.SECP256R1()))
            case "EdDSA":
                return cls(kid, algorithm, ed25519.Ed25519PrivateKey.generate())
            case _:
                return cls(kid, algorithm, rsa.generate_private_key(65537, bits))

    def jwk(self, **changes: Any) -> dict[str, Any]:
        kinds: dict[str, Any] = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        made = kinds.get(self.algorithm, RSAAlgorithm).to_jwk(self.private.public_key(), as_dict=True)
        return {**made, "kid": self.kid, "alg": self.algorithm, "use": "sig", **changes}


@dataclass
class Issuer:
    url: str
    keys: list[dict[str, Any]] = field(default_factory=list)
    fetches: int = 0
    """Of the keys."""
    status: int = 200

    def claims(self, audience: Any, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        made = {
            "iss": self.url,
            "aud": audience,
            "sub": "alice",
            "client_id": "desktop",
            "jti": f"t{time.time_ns()}",
            "iat": now,
            "exp": now + 300,
            "scope": "toy:read",
        }
        return {name: value for name, value in {**made, **changes}.items() if value is not None}

    def token(self, signer: Signer, audience: Any, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        headers = {"typ": "at+jwt", "kid": signer.kid, **(header or {})}
        named = {name: value for name, value in headers.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jwt.warnings.InsecureKeyLengthWarning)
            return jwt.encode(self.claims(audience, **claims), signer.private, signer.algorithm, headers=named)


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Listens on loopback until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body: dict[str, Any] = {"issuer": made.url, "jwks_uri": f"{made.url}/keys"}
            status = 200
            if self.path == "/keys":
                made.fetches += 1
                body, status = {"keys": made.keys}, made.status
            elif "well-known/oauth-authorization-server" not in self.path:
                status = 404
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Issuer(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()
