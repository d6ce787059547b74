"""Fixtures of the tests that run whole workers; tests/integration and tests/faults take them into their conftest."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deployment import Deployment, deployed
from tests.fraud_model import small_detector

Deploy = Callable[..., Deployment]


@pytest.fixture(scope="session")
def detector() -> bytes:
    """A trained detector's file."""
    return small_detector()


@pytest.fixture
def deploy(
    kafka_servers: str, postgres_url: str, redis_url: str, topic_prefix: str, detector: bytes, tmp_path: Path
) -> Iterator[Deploy]:
    """deploy(partitions=2, **settings): services, topics, schema and champion; workers end with the test."""
    with ExitStack() as cleanup:

        def start(partitions: int = 2, **settings: str) -> Deployment:
            return cleanup.enter_context(
                deployed(
                    kafka_servers, postgres_url, redis_url, topic_prefix, tmp_path, detector, partitions, **settings
                )
            )

        yield start


@pytest.fixture
def deployment(deploy: Deploy) -> Deployment:
    """Two partitions and no worker yet."""
    return deploy()
