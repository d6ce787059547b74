"""`headgate doctor`: looks at everything Headgate needs, and says for each thing what it found and what to do.

Changes nothing that lasts: a topic's creation is only validated, the Redis key and the file that are written are
removed again. A check never raises; what goes wrong becomes a Check that says so.
"""

import os
import platform
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import fsspec
import redis
import torch
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from sqlalchemy import Connection, text

from ops.clock import utc_now
from ops.embedded import EMBEDDED_CLUSTER_ID
from ops.kafka_settings import certificate_end, kafka_settings, needed_rights
from ops.service_addresses import is_loopback
from ops.settings import Settings
from storage.database import (
    Database,
    DatabaseRefused,
    DatabaseUnavailable,
    current_revision,
    head_revision,
    open_database,
)
from storage.database_roles import WRITER_ROLE
from storage.database_roles import needed_rights as needed_in_database
from storage.redis_refusals import in_words
from storage.tables import Base
from streams.kafka import (
    KafkaRefused,
    KafkaSettings,
    KafkaUnavailable,
    admin_client,
    group_admin,
    topic_configurations,
)
from streams.kafka_refusals import Reason
from streams.kafka_rights import lacking_rights

SECONDS = 5.0
OLDEST_KAFKA = (3, 0)
OLDEST_POSTGRES = 14
OLDEST_REDIS = (6, 2)
#: Before the end of a certificate that a person should know of it.
RENEWAL = timedelta(days=30)

REMEDIES: dict[Reason, str] = {
    "authentication": "Correct HEADGATE_KAFKA_USER, HEADGATE_KAFKA_PASSWORD and mechanism, or what asks for tokens.",
    "authorization": "Allow it with kafka-acls; docs/security.md lists what each part needs.",
    "tls": "Correct HEADGATE_KAFKA_CA_FILE, HEADGATE_KAFKA_CERTIFICATE_FILE or the host name in HEADGATE_KAFKA, "
    "or have the broker's certificate renewed.",
}

DATABASE_REMEDIES = {
    None: "Start the database and create it there, or correct HEADGATE_DATABASE.",
    "authentication": "Correct the user or password in HEADGATE_DATABASE, or allow them in the server's pg_hba.conf.",
    "authorization": "As an administrator do: headgate db roles, and grant the user one of them.",
    "tls": "The server must speak TLS, with a certificate that is valid, of the host in HEADGATE_DATABASE, and "
    "signed by an authority in sslrootcert.",
}

REDIS_REMEDY = "Start Redis, or correct HEADGATE_REDIS; a server without TLS does not answer rediss://."

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its state, and what to do where that is not "ok"."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def diagnose(settings: Settings) -> list[Check]:
    """Every check, in the order in which one would mend things."""
    groups: list[Callable[[Settings], Iterator[Check]]] = [
        check_python,
        check_kafka,
        check_database,
        check_redis,
        check_folders,
    ]
    return [check for group in groups for check in group(settings)]


def check_python(settings: Settings) -> Iterator[Check]:
    yield Check("python", "ok", f"Python {platform.python_version()}, torch {torch.__version__}")
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = ", ".join(devices) or f"CPU ({os.cpu_count()} cores), no CUDA device"
    if settings.device.startswith("cuda") and int(settings.device.partition(":")[2] or 0) >= len(devices):
        yield Check("device", "fail", f"{found}; {settings.device} is asked for", "Set HEADGATE_DEVICE=auto or cpu.")
    else:
        yield Check("device", "ok", found)


# Kafka


def check_kafka(settings: Settings) -> Iterator[Check]:
    kafka = kafka_settings(settings, "headgate-doctor")
    yield from check_certificate(settings)
    try:
        admin = admin_client(kafka, timeout=SECONDS)
    except KafkaRefused as error:
        yield Check("kafka", "fail", str(error), REMEDIES[error.reason])
        return
    except KafkaUnavailable as error:
        yield Check(
            "kafka",
            "fail",
            str(error),
            "Start Kafka, or set HEADGATE_KAFKA to its host:port, and HEADGATE_KAFKA_SECURITY_PROTOCOL as it listens.",
        )
        return
    embedded = admin.list_topics(timeout=SECONDS).cluster_id == EMBEDDED_CLUSTER_ID
    yield check_kafka_version(kafka, embedded)
    yield check_encryption(settings)
    yield from check_topics(settings, kafka, admin)
    if not embedded:  # Tansu takes no notice of "validate only" and would create the topic
        yield check_topic_creation(settings, admin)


