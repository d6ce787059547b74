"""docker-compose.yml: valid, at the addresses that are Headgate's defaults, with settings that Kafka knows.

The project needs no YAML otherwise, so the file keeps to the part of it that `read_yaml` understands: nested mappings,
plain or quoted scalars, and lists in JSON.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from sqlalchemy.engine import make_url

from ops.settings import Settings

FILE = Path(__file__).parents[2] / "docker-compose.yml"
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?: (?P<value>\S.*))?")


def read_yaml(text: str) -> dict[str, Any]:
    """Raises ValueError for everything but the part of YAML named above."""
    root: dict[str, Any] = {}
    open_mappings = [(-1, root)]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not understood: {line!r}")
        indent = len(match["indent"])
        while open_mappings[-1][0] >= indent:
            open_mappings.pop()
        within = open_mappings[-1][1]
        if indent != (open_mappings[-1][0] + 2 if len(open_mappings) > 1 else 0):
            raise ValueError(f"indented by {indent}: {line!r}")
        if match["key"] in within:
            raise ValueError(f"twice: {line!r}")
        if match["value"] is None:
            within[match["key"]] = {}
            open_mappings.append((indent, within[match["key"]]))
        else:
            within[match["key"]] = scalar_or_list(match["value"])
    return root


def scalar_or_list(text: str) -> Any:
    if text[0] in '["':
        return json.loads(text)
    if text[0] in "{&*!|>%@`'," or ": " in text or " #" in text:
        raise ValueError(f"not understood: {text!r}")
    return text


@pytest.fixture
def compose() -> dict[str, Any]:
    return read_yaml(FILE.read_text())


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a:\n   b: 1", "a: [b", "a: b: c", "- a", "a:\n\tb: 1", "a: 'b"])
def test_what_is_no_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not understood|indented|twice|Expecting"):
        read_yaml(text)


def test_each_service_is_at_the_address_that_is_its_settings_default(compose: dict[str, Any]) -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    database, redis = make_url(settings.database.get_secret_value()), make_url(settings.redis.get_secret_value())
    wanted = {"kafka": int(settings.kafka.rpartition(":")[2]), "postgres": database.port, "redis": redis.port}
    services = compose["services"]

    assert {name: service["ports"] for name, service in services.items()} == {
        name: [f"127.0.0.1:{port}:{port}"] for name, port in wanted.items()
    }
    assert services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{settings.kafka}"
    assert services["postgres"]["environment"]["POSTGRES_DB"] == database.database
    assert database.username == "postgres"


def test_every_service_has_a_health_check_and_a_fixed_version(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert re.fullmatch(r"[\w/]+:\d+(\.\d+)+", service["image"])


def test_every_volume_that_is_used_is_declared(compose: dict[str, Any]) -> None:
    used = {volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", ())}

    assert used == set(compose["volumes"])


def test_kafka_knows_every_setting_that_it_is_given(kafka_servers: str, compose: dict[str, Any]) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    broker = ConfigResource(ResourceType.BROKER, str(next(iter(admin.list_topics(timeout=10).brokers))))
    known = admin.describe_configs([broker], request_timeout=10)[broker].result(15)
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", ".") for name in compose["services"]["kafka"]["environment"]
    }

    assert given <= set(known)
