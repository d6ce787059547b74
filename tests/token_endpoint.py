"""A small OpenID provider on loopback: gives signed access tokens to clients that know their secret, over TLS."""

import json
import ssl
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ops.service import LOOPBACK
from tests.certificates import Issued

AUDIENCE = "kafka"
KEY_ID = "tests"


class Signer:
    """Signs tokens with a key that a broker finds in `write_keys`'s file."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def write_keys(self, file: Path) -> None:
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256", "n": _number(numbers.n)}
        file.write_text(json.dumps({"keys": [key | {"e": _number(numbers.e)}]}))

    def token(self, subject: str, lifetime: float, scope: str | None = None) -> str:
        now = time.time()
        claims = {"sub": subject, "aud": AUDIENCE, "iss": "tests", "iat": now, "exp": now + lifetime}
        if scope is not None:
            claims["scope"] = scope
        signed = ".".join(_text(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": KEY_ID}, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_text(signature)}"


@dataclass(slots=True)
class TokenEndpoint:
    """secrets: of the clients, by their ids; answer: what it says instead of a token, where that is set; asked: the
    forms that came."""

    url: str
    signer: Signer
    secrets: Mapping[str, str]
    lifetime: float = 300.0
    answer: tuple[int, Mapping[str, str], bytes] | None = None
    asked: list[dict[str, str]] = field(default_factory=list)

    def respond(self, authorization: str, body: str) -> tuple[int, Mapping[str, str], bytes]:
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.asked.append(form)
        if self.answer is not None:
            return self.answer
        client, _, secret = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        client, secret = unquote_plus(client), unquote_plus(secret)
        if form.get("grant_type") != "client_credentials" or self.secrets.get(client) != secret:
            return 401, {}, json.dumps({"error": "invalid_client"}).encode()
        token = self.signer.token(client, self.lifetime, form.get("scope"))
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


@contextmanager
def token_endpoint(signer: Signer, secrets: Mapping[str, str], certificate: Issued) -> Iterator[TokenEndpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, headers, answer = endpoint.respond(self.headers.get("Authorization", ""), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class QuietServer(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust the certificate hangs up."""

    with QuietServer((LOOPBACK, 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.both)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        endpoint = TokenEndpoint(f"https://{LOOPBACK}:{server.server_port}/token", signer, secrets)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
