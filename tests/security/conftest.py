"""The secured broker, once for all tests of this folder; and whole workers on real services (tests/deployment.py)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.service import ServiceUnavailable
from tests.conftest import cannot_be_had
from tests.flow_fixtures import deploy, deployment, detector
from tests.secured_clients import Doors
from tests.secured_kafka import SecuredKafka, secured_kafka

__all__ = ["deploy", "deployment", "detector"]


@pytest.fixture(scope="session")
def secured(services_folder: Path) -> Iterator[SecuredKafka]:
    try:
        with secured_kafka(services_folder / "secured") as kafka:
            yield kafka
    except ServiceUnavailable as error:
        cannot_be_had(str(error))


@pytest.fixture
def doors(secured: SecuredKafka) -> Doors:
    return Doors(secured)