def check_certificate(settings: Settings) -> Iterator[Check]:
    """What we show to brokers; one that is over is refused with the settings."""
    if (file := settings.kafka_certificate_file) is not None:
        end = certificate_end(file)
        found = f"{file} is valid until {end:%Y-%m-%d}"
        if end < utc_now() + RENEWAL:
            yield Check("certificate", "warn", found, "Get a new one, and start everything that uses it again.")
        else:
            yield Check("certificate", "ok", found)


def check_encryption(settings: Settings) -> Check:
    protocol = settings.kafka_security_protocol
    away = [server for server in settings.kafka.split(",") if not is_loopback(server.strip().rpartition(":")[0])]
    if away and protocol == "PLAINTEXT":
        return Check(
            "kafka security",
            "warn",
            f"{', '.join(away)} gets and gives everything in clear, to whoever asks",
            "Set HEADGATE_KAFKA_SECURITY_PROTOCOL=SASL_SSL; docs/security.md says how.",
        )
    return Check("kafka security", "ok", ", ".join(filter(None, [protocol, settings.kafka_sasl_mechanism])))


def check_kafka_version(kafka: KafkaSettings, embedded: bool) -> Check:
    if embedded:
        return Check(
            "kafka",
            "warn",
            f"the embedded Tansu broker at {kafka.servers}: records are in memory, promises are not kept by it",
            "Fine for a demo. For anything else set HEADGATE_KAFKA to an Apache Kafka.",
        )
    try:
        with group_admin(kafka, SECONDS) as admin:
            broker = admin.describe_cluster()["brokers"][0]
            version = admin.get_broker_version_data(broker.get("broker_id", broker.get("node_id"))).broker_version
    except KafkaUnavailable as error:
        return Check("kafka", "warn", f"answers, but does not tell its version: {error}")
    named = ".".join(map(str, version))
    if version < OLDEST_KAFKA:
        oldest = ".".join(map(str, OLDEST_KAFKA))
        return Check("kafka", "warn", f"Kafka {named} at {kafka.servers}", f"Upgrade to Kafka {oldest} or newer.")
    return Check("kafka", "ok", f"Kafka {named} or newer at {kafka.servers}")


def check_topics(settings: Settings, kafka: KafkaSettings, admin: AdminClient) -> Iterator[Check]:
    """What we may not see looks as if it did not exist, so rights come first."""
    wanted = topic_configurations(settings.topic_prefix, settings.record_size_limit)
    present = admin.list_topics(timeout=SECONDS).topics
    lacking = lacking_rights(kafka, needed_rights(settings), must_exist=False)
    if lacking:
        yield Check("rights", "fail", f"a worker would lack {', '.join(lacking)}", REMEDIES["authorization"])
    else:
        yield Check("rights", "ok", "all that a worker needs of topics and its group")
    missing = [name for name in wanted if name not in present and not any(name in each.split() for each in lacking)]
    if missing:
        yield Check("topics", "fail", f"missing: {', '.join(missing)}", "Do: headgate topics create")
    elif not lacking:
        partitions = ", ".join(f"{name} {len(present[name].partitions)}" for name in wanted)
        yield Check("topics", "ok", f"all there; partitions: {partitions}")
    told = topic_settings(admin, [name for name in wanted if wanted[name] and name in present])
    yield from check_record_size(settings, wanted, told)
    yield from check_compaction(wanted, told)


