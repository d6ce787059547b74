"""Access tokens for Kafka (OAUTHBEARER): fetched with OAuth's client credentials, kept while they are good.

All clients of a process that log in alike share one token. The endpoint must be HTTPS, or on this machine; a redirect
is refused, since the secret would follow it.
"""

import asyncio
import ssl
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import quote_plus, urlencode

import msgspec
from aiokafka.abc import AbstractTokenProvider as AiokafkaTokenProvider
from aiokafka.errors import KafkaConnectionError
from kafka.net.sasl.oauth import AbstractTokenProvider as KafkaPythonTokenProvider

ANSWER_SECONDS = 10.0
MOST_BYTES = 65_536
#: Of its life after which a token is fetched anew.
GOOD_SHARE = 0.8
#: Of a token whose answer does not say.
USUAL_SECONDS = 300.0
#: How soon an endpoint that refused or was away is asked again; until then everybody hears the same.
AGAIN_SECONDS = 2.0


class TokenUnavailable(Exception):
    """The endpoint did not answer as it should."""


class TokenRefused(TokenUnavailable):
    """The endpoint does not know this client, or not with this secret or scope."""


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """endpoint: URL; authorities: PEM file of who may vouch for it, None: those whom the system trusts."""

    endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None = None
    authorities: Path | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """Times in epoch seconds. fresh_until: from then on a new one is fetched."""

    text: str = field(repr=False)
    fresh_until: float
    ends: float


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float = USUAL_SECONDS


class _Refusal(msgspec.Struct):
    error: str = ""


class Tokens:
    """The present token of one login, from any thread."""

    def __init__(self, login: TokenLogin, fetch: Callable[[TokenLogin, float], Token], clock: Callable[[], float]):
        self._login = login
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._failure: tuple[float, str, type[TokenUnavailable]] | None = None

    def current(self) -> Token:
        """Raises TokenUnavailable."""
        with self._lock:
            now = self._clock()
            if self._token is not None and now < self._token.fresh_until:
                return self._token
            if self._failure is not None and now < self._failure[0]:
                raise self._failure[2](self._failure[1])
            try:
                self._token = self._fetch(self._login, now)
            except TokenUnavailable as error:
                self._failure = (now + AGAIN_SECONDS, str(error), type(error))
                if self._token is not None and now < self._token.ends:
                    return self._token
                raise
            return self._token

    def for_librdkafka(self, _configuration: str) -> tuple[str, float]:
        """librdkafka says what is raised here, and asks again."""
        token = self.current()
        return token.text, token.ends


@cache
def tokens_of(login: TokenLogin) -> Tokens:
    """The same for everybody who logs in alike."""
    return Tokens(login, fetch_token, time.time)


class BlockingTokenProvider(KafkaPythonTokenProvider):  # type: ignore[misc]
    """For kafka-python."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    def token(self) -> str:
        return self._tokens.current().text


class AsyncTokenProvider(AiokafkaTokenProvider):  # type: ignore[misc]
    """For aiokafka, which tries again after errors of its own alone."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def token(self) -> str:
        try:
            return (await asyncio.get_running_loop().run_in_executor(None, self._tokens.current)).text
        except TokenUnavailable as error:
            raise KafkaConnectionError(str(error)) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        del req, fp, code, msg, headers, newurl


def fetch_token(login: TokenLogin, now: float) -> Token:
    """Asks the endpoint (RFC 6749, 4.4). Raises TokenUnavailable."""
    try:
        context = ssl.create_default_context(cafile=None if login.authorities is None else str(login.authorities))
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects)
        with opener.open(_request(login), timeout=ANSWER_SECONDS) as response:
            answer = msgspec.json.decode(response.read(MOST_BYTES), type=_Answer)
    except HTTPError as error:
        raise _refused(login, error) from None
    except msgspec.DecodeError as error:
        raise TokenUnavailable(f"the token endpoint {login.endpoint} answered with no token: {error}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise TokenUnavailable(f"the token endpoint {login.endpoint} does not answer: {reason}") from None
    return Token(answer.access_token, now + GOOD_SHARE * answer.expires_in, now + answer.expires_in)


def _request(login: TokenLogin) -> urllib.request.Request:
    form = {"grant_type": "client_credentials"} | ({} if login.scope is None else {"scope": login.scope})
    client = f"{quote_plus(login.client_id)}:{quote_plus(login.client_secret)}"
    headers = {
        "Authorization": f"Basic {b64encode(client.encode()).decode()}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }
    return urllib.request.Request(login.endpoint, urlencode(form).encode(), headers, method="POST")


def _refused(login: TokenLogin, error: HTTPError) -> TokenUnavailable:
    """Of what it says only OAuth's error code, which never quotes what was sent."""
    with error:
        try:
            said = msgspec.json.decode(error.read(MOST_BYTES), type=_Refusal).error
        except (msgspec.DecodeError, OSError):
            said = ""
    code = f" ({said})" if said.replace("_", "").isalpha() and len(said) < 64 else ""
    message = f"the token endpoint {login.endpoint} answers {error.code}{code}"
    if error.code in (400, 401, 403):
        return TokenRefused(f"{message} to the client {login.client_id}")
    if 300 <= error.code < 400:
        return TokenRefused(f"{message}: it sends elsewhere, and the secret must not follow")
    return TokenUnavailable(message)
