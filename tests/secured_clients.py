"""Settings and checks for clients of the secured broker (tests/secured_kafka.py), by protocol and mechanism."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from confluent_kafka.admin import AclOperation
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streams.app import kafka_credentials
from streams.kafka import KafkaSettings, check_broker, group_admin
from streams.kafka_security import KafkaSecurity, PasswordLogin, Tls
from streams.kafka_tokens import TokenLogin
from tests.secured_kafka import ANY_GROUP, ANY_TOPIC, SecuredKafka, password_of

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything by which a client can come in, as a value and as the settings' variables."""

    kafka: SecuredKafka

    def tls(self, door: str = "TLS", authorities: Path | None = None) -> KafkaSettings:
        security = KafkaSecurity(Tls(authorities or self.kafka.authority.file))
        return KafkaSettings(self.kafka.doors[door], security=security)

    def mutual(self, name: str, password: str | None = None) -> KafkaSettings:
        issued = self.kafka.certificates[name]
        tls = Tls(self.kafka.authority.file, issued.certificate, issued.key, password)
        return KafkaSettings(self.kafka.doors["MTLS"], security=KafkaSecurity(tls))

    def password(self, mechanism: str, name: str = "worker", password: str | None = None) -> KafkaSettings:
        login = PasswordLogin(mechanism, name, password_of(name) if password is None else password)
        security = KafkaSecurity(Tls(self.kafka.authority.file), login)
        return KafkaSettings(self.kafka.doors["SASL"], security=security)

    def in_clear(self, mechanism: str) -> KafkaSettings:
        login = PasswordLogin(mechanism, "worker", password_of("worker"))
        return KafkaSettings(self.kafka.doors["CLEAR"], security=KafkaSecurity(None, login))

    def token(self, name: str = "worker", secret: str | None = None) -> KafkaSettings:
        secret = password_of(name) if secret is None else secret
        login = TokenLogin(self.kafka.tokens.url, name, secret, "kafka", self.kafka.authority.file)
        security = KafkaSecurity(Tls(self.kafka.authority.file), login)
        return KafkaSettings(self.kafka.doors["SASL"], security=security)


def variables(settings: KafkaSettings) -> dict[str, str]:
    """The same as settings of commands, without the prefix HEADGATE_."""
    security = settings.security
    found: dict[str, object] = {"KAFKA": settings.servers, "KAFKA_SECURITY_PROTOCOL": security.protocol}
    if (tls := security.tls) is not None:
        found |= {"KAFKA_CA_FILE": tls.authorities, "KAFKA_CERTIFICATE_FILE": tls.certificate}
        found |= {"KAFKA_KEY_FILE": tls.key, "KAFKA_KEY_PASSWORD": tls.key_password}
    if isinstance(login := security.login, PasswordLogin):
        found |= {"KAFKA_SASL_MECHANISM": login.mechanism, "KAFKA_USER": login.user, "KAFKA_PASSWORD": login.password}
    elif login is not None:
        found |= {"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_OAUTH_TOKEN_URL": login.endpoint}
        found |= {"KAFKA_OAUTH_CLIENT_ID": login.client_id, "KAFKA_OAUTH_CLIENT_SECRET": login.client_secret}
        found |= {"KAFKA_OAUTH_SCOPE": login.scope, "KAFKA_OAUTH_CA_FILE": login.authorities}
    return {name: str(value) for name, value in found.items() if value is not None}


def by_librdkafka(settings: KafkaSettings) -> None:
    check_broker(settings)


def by_kafka_python(settings: KafkaSettings) -> None:
    with group_admin(settings, 3.0) as admin:
        admin.describe_cluster()


def by_aiokafka(settings: KafkaSettings) -> None:
    """As the Faust transport connects."""

    async def connect() -> None:
        options = credentials_to_aiokafka_auth(kafka_credentials(settings.security))
        client = AIOKafkaClient(bootstrap_servers=settings.servers, **options)
        try:
            await client.bootstrap()
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(connect(), SECONDS))


#: Each library's way in; raises where it is refused.
CLIENTS: Mapping[str, Callable[[KafkaSettings], None]] = {
    "librdkafka": by_librdkafka,
    "kafka-python": by_kafka_python,
    "aiokafka": by_aiokafka,
}


def allow_worker(kafka: SecuredKafka, name: str, prefix: str) -> None:
    """The least rights of a worker, as docs/security.md lists them."""
    read, write = [AclOperation.READ], [AclOperation.WRITE]
    for topic in ("transactions", "engagements", "items", "feedback"):
        kafka.allow(name, ANY_TOPIC, f"{prefix}{topic}", read)
    for topic in ("alerts", "recommendations", "dead-letters", "model-updates", "predictions"):
        kafka.allow(name, ANY_TOPIC, f"{prefix}{topic}", write)
    kafka.allow(name, ANY_GROUP, f"{prefix}headgate", read)
