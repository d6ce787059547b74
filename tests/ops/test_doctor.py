"""The doctor: what is in order is "ok", what is not comes with what to do, and nothing is left behind."""

from collections.abc import Iterable
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from ops.doctor import Check, check_database, check_folders, check_kafka, check_python, diagnose
from ops.embedded import start_tansu
from ops.service import free_port
from ops.settings import Settings
from storage.database import upgrade
from storage.database_roles import WRITER_ROLE
from storage.views import READER_ROLE
from streams.kafka import KafkaSettings, create_topics, topic_configurations
from tests.roles import roles_of


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def absent_everything(tmp_path: Path) -> Settings:
    """Settings whose services nobody runs."""
    port = free_port()
    return Settings(
        kafka=f"127.0.0.1:{port}",
        database=SecretStr(f"postgresql://user:secret-word@127.0.0.1:{port}/name"),
        redis=SecretStr(f"redis://:secret-word@127.0.0.1:{port}/0"),
        models=str(tmp_path / "models"),
    )


def test_all_is_well_on_services_that_are_set_up(
    kafka_servers: str, postgres_url: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka_servers,
        database=SecretStr(postgres_url),
        redis=SecretStr(redis_url),
        topic_prefix=topic_prefix,
        models=str(tmp_path),
    )
    upgrade(postgres_url)
    topics = topic_configurations(topic_prefix, settings.record_size_limit)
    create_topics(KafkaSettings(kafka_servers), topics, partitions=2, replication=1)

    checks = by_name(diagnose(settings))

    # The tests' own PostgreSQL runs without fsync, which the doctor is right to mention.
    assert {name: check for name, check in checks.items() if check.status != "ok" and "fsync" not in check.found} == {}
    assert checks["kafka"].found.startswith("Kafka 4.")
    assert f"{topic_prefix}transactions 2" in checks["topics"].found
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
    present = AdminClient({"bootstrap.servers": kafka_servers}).list_topics(timeout=10).topics
    assert {name for name in present if name.startswith(topic_prefix)} == set(topics)
    assert list(tmp_path.iterdir()) == []


def test_empty_services_are_told_what_to_do(
    kafka_servers: str, postgres_url: str, absent_everything: Settings, topic_prefix: str
) -> None:
    settings = absent_everything.model_copy(
        update={"kafka": kafka_servers, "database": SecretStr(postgres_url), "topic_prefix": topic_prefix}
    )

    checks = by_name(diagnose(settings))

    assert (checks["topics"].status, checks["topics"].remedy) == ("fail", "Do: headgate topics create")
    assert f"{topic_prefix}transactions" in checks["topics"].found
    assert (checks["schema"].status, checks["schema"].remedy) == ("fail", "Do: headgate db upgrade")


def test_absent_services_are_named_with_their_setting_and_without_passwords(absent_everything: Settings) -> None:
    checks = by_name(diagnose(absent_everything))

    for name in ("kafka", "database", "redis"):
        assert checks[name].status == "fail"
        assert f"HEADGATE_{name.upper()}" in checks[name].remedy
    assert "secret-word" not in str(checks)


def test_a_topic_with_a_smaller_limit_is_reported(
    kafka_servers: str, absent_everything: Settings, topic_prefix: str
) -> None:
    small = {name: {"max.message.bytes": "5000"} for name in topic_configurations(topic_prefix, 0)}
    create_topics(KafkaSettings(kafka_servers), small, partitions=1, replication=1)
    settings = absent_everything.model_copy(update={"kafka": kafka_servers, "topic_prefix": topic_prefix})

    check = by_name(check_kafka(settings))["record size"]

    assert check.status == "warn"
    assert f"{topic_prefix}transactions 5000" in check.found
    assert "max.message.bytes=" in check.remedy


