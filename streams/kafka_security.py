"""Whom Kafka's clients trust, and how they show who they are: one value, said to each library in its own words.

Three libraries speak to Kafka: librdkafka for records and administration, aiokafka for the consumer group, kafka-python
for what neither can. All check the broker's certificate and its host name; no setting turns that off. Where the values
come from is no business of this module.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.kafka_tokens import BlockingTokenProvider, TokenLogin, tokens_of

#: For a look at a broker's certificate.
LOOK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. authorities: who may vouch for a broker, None: those whom the system trusts; certificate and key: what
    this client shows, where brokers ask for it."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""

    mechanism: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Neither: everything in clear, and nobody asks who we are."""

    tls: Tls | None = None
    login: PasswordLogin | TokenLogin | None = None

    @property
    def protocol(self) -> str:
        """By Kafka's name."""
        transport = "PLAINTEXT" if self.tls is None else "SSL"
        return transport if self.login is None else f"SASL_{transport}"


def librdkafka_options(security: KafkaSecurity) -> dict[str, Any]:
    """What every client of librdkafka gets besides its address."""
    options: dict[str, Any] = {"security.protocol": security.protocol}
    if security.tls is not None:
        tls = security.tls
        options |= {"enable.ssl.certificate.verification": True, "ssl.endpoint.identification.algorithm": "https"}
        options |= _given(
            {
                "ssl.ca.location": tls.authorities,
                "ssl.certificate.location": tls.certificate,
                "ssl.key.location": tls.key,
                "ssl.key.password": tls.key_password,
            }
        )
    if isinstance(security.login, PasswordLogin):
        login = security.login
        options |= {
            "sasl.mechanism": login.mechanism,
            "sasl.username": login.user,
            "sasl.password": login.password,
        }
    elif security.login is not None:
        options |= {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": tokens_of(security.login).for_librdkafka}
    return options


def kafka_python_options(security: KafkaSecurity) -> dict[str, Any]:
    """What every client of kafka-python gets besides its address. Raises as ssl_context."""
    options: dict[str, Any] = {"security_protocol": security.protocol}
    if security.tls is not None:
        options["ssl_context"] = ssl_context(security.tls)
        options["ssl_context"].sslsocket_class = _ClosedWhenRefused
    if isinstance(security.login, PasswordLogin):
        login = security.login
        options |= {
            "sasl_mechanism": login.mechanism,
            "sasl_plain_username": login.user,
            "sasl_plain_password": login.password,
        }
    elif security.login is not None:
        provider = BlockingTokenProvider(tokens_of(security.login))
        options |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}
    return options


class _ClosedWhenRefused(ssl.SSLSocket):
    """kafka-python closes no socket whose handshake failed."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise


def ssl_context(tls: Tls) -> ssl.SSLContext:
    """Certificate and host name are checked. Raises OSError (ssl.SSLError, too) where a file cannot be used."""
    context = ssl.create_default_context(cafile=None if tls.authorities is None else str(tls.authorities))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        # A function, since OpenSSL would ask on the terminal for a password that is None.
        context.load_cert_chain(tls.certificate, tls.key, lambda: tls.key_password or "")
    return context


def certificate_problem(servers: str, tls: Tls) -> str | None:
    """What is wrong with the certificate of one of the brokers, in words: librdkafka says only that something is."""
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        host = host.strip("[]")
        try:
            with (
                socket.create_connection((host, int(port)), LOOK_SECONDS) as connection,
                ssl_context(tls).wrap_socket(connection, server_hostname=host),
            ):
                continue
        except ssl.SSLCertVerificationError as error:
            return f"the certificate of {server.strip()} is refused: {error.verify_message}"
        except OSError:
            continue  # librdkafka's own words have to do
    return None


def _given(options: Mapping[str, Path | str | None]) -> dict[str, str]:
    return {name: str(value) for name, value in options.items() if value is not None}