def check_record_size(
    settings: Settings, wanted: Mapping[str, Mapping[str, str]], told: Mapping[str, Mapping[str, str]]
) -> Iterator[Check]:
    option = "max.message.bytes"
    limits = {name: int(found[option]) for name, found in told.items() if option in found and option in wanted[name]}
    too_small = {name: limit for name, limit in limits.items() if limit < settings.record_size_limit}
    if too_small:
        listed = ", ".join(f"{name} {limit}" for name, limit in too_small.items())
        yield Check(
            "record size",
            "warn",
            f"{option} is below HEADGATE_RECORD_SIZE_LIMIT ({settings.record_size_limit}): {listed}",
            f"Set {option}={wanted[next(iter(too_small))][option]} on these topics, "
            "or producers are refused before Headgate sees the record.",
        )
    elif limits:
        yield Check("record size", "ok", f"{option} at least {min(limits.values())}")


def check_compaction(wanted: Mapping[str, Mapping[str, str]], told: Mapping[str, Mapping[str, str]]) -> Iterator[Check]:
    """A topic that keeps the newest record of each key must not lose it to age."""
    option = "cleanup.policy"
    policies = {name: found[option] for name, found in told.items() if option in found and option in wanted[name]}
    deleting = {name: policy for name, policy in policies.items() if policy != wanted[name][option]}
    if deleting:
        yield Check(
            "compaction",
            "warn",
            f"{option} is not compact: {', '.join(f'{name} {policy}' for name, policy in deleting.items())}",
            f"Set {option}=compact on these topics, or what did not change for long is gone from them.",
        )
    elif policies:
        yield Check("compaction", "ok", f"compacted: {', '.join(policies)}")


