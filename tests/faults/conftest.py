"""Whole workers on real services: a deployment on the session's (tests/deployment.py), and a world of the fault
benchmark, whose services may be killed."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.bench.faults.audit import Auditor
from ops.bench.faults.world import World, world
from ops.service import ServiceUnavailable
from tests.conftest import cannot_be_had
from tests.flow_fixtures import deploy, deployment, detector

__all__ = ["deploy", "deployment", "detector"]


@pytest.fixture(scope="package")
def running_world(kafka_servers: str, services_folder: Path) -> Iterator[World]:
    """Two workers under load, first for the faults (test_faults.py), then for the bugs (test_planted_bugs.py), which
    spoil it. kafka_servers is asked for because Kafka's jars are fetched with it, outside a test's bound."""
    folder = services_folder / "world"
    folder.mkdir()
    with ExitStack() as cleanup:
        try:
            made = cleanup.enter_context(world(folder, 1, lambda stage, done: None))
        except ServiceUnavailable as error:
            cannot_be_had(str(error))
        yield made


@pytest.fixture(scope="package")
def auditor(running_world: World) -> Auditor:
    return Auditor.of(running_world.deployment)
