"""From settings to what Kafka's clients need: checked at the start, one line for each thing that is wrong.

`kafka_problems` decides, from the settings and the files that they name; a client is made nowhere here.
"""

import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509

from ops.service_addresses import is_loopback
from streams.kafka import KafkaSettings
from streams.kafka_rights import Needed
from streams.kafka_security import KafkaSecurity, PasswordLogin, Tls, ssl_context
from streams.kafka_tokens import TokenLogin

if TYPE_CHECKING:
    from ops.settings import Settings

TOKENS = "OAUTHBEARER"
#: Settings that only mean something with TLS, with a user's password, with tokens.
OF_TLS = ("kafka_ca_file", "kafka_certificate_file", "kafka_key_file", "kafka_key_password")
OF_PASSWORDS = ("kafka_user", "kafka_password")
OF_TOKENS = ("kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret")
MAY_BE_GIVEN_WITH_TOKENS = ("kafka_oauth_scope", "kafka_oauth_ca_file")


def kafka_settings(settings: "Settings", client_id: str = "headgate") -> KafkaSettings:
    """Of settings that were checked."""
    return KafkaSettings(settings.kafka, client_id, _security(settings))


def group_of(settings: "Settings") -> str:
    """The consumer group's full name."""
    return f"{settings.topic_prefix}{settings.group}"


def needed_rights(settings: "Settings") -> Needed:
    """What a worker needs in Kafka."""
    written = ["alerts", "recommendations", "dead-letters", "model-updates"]
    if settings.publish_predictions:
        written.append("predictions")
    return Needed(
        read=[f"{settings.topic_prefix}{name}" for name in ("transactions", "engagements", "items", "feedback")],
        written=[f"{settings.topic_prefix}{name}" for name in written],
        group=group_of(settings),
    )


def kafka_problems(settings: "Settings", now: datetime) -> list[str]:
    """`HEADGATE_KAFKA_USER: ...` for each setting that is missing, means nothing, or names a file that is of no use."""
    problems = [*_missing_and_idle(settings), *_clear_text(settings), *_files(settings)]
    return problems or list(_certificates(settings, now))


def certificate_end(file: Path) -> datetime:
    """Until when the first certificate of a PEM file is valid. Raises OSError, ValueError."""
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc


def _security(settings: "Settings") -> KafkaSecurity:
    tls = login = None
    if settings.kafka_security_protocol.endswith("SSL"):
        tls = Tls(
            settings.kafka_ca_file,
            settings.kafka_certificate_file,
            settings.kafka_key_file,
            _secret(settings, "kafka_key_password") or None,
        )
    if settings.kafka_security_protocol.startswith("SASL"):
        login = _login(settings)
    return KafkaSecurity(tls, login)


def _login(settings: "Settings") -> PasswordLogin | TokenLogin:
    if settings.kafka_sasl_mechanism == TOKENS:
        return TokenLogin(
            settings.kafka_oauth_token_url or "",
            settings.kafka_oauth_client_id or "",
            _secret(settings, "kafka_oauth_client_secret"),
            settings.kafka_oauth_scope,
            settings.kafka_oauth_ca_file,
        )
    password = _secret(settings, "kafka_password")
    return PasswordLogin(settings.kafka_sasl_mechanism or "", settings.kafka_user or "", password)


def _secret(settings: "Settings", name: str) -> str:
    secret = getattr(settings, name)
    return "" if secret is None else str(secret.get_secret_value())


def _given(settings: "Settings", name: str) -> bool:
    value = getattr(settings, name)
    return value is not None and (not hasattr(value, "get_secret_value") or value.get_secret_value() != "")