def topic_settings(admin: AdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    """The configuration of each topic that tells it."""
    if not topics:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    told = {}
    for resource, future in admin.describe_configs(resources, request_timeout=SECONDS).items():
        try:
            entries = future.result(SECONDS)
        except KafkaException:
            continue  # not allowed to read the configuration; producing still tells
        told[resource.name] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return told


def check_topic_creation(settings: Settings, admin: AdminClient) -> Check:
    name = f"{settings.topic_prefix}headgate-doctor-{uuid.uuid4().hex[:8]}"
    try:
        future = admin.create_topics([NewTopic(name, 1)], validate_only=True, request_timeout=SECONDS)[name]
        future.result(SECONDS)
    except KafkaException as error:
        return Check(
            "topic rights",
            "warn",
            f"may not create topics: {error.args[0].str()}",
            "Only `headgate topics create` needs it; allow CREATE, or let an administrator create the topics.",
        )
    return Check("topic rights", "ok", "may create topics")


# SQL


def check_database(settings: Settings) -> Iterator[Check]:
    database = open_database(settings.database.get_secret_value())
    file = database.engine.url.database
    if database.dialect == "sqlite" and file and not Path(file).exists():
        yield Check("database", "warn", f"SQLite file {file} does not exist yet", "Do: headgate db upgrade")
        return
    try:
        with database.reading() as connection:
            yield check_database_version(database, connection)
        yield check_schema(database)
        with database.reading() as connection:
            yield check_table_rights(database, connection)
    except DatabaseRefused as error:
        yield Check("database", "fail", str(error), "Grant the user a role that `headgate db roles` makes.")
    except DatabaseUnavailable as error:
        yield Check("database", "fail", str(error), DATABASE_REMEDIES[error.refused])
    finally:
        database.engine.dispose()


def check_database_version(database: Database, connection: Connection) -> Check:
    if database.dialect == "sqlite":
        return Check("database", "ok", f"SQLite {sqlite3.sqlite_version}, {database.engine.url.database}")
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    if number < OLDEST_POSTGRES:
        return Check("database", "warn", f"PostgreSQL {number}", f"Upgrade to PostgreSQL {OLDEST_POSTGRES} or newer.")
    if connection.execute(text("SHOW fsync")).scalar_one() == "off":
        return Check(
            "database",
            "warn",
            f"PostgreSQL {number} with fsync off: a crash of its machine can destroy the data",
            "Set fsync = on in postgresql.conf.",
        )
    return Check("database", "ok", f"PostgreSQL {number}, {database.where}")


def check_schema(database: Database) -> Check:
    found, wanted = current_revision(database), head_revision()
    if found == wanted:
        return Check("schema", "ok", f"at revision {found}")
    return Check("schema", "fail", f"at {found or 'nothing'}, this version needs {wanted}", "Do: headgate db upgrade")


def check_table_rights(database: Database, connection: Connection) -> Check:
    if database.dialect == "sqlite":
        file = Path(database.engine.url.database or ".")
        if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
            return Check("table rights", "ok", "may write")
        return Check(
            "table rights", "fail", f"may not write {file} or its folder", "Change the file's owner or rights."
        )
    # Tables that do not exist are the schema check's business: to_regclass is null for them.
    query = text(
        "SELECT coalesce(bool_and(has_table_privilege(to_regclass(:name)::oid, right_name)), true) "
        "FROM unnest(CAST(:rights AS text[])) AS right_name"
    )
    refused = [
        name
        for name in Base.metadata.tables
        if not connection.execute(query, {"name": name, "rights": list(needed_in_database(name))}).scalar_one()
    ]
    if refused:
        return Check(
            "table rights",
            "fail",
            f"may not read and write {', '.join(refused)}",
            f"As an administrator do: headgate db roles, then GRANT {WRITER_ROLE} TO {database.engine.url.username};",
        )
    return Check("table rights", "ok", "may read and write every table")


# Redis


def check_redis(settings: Settings) -> Iterator[Check]:
    with redis.Redis.from_url(
        settings.redis.get_secret_value(), socket_timeout=SECONDS, socket_connect_timeout=SECONDS
    ) as client:
        try:
            version = redis_version(client)
        except redis.RedisError as error:
            yield Check("redis", "fail", f"no answer: {in_words(error)}", REDIS_REMEDY)
            return
        if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
            oldest = ".".join(map(str, OLDEST_REDIS))
            yield Check("redis", "warn", f"Redis {version}", f"Upgrade to Redis {oldest} or newer.")
        else:
            yield Check("redis", "ok", f"Redis {version}")
        yield check_redis_write(settings, client)


def redis_version(client: redis.Redis) -> str:
    """By the one command that every user may use. Raises redis.RedisError."""
    answer: Any = client.execute_command("HELLO")  # type: ignore[no-untyped-call]
    told = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    version = told[b"version"]
    return version.decode() if isinstance(version, bytes) else str(version)


def check_redis_write(settings: Settings, client: redis.Redis) -> Check:
    key = f"{settings.redis_prefix}doctor:{uuid.uuid4().hex[:8]}"
    try:
        client.set(key, "1", ex=60)
        client.delete(key)
    except redis.RedisError as error:
        return Check(
            "redis rights",
            "fail",
            f"may not write {key}: {in_words(error)}",
            "Allow the user to write keys with the prefix.",
        )
    return Check("redis rights", "ok", f"may write keys that begin with {settings.redis_prefix}")


# Folders


def check_folders(settings: Settings) -> Iterator[Check]:
    """Of models and of snapshots, without which the service works, but restarts slowly."""
    yield _check_folder("models", settings.models, "fail")
    yield _check_folder("state", settings.state, "warn")


def _check_folder(name: str, location: str, otherwise: Status) -> Check:
    """Writes a file there and removes it again; for a local folder that does not exist its parent is looked at."""
    try:
        files, root = fsspec.core.url_to_fs(location)
        if "file" in files.protocol and not files.exists(root):
            parent = next(parent for parent in Path(root).parents if parent.exists())
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise PermissionError(f"may not write in {parent}")
            return Check(name, "ok", f"{location} will be created")
        probe = f"{root.rstrip('/')}/.headgate-doctor-{uuid.uuid4().hex[:8]}"
        files.pipe_file(probe, b"")
        files.rm_file(probe)
        return Check(name, "ok", f"may write {location}")
    except Exception as error:  # every kind of object store has errors of its own
        remedy = f"Allow it, or set HEADGATE_{name.upper()} elsewhere."
        return Check(name, otherwise, f"cannot write {location}: {error}", remedy)
