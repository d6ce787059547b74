"""Kafka, PostgreSQL and Redis from testcontainers, for machines whose Docker engine answers."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tenacity import RetryError, Retrying, stop_after_delay, wait_fixed

from ops.local_services import probe_kafka, probe_redis
from ops.service import LOOPBACK, ServiceUnavailable, free_port

# The same images as in docker-compose.yml.
KAFKA_IMAGE = "apache/kafka:4.1.0"
POSTGRES_IMAGE = "postgres:16.10"
REDIS_IMAGE = "redis:7.4.5"


def docker_answers() -> bool:
    """Whether anything listens where Docker's client, which leaks a socket on failure, would connect."""
    address = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address.path)
        else:
            socket.create_connection((address.hostname or LOOPBACK, address.port or 2375), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def kafka_container() -> Iterator[str]:
    """Bootstrap servers of a Kafka whose advertised port is the one published on loopback."""
    port = free_port()
    container = published(KAFKA_IMAGE, inside=9092, outside=port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_LOG_RETENTION_MS": "-1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }.items():
        container.with_env(name, value)
    servers = f"{LOOPBACK}:{port}"
    with container:
        wait_for(lambda: probe_kafka(servers), KAFKA_IMAGE)
        yield servers


@contextmanager
def postgres_container() -> Iterator[str]:
    """SQLAlchemy URL of the maintenance database; its user may create databases."""
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer(POSTGRES_IMAGE, driver="psycopg") as container:
        yield container.get_connection_url(host=LOOPBACK)


@contextmanager
def redis_container() -> Iterator[str]:
    port = free_port()
    url = f"redis://{LOOPBACK}:{port}/0"
    with published(REDIS_IMAGE, inside=6379, outside=port):
        wait_for(lambda: probe_redis(url), REDIS_IMAGE)
        yield url


def published(image: str, *, inside: int, outside: int) -> Any:
    from testcontainers.core.container import DockerContainer

    return DockerContainer(image).with_bind_ports(inside, outside)


def wait_for(probe: Callable[[], None], image: str) -> None:
    try:
        Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.2))(probe)
    except RetryError as error:
        raise ServiceUnavailable(f"{image} did not answer in 60 s") from error