def _missing_and_idle(settings: "Settings") -> Iterator[str]:
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    sasl = protocol.startswith("SASL")
    if sasl and mechanism is None:
        yield f"{_variable('kafka_sasl_mechanism')}: is missing; {protocol} needs one"
    needed: tuple[str, ...] = ()
    if sasl and mechanism is not None:
        needed = OF_TOKENS if mechanism == TOKENS else OF_PASSWORDS
        for name in needed:
            if not _given(settings, name):
                yield f"{_variable(name)}: is missing; the mechanism {mechanism} needs it"
    optional: tuple[str, ...] = OF_TLS if protocol.endswith("SSL") else ()
    if needed == OF_TOKENS:
        optional += MAY_BE_GIVEN_WITH_TOKENS
    if not sasl and mechanism is not None:
        yield _idle("kafka_sasl_mechanism", f"{protocol} logs nobody in", "SASL_SSL")
    for name in (*OF_TLS, *OF_PASSWORDS, *OF_TOKENS, *MAY_BE_GIVEN_WITH_TOKENS):
        if _given(settings, name) and name not in (*needed, *optional):
            if name in OF_TLS:
                yield _idle(name, f"{protocol} is without TLS", "SSL or SASL_SSL")
            elif not sasl:
                yield _idle(name, f"{protocol} logs nobody in", "SASL_SSL")
            elif mechanism is not None:
                yield f"{_variable(name)}: means nothing with the mechanism {mechanism}; take it out"
    if _given(settings, "kafka_certificate_file") != _given(settings, "kafka_key_file"):
        yield f"{_variable('kafka_certificate_file')}: a certificate and its key (HEADGATE_KAFKA_KEY_FILE) go together"


def _idle(name: str, why: str, instead: str) -> str:
    """What somebody set for safety must not be without effect."""
    protocol = _variable("kafka_security_protocol")
    return f"{_variable(name)}: is set, but {why}; set {protocol} to {instead}, or take it out"


def _clear_text(settings: "Settings") -> Iterator[str]:
    """Passwords and tokens leave this machine over TLS only."""
    if settings.kafka_security_protocol == "SASL_PLAINTEXT":
        away = [each for each in settings.kafka.split(",") if not is_loopback(each.strip().rpartition(":")[0])]
        if away:
            yield (
                f"{_variable('kafka_security_protocol')}: SASL_PLAINTEXT would send the login in clear to "
                f"{', '.join(each.strip() for each in away)}; use SASL_SSL"
            )
    endpoint = urlsplit(settings.kafka_oauth_token_url or "")
    if endpoint.geturl() and (endpoint.scheme not in ("https", "http") or not endpoint.hostname):
        yield f"{_variable('kafka_oauth_token_url')}: must be a URL as https://login.example.com/token"
    elif endpoint.username is not None or endpoint.password is not None:
        yield f"{_variable('kafka_oauth_token_url')}: must hold no user and password; they have settings of their own"
    elif endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
        yield f"{_variable('kafka_oauth_token_url')}: must begin with https://, or the client secret goes in clear"


def _files(settings: "Settings") -> Iterator[str]:
    for name in ("kafka_ca_file", "kafka_certificate_file", "kafka_key_file", "kafka_oauth_ca_file"):
        file: Path | None = getattr(settings, name)
        if file is None:
            continue
        try:
            file.read_bytes()
        except OSError as error:
            yield f"{_variable(name)}: cannot read {file}: {error.strerror}"


def _certificates(settings: "Settings", now: datetime) -> Iterator[str]:
    """Of files that are there."""
    for name in ("kafka_ca_file", "kafka_oauth_ca_file"):
        file: Path | None = getattr(settings, name)
        if file is not None and (problem := _tls_problem(Tls(authorities=file))):
            yield f"{_variable(name)}: {file} holds no certificate in PEM ({problem})"
    file = settings.kafka_certificate_file
    if file is None:
        return
    try:
        end = certificate_end(file)
    except ValueError:
        yield f"{_variable('kafka_certificate_file')}: {file} holds no certificate in PEM"
        return
    if end <= now:
        yield f"{_variable('kafka_certificate_file')}: {file} expired on {end:%Y-%m-%d}; get a new certificate"
    tls = Tls(None, file, settings.kafka_key_file, _secret(settings, "kafka_key_password") or None)
    if problem := _tls_problem(tls):
        yield (
            f"{_variable('kafka_key_file')}: {settings.kafka_key_file} is no key in PEM that belongs to {file} and "
            f"opens with HEADGATE_KAFKA_KEY_PASSWORD ({problem})"
        )


def _tls_problem(tls: Tls) -> str | None:
    try:
        ssl_context(tls)
    except ssl.SSLError as error:
        return error.reason or "unreadable"
    return None


def _variable(name: str) -> str:
    return f"HEADGATE_{name.upper()}"
