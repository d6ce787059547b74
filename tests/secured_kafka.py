"""One Apache Kafka with every kind of door: TLS, client certificates, SCRAM, PLAIN and tokens, behind an authorizer.

Its listener without TLS belongs to the tests alone, whose principal there (ANONYMOUS) may do everything; so may a
client of the listener TLS, which shows no certificate. Everybody else may do what `allow` allowed.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from ops.local_services import start_kafka
from ops.service import LOOPBACK, Service, free_port
from tests.certificates import DAY, Authority, Issued
from tests.token_endpoint import AUDIENCE, Signer, TokenEndpoint, token_endpoint

#: Listener -> protocol.
DOORS = {
    "TLS": "SSL",
    "MTLS": "SSL",
    "EXPIRED": "SSL",
    "ELSEWHERE": "SSL",
    "SASL": "SASL_SSL",
    "CLEAR": "SASL_PLAINTEXT",
}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
KEY_PASSWORD = "opens the key"
#: Who there is: each has a certificate, a password (by SCRAM and PLAIN) and a client secret for tokens.
PEOPLE = ("worker", "dashboard", "producer", "administrator", "stranger")
ANY_TOPIC, ANY_GROUP = ResourceType.TOPIC, ResourceType.GROUP


def password_of(name: str) -> str:
    return f"pass=word,of {name}"


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    service: Service
    doors: dict[str, str]
    authority: Authority
    stranger: Authority
    certificates: dict[str, Issued]
    tokens: TokenEndpoint

    @property
    def admin_servers(self) -> str:
        return self.service.url

    def allow(self, name: str, resource: ResourceType, prefix: str, operations: Iterable[AclOperation]) -> None:
        """What a principal may do with everything of a kind whose name begins so."""
        admin = AdminClient({"bootstrap.servers": self.service.url})
        wanted = [
            AclBinding(
                resource,
                prefix,
                ResourcePatternType.PREFIXED,
                f"User:{name}",
                "*",
                operation,
                AclPermissionType.ALLOW,
            )
            for operation in operations
        ]
        for future in admin.create_acls(wanted).values():
            future.result(10)

    def disallow(self, name: str, resource: ResourceType, prefix: str, operation: AclOperation) -> None:
        """Takes back what was allowed so."""
        admin = AdminClient({"bootstrap.servers": self.service.url})
        pattern, allowed = ResourcePatternType.PREFIXED, AclPermissionType.ALLOW
        taken = AclBindingFilter(resource, prefix, pattern, f"User:{name}", "*", operation, allowed)
        for future in admin.delete_acls([taken]).values():
            assert len(future.result(10)) == 1


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    authority, stranger = Authority(folder / "ours", "authority"), Authority(folder / "theirs", "stranger")
    certificates = {
        "broker": authority.issue("broker"),
        "expired": authority.issue("expired", lifetime=-DAY),
        "elsewhere": authority.issue("elsewhere", ["elsewhere.test"]),
        "encrypted": authority.issue("encrypted", [], password=KEY_PASSWORD),
        **{name: authority.issue(name, []) for name in PEOPLE},
        "unknown": stranger.issue("worker", []),
        "outdated": authority.issue("outdated", [], lifetime=-DAY),
    }
    doors = {name: f"{LOOPBACK}:{free_port()}" for name in DOORS}
    signer, keys = Signer(), folder / "keys.json"
    signer.write_keys(keys)
    properties = _properties(doors, authority, certificates, keys)
    option = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys.as_uri()}"
    secrets = {name: password_of(name) for name in PEOPLE}
    with (
        token_endpoint(signer, secrets, certificates["broker"]) as tokens,
        start_kafka(folder / "kafka", heap="384m", properties=properties, java_options=[option]) as service,
    ):
        _add_passwords(service.url)
        yield SecuredKafka(service, doors, authority, stranger, certificates, tokens)


def _properties(
    doors: dict[str, str], authority: Authority, certificates: dict[str, Issued], keys: Path
) -> dict[str, str]:
    listed = ",".join(f"{name}://{address}" for name, address in doors.items())
    protocols = ",".join(f"{name}:{protocol}" for name, protocol in DOORS.items())
    properties = {
        "listeners": f"PLAINTEXT://{LOOPBACK}:@port@,CONTROLLER://{LOOPBACK}:@controller_port@,{listed}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:@port@,{listed}",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{protocols}",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates["broker"].both),
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
        "sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        "sasl.oauthbearer.expected.audience": AUDIENCE,
    }
    for name in ("expired", "elsewhere"):
        properties[f"listener.name.{name}.ssl.keystore.type"] = "PEM"
        properties[f"listener.name.{name}.ssl.keystore.location"] = str(certificates[name].both)
    for name in ("sasl", "clear"):
        properties |= {f"listener.name.{name}.{key}": value for key, value in _sasl().items()}
    return properties


def _sasl() -> dict[str, str]:
    security = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{password_of(name)}"' for name in PEOPLE)
    scram = f"{security}.scram.ScramLoginModule required;"
    return {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {users};",
        "scram-sha-256.sasl.jaas.config": scram,
        "scram-sha-512.sasl.jaas.config": scram,
        "oauthbearer.sasl.jaas.config": f"{security}.oauthbearer.OAuthBearerLoginModule required;",
        "oauthbearer.sasl.server.callback.handler.class": f"{security}.oauthbearer.OAuthBearerValidatorCallbackHandler",
    }


def _add_passwords(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        info = ScramCredentialInfo(mechanism, 4096)
        wanted = [UserScramCredentialUpsertion(name, info, password_of(name).encode()) for name in PEOPLE]
        for future in admin.alter_user_scram_credentials(wanted).values():
            future.result(10)