def test_a_catalogue_that_would_be_lost_to_age_is_reported(
    kafka_servers: str, topic_prefix: str, absent_everything: Settings
) -> None:
    settings = absent_everything.model_copy(update={"kafka": kafka_servers, "topic_prefix": topic_prefix})
    aging = {f"{topic_prefix}items": {"cleanup.policy": "delete"}}
    wanted = topic_configurations(topic_prefix, settings.record_size_limit)
    create_topics(KafkaSettings(kafka_servers), wanted | aging, partitions=1, replication=1)

    check = by_name(check_kafka(settings))["compaction"]

    assert (check.status, f"{topic_prefix}items delete" in check.found) == ("warn", True)
    assert f"{topic_prefix}model-updates" not in check.found


def test_a_user_who_may_not_write_gets_the_grant_that_helps(postgres_url: str, absent_everything: Settings) -> None:
    upgrade(postgres_url)
    role = make_url(postgres_url).database
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'word'")  # type: ignore[arg-type]
        connection.execute(f"GRANT SELECT ON alembic_version, transactions TO {role}")  # type: ignore[arg-type]
    limited = make_url(postgres_url).set(username=role, password="word").render_as_string(hide_password=False)

    check = by_name(check_database(absent_everything.model_copy(update={"database": SecretStr(limited)})))[
        "table rights"
    ]

    with psycopg.connect(url) as connection:
        connection.execute(f"DROP OWNED BY {role}")  # type: ignore[arg-type]
        connection.execute(f"DROP ROLE {role}")  # type: ignore[arg-type]
    assert check.status == "fail"
    assert "transactions" in check.found
    assert f"TO {role};" in check.remedy


def test_the_writers_role_is_all_that_is_needed_and_the_readers_is_too_little(
    postgres_url: str, absent_everything: Settings
) -> None:
    upgrade(postgres_url)
    with roles_of(postgres_url) as users:
        found = {
            role: by_name(check_database(absent_everything.model_copy(update={"database": SecretStr(url)})))
            for role, url in users.items()
        }
    assert found[WRITER_ROLE]["table rights"].status == "ok"
    assert found[WRITER_ROLE]["schema"].status == "ok"
    refused = found[READER_ROLE]["database"]
    assert refused.status == "fail"
    assert "permission denied" in refused.found
    assert "headgate db roles" in refused.remedy


def test_the_embedded_broker_is_recognised_and_gets_no_topic(tmp_path: Path, absent_everything: Settings) -> None:
    with start_tansu(tmp_path / "tansu") as broker:
        checks = by_name(check_kafka(absent_everything.model_copy(update={"kafka": broker.url})))
        topics = AdminClient({"bootstrap.servers": broker.url}).list_topics(timeout=10).topics

    assert checks["kafka"].status == "warn"
    assert "Tansu" in checks["kafka"].found
    assert topics == {}


def test_a_new_sqlite_file_is_a_hint_and_an_upgraded_one_is_fine(tmp_path: Path, absent_everything: Settings) -> None:
    url = f"sqlite:///{tmp_path / 'headgate.sqlite'}"
    settings = absent_everything.model_copy(update={"database": SecretStr(url)})

    before = by_name(check_database(settings))
    assert (before["database"].status, before["database"].remedy) == ("warn", "Do: headgate db upgrade")
    assert not (tmp_path / "headgate.sqlite").exists()

    upgrade(url)
    after = by_name(check_database(settings))
    assert (after["database"].status, after["schema"].status, after["table rights"].status) == ("ok", "ok", "ok")


def test_a_device_that_is_not_there_is_a_failure(absent_everything: Settings) -> None:
    check = by_name(check_python(absent_everything.model_copy(update={"device": "cuda:99"})))["device"]

    assert check.status == "fail"
    assert "HEADGATE_DEVICE" in check.remedy


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    models, state = check_folders(Settings(models=str(tmp_path / "file"), state=str(tmp_path / "file" / "state")))

    assert models.status == "fail"
    assert "HEADGATE_MODELS" in models.remedy
    assert state.status == "warn"  # the service works without snapshots
    assert "HEADGATE_STATE" in state.remedy
