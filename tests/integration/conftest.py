"""Whole workers on real services (tests/deployment.py)."""

from collections.abc import Iterator

import pytest

from tests.flow_fixtures import deploy, deployment, detector
from tests.integration.pages import delete_topics

__all__ = ["deploy", "deployment", "detector"]


@pytest.fixture
def no_prefix(kafka_servers: str) -> Iterator[str]:
    """A topic prefix of nothing, as pages of documentation have it: so the topics must not outlive the test."""
    delete_topics(kafka_servers)
    yield ""
    delete_topics(kafka_servers)
