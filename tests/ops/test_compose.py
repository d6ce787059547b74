"""docker-compose.yml: the services are at the addresses that are Headgate's defaults, and Kafka knows its settings."""

from typing import Any

from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from sqlalchemy.engine import make_url

from ops.settings import Settings
from tests.ops.deploy.artefacts import services


def test_each_service_is_at_the_address_that_is_its_settings_default() -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    database, redis = make_url(settings.database.get_secret_value()), make_url(settings.redis.get_secret_value())
    wanted = {"kafka": int(settings.kafka.rpartition(":")[2]), "postgres": database.port, "redis": redis.port}

    found: dict[str, Any] = {name: services()[name]["ports"] for name in wanted}

    assert found == {name: [f"127.0.0.1:{port}:{port}"] for name, port in wanted.items()}
    assert f"//{settings.kafka}" in services()["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert services()["postgres"]["environment"]["POSTGRES_DB"] == database.database
    assert database.username == "postgres"


def test_kafka_knows_every_setting_that_it_is_given(kafka_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    broker = ConfigResource(ResourceType.BROKER, str(next(iter(admin.list_topics(timeout=10).brokers))))
    known = admin.describe_configs([broker], request_timeout=10)[broker].result(15)
    given = {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in services()["kafka"]["environment"]}

    assert given <= set(known)
