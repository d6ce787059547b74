"""`headgate simulate shoppers` as its users run it: files, Kafka, live against the slates in Redis, and mistakes."""

import inspect
import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import redis

from ops import cli
from ops.commands_simulate import shoppers
from ops.service import ServiceUnavailable, free_port
from ops.simulate.shoppers.command import live_traffic, send_live
from ops.simulate.shoppers.kafka import ShopOutput
from ops.simulate.shoppers.options import ShopOptions
from ops.simulate.shoppers.slates import RedisSlates
from ops.simulate.shoppers.traffic import TrafficConfig
from streams.contract import Recommendation, RecommendedItem, encode
from streams.kafka import KafkaSettings
from tests.ops.simulate.test_command import headgate
from tests.ops.simulate.topics import Topics

SMALL = ("shoppers", "--users", "100", "--items", "60")
DAY = 86_400_000


def result(run: Any) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    expected = ["visits", "engagements", "items", "rewards", "policies", "seconds", "engagements_per_second"]
    assert list(found) == expected
    return found


def slate(user_id: str, policy: str, items: list[str]) -> Recommendation:
    shown = [RecommendedItem(item, place + 1, 0.5, 0.0) for place, item in enumerate(items)]
    return Recommendation(f"rec-{user_id}", user_id, datetime(2026, 1, 1, tzinfo=UTC), policy, shown[::-1], "cause")


@pytest.fixture
def slates_of_some(redis_url: str, topic_prefix: str) -> Iterator[str]:
    """Everybody but user 0 has a slate under this prefix."""
    prefix = f"{topic_prefix}redis:"
    with redis.Redis.from_url(redis_url) as client:
        for number in range(1, 100):
            user_id = f"user-{number:07d}"
            policy = "random" if number < 50 else "recommender:1"
            items = [f"item-{(number + place) % 60:06d}" for place in range(6)]
            client.set(f"{prefix}recs:{user_id}", encode(slate(user_id, policy, items)), ex=120)
        yield prefix
        client.delete(*client.scan_iter(f"{prefix}*"))


@pytest.mark.slow
def test_files_from_one_command_and_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "again"):
        files = ("--output", f"{name}.parquet", "--items-output", f"{name}.csv", "--days", "2", "--json")
        found = result(headgate(tmp_path, *SMALL, *files))

    assert found["items"] == 60
    assert found["visits"] == pytest.approx(600, abs=6 * np.sqrt(600))
    assert pyarrow.parquet.read_metadata(tmp_path / "first.parquet").num_rows == found["engagements"] > 1_000
    for suffix in ("parquet", "csv"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"again.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("shoppers", "say where to: --output FILE or --kafka"),
        ("shoppers --output x.csv --users 0", "users must be between 1 and"),
        ("--seed 3 shoppers --output x.csv", "options of `headgate simulate shoppers` come after the word shoppers"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["headgate", "simulate", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    printed = capsys.readouterr()
    assert ended.value.code == 1
    (line,) = printed.err.strip().splitlines()
    assert line.startswith(f"headgate: {message}")
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_commands_defaults_are_those_of_its_options() -> None:
    defaults = {name: each.default for name, each in inspect.signature(shoppers).parameters.items()}
    assert defaults.pop("as_json") is False
    assert ShopOptions(**defaults) == ShopOptions()


def test_a_history_goes_into_kafka_with_its_items(tmp_path: Path, kafka_servers: str, topic_prefix: str) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    began = time.time_ns() // 1_000_000
    run = headgate(
        tmp_path, *SMALL, "--kafka", "--days", "10", "--json", KAFKA=kafka_servers, TOPIC_PREFIX=topic_prefix
    )
    found = result(run)

    engagements, items = topics.engagements(), topics.items()
    assert [part.dead for part in (*engagements, *items)] == [[]] * 4
    assert sum(map(len, engagements)) == found["engagements"] > 5_000
    assert {item for part in items for item in part.item_id} == {f"item-{number:06d}" for number in range(60)}
    times = np.concatenate([part.occurred_at for part in engagements])
    assert began - 10 * DAY < times.min() < times.max() < began + 60_000
    assert set(engagements[0].user_id) & set(engagements[1].user_id) == set()
    assert {each for part in engagements for each in part.recommendation_id} == {None}


def test_live_shoppers_answer_the_slates_in_redis(
    tmp_path: Path, kafka_servers: str, topic_prefix: str, redis_url: str, slates_of_some: str
) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    run = headgate(
        *(tmp_path, *SMALL, "--kafka", "--rate", "200", "--for", "2", "--json"),
        KAFKA=kafka_servers,
        TOPIC_PREFIX=topic_prefix,
        REDIS=redis_url,
        REDIS_PREFIX=slates_of_some,
    )
    found = result(run)

    assert found["visits"] == pytest.approx(400, abs=6 * np.sqrt(400))
    assert set(found["policies"]) == {"random", "recommender:1"}
    engagements = topics.engagements()
    assert [part.dead for part in engagements] == [[], []]
    answers = [
        row
        for part in engagements
        for row in zip(part.recommendation_id, part.user_id, part.item_id, strict=True)
        if row[0] is not None
    ]
    assert len(answers) > 300
    for recommendation_id, user_id, item_id in answers:
        assert recommendation_id == f"rec-{user_id}"
        assert (int(item_id[5:]) - int(user_id[5:])) % 60 < 6


def test_slates_are_read_in_the_order_of_positions(redis_url: str, slates_of_some: str) -> None:
    reader = RedisSlates(redis_url, slates_of_some)
    first, second = reader(["user-0000000", "user-0000070"])
    reader.close()

    assert first is None
    assert second is not None
    assert (second.recommendation_id, second.policy) == ("rec-user-0000070", "recommender:1")
    assert list(second.item_ids) == [f"item-{number:06d}" for number in range(10, 16)]


def test_an_absent_redis_is_one_clear_error() -> None:
    with pytest.raises(ServiceUnavailable, match=r"no Redis answers, which has the slates \(--no-slates: none\)"):
        RedisSlates(f"redis://127.0.0.1:{free_port()}", "")


def test_live_shoppers_send_exactly_what_was_due_by_their_end(kafka_servers: str, topic_prefix: str) -> None:
    """However seldom the clock lets them."""
    topics = Topics.created(kafka_servers, topic_prefix)
    start = time.time_ns() // 1_000_000 - 60_000
    config = TrafficConfig(start=start, users=100, rate=20.0)
    looks = iter(np.arange(0.0, 100.0, 0.7) + start / 1000)
    seen: list[float] = []
    with ShopOutput(KafkaSettings(kafka_servers), topic_prefix=topic_prefix) as output:
        sent = send_live(
            live_traffic(config, 60, None),
            output,
            10.0,
            lambda stage, done: seen.append(done),
            clock=lambda: float(next(looks)),
            stopping=threading.Event(),
        )

    expected = live_traffic(config, 60, None).until(start + 10_000)
    assert sent.engagements == len(expected.engagements)
    found = [event for part in topics.engagements() for event in part.event_id]
    assert sorted(found) == expected.engagements.event_ids()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
