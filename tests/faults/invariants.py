"""What must hold of a deployment whatever happened to its workers and services, seen from outside.

`collect` reads topics, SQL and Redis as any client may; `violations` judges what was read and says in words what is
wrong. It knows the contract and the load (tests/faults/load.py), nothing of how a worker is built. To be called when
the workers have stopped: what is read at different moments would differ otherwise.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import Row, text

from storage.progress import ProgressRow, all_progress
from tests.deployment import Deployment, NeverHappened

READ_SECONDS = 10.0
#: (partition, offset) in one input topic.
Place = tuple[int, int]
#: (alert_id, revision)
Revision = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LogRecord:
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class InputTopic:
    """One input topic's log, what SQL says became of it (place -> id of the message), and SQL's progress."""

    name: str
    log: Sequence[LogRecord]
    ends: Mapping[int, int]
    applied: Mapping[Place, str]
    duplicates: Mapping[Place, str]
    dead: Mapping[Place, bytes | None]
    progress: Mapping[int, ProgressRow]
    id_field: str
    is_good: Callable[[Mapping[str, Any], bytes | None], bool]


@dataclass(frozen=True, slots=True)
class Evidence:
    """predictions: place -> (event_id, flagged, alert_id). alerts: SQL's rows. stream and hashes: Redis, payloads as
    JSON values."""

    transactions: InputTopic
    feedback: InputTopic
    predictions: Mapping[Place, tuple[str, bool, str | None]]
    alerts: Mapping[Revision, Mapping[str, Any]]
    published_alerts: Sequence[LogRecord]
    published_dead_letters: Sequence[LogRecord]
    stream: Sequence[tuple[Revision, Any]]
    hashes: Mapping[str, tuple[int, Any]]


@dataclass(frozen=True, slots=True)
class Figures:
    """records: in both input topics. *_repeats: messages beyond the first of the same id in Kafka."""

    records: int
    applied: int
    duplicates: int
    dead_letters: int
    alert_revisions: int
    alert_repeats: int
    dead_letter_repeats: int


def check(deployment: Deployment) -> Figures:
    """Fails with all violations of a deployment whose workers have stopped; else its figures."""
    evidence = collect(deployment)
    found = violations(evidence)
    assert not found, "\n".join(found[:30])
    return figures(evidence)


def violations(evidence: Evidence) -> list[str]:
    """Every breach, in words; empty where all is well."""
    return [
        *_outcomes(evidence.transactions),
        *_outcomes(evidence.feedback),
        *_predictions(evidence),
        *_alerts_of_flagged_events(evidence),
        *_revisions_in_sql(evidence),
        *_alerts_in_kafka(evidence),
        *_alerts_in_redis(evidence),
        *_dead_letters_in_kafka(evidence),
    ]


def figures(evidence: Evidence) -> Figures:
    inputs = (evidence.transactions, evidence.feedback)
    dead = sum(len(topic.dead) for topic in inputs)
    return Figures(
        records=sum(len(topic.log) for topic in inputs),
        applied=sum(len(topic.applied) for topic in inputs),
        duplicates=sum(len(topic.duplicates) for topic in inputs),
        dead_letters=dead,
        alert_revisions=len(evidence.alerts),
        alert_repeats=len(evidence.published_alerts) - len(evidence.alerts),
        dead_letter_repeats=len(evidence.published_dead_letters) - dead,
    )


# Judging


def _outcomes(topic: InputTopic) -> Iterator[str]:
    """Every record has exactly the one outcome that it must have, and the counters agree with the rows."""
    expected = expected_outcomes(topic)
    stored: Mapping[str, Mapping[Place, Any]] = {
        "applied": topic.applied,
        "duplicate": topic.duplicates,
        "dead letter": topic.dead,
    }
    for place in sorted(expected.keys() | topic.applied.keys() | topic.duplicates.keys() | topic.dead.keys()):
        found = [name for name, places in stored.items() if place in places]
        wanted = [expected[place][0]] if place in expected else []
        if found != wanted:
            yield f"{topic.name} {place}: outcome {found or 'none'}, expected {wanted or 'none'}"
        elif (message := stored[found[0]][place]) != expected[place][1]:
            yield f"{topic.name} {place}: {found[0]} with {message!r}, the record says {expected[place][1]!r}"
    for partition, end in topic.ends.items():
        row = topic.progress.get(partition)
        if row is None or row.next_offset != end:
            yield f"{topic.name}/{partition}: SQL is at {row and row.next_offset}, the log ends at {end}"
            continue
        counts = [sum(place[0] == partition for place in places) for places in stored.values()]
        told = [row.applied, row.duplicates, row.dead_letters]
        gaps = end - row.start_offset - sum(record.partition == partition for record in topic.log)
        if [*told, row.gaps] != [*counts, gaps]:
            yield f"{topic.name}/{partition}: progress counts {told} and {row.gaps} gaps, there are {counts} and {gaps}"


def expected_outcomes(topic: InputTopic) -> dict[Place, tuple[str, Any]]:
    """place -> (outcome, what its row must hold): judged from the log alone."""
    expected: dict[Place, tuple[str, Any]] = {}
    seen: set[str] = set()
    for record in sorted(topic.log, key=lambda record: (record.partition, record.offset)):
        place = (record.partition, record.offset)
        fields = _object(record.value)
        if fields is None or not topic.is_good(fields, record.key):
            expected[place] = ("dead letter", record.value)
            continue
        name = fields[topic.id_field]
        expected[place] = ("duplicate" if name in seen else "applied", name)
        seen.add(name)
    return expected


def _predictions(evidence: Evidence) -> Iterator[str]:
    applied = evidence.transactions.applied
    for place in sorted(applied.keys() ^ evidence.predictions.keys()):
        yield f"{place}: " + ("a prediction without its transaction" if place not in applied else "no prediction")
    for place in applied.keys() & evidence.predictions.keys():
        if evidence.predictions[place][0] != applied[place]:
            yield f"{place}: the prediction is about another event"


def _alerts_of_flagged_events(evidence: Evidence) -> Iterator[str]:
    """Each flagged event is in exactly one alert, the one that its prediction names; no other event is in any."""
    named = {event_id: alert_id for event_id, flagged, alert_id in evidence.predictions.values() if flagged}
    holding: dict[str, list[str]] = defaultdict(list)
    for alert_id, row in _latest(evidence.alerts).items():
        for event_id in row["event_ids"]:
            holding[event_id].append(alert_id)
    for event_id in named.keys() | holding.keys():
        if holding.get(event_id, []) != [named.get(event_id)]:
            yield f"event {event_id}: in alerts {holding.get(event_id)}, its prediction names {named.get(event_id)}"


def _revisions_in_sql(evidence: Evidence) -> Iterator[str]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for alert_id, revision in evidence.alerts:
        numbers[alert_id].append(revision)
    for alert_id, found in numbers.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield f"alert {alert_id}: revisions {sorted(found)} in SQL"


def _alerts_in_kafka(evidence: Evidence) -> Iterator[str]:
    """By id the same set as SQL's, with SQL's content; a repeat equals its first; firsts come in order."""
    first: dict[Revision, bytes | None] = {}
    newest: dict[str, int] = {}
    for record in evidence.published_alerts:
        message = json.loads(record.value or b"null")
        key = (message["alert_id"], message["revision"])
        if key in first:
            if first[key] != record.value:
                yield f"alert {key}: repeated in Kafka with another content"
            continue
        first[key] = record.value
        if key[1] != newest.get(key[0], 0) + 1:
            yield f"alert {key}: in Kafka behind revision {newest.get(key[0], 0)}"
        newest[key[0]] = key[1]
        if record.key != message["account_id"].encode():
            yield f"alert {key}: its key in Kafka is {record.key!r}"
        if key in evidence.alerts and (wrong := _differences(message, evidence.alerts[key])):
            yield f"alert {key}: Kafka and SQL differ in {wrong}"
    yield from _set_differences("Kafka", first.keys(), evidence.alerts.keys())


def _alerts_in_redis(evidence: Evidence) -> Iterator[str]:
    """Each revision once in the stream, the latest in the hash, both with the content that SQL has."""
    counts = Counter(key for key, _ in evidence.stream)
    yield from (f"alert {key}: {count} times in the Redis stream" for key, count in counts.items() if count > 1)
    yield from _set_differences("the Redis stream", counts.keys(), evidence.alerts.keys())
    for key, payload in evidence.stream:
        if key in evidence.alerts and (wrong := _differences(payload, evidence.alerts[key])):
            yield f"alert {key}: the Redis stream and SQL differ in {wrong}"
    for alert_id, row in _latest(evidence.alerts).items():
        revision, payload = evidence.hashes.get(alert_id, (0, None))
        if revision != row["revision"]:
            yield f"alert {alert_id}: the Redis hash has revision {revision}, SQL {row['revision']}"
        elif wrong := _differences(payload, row):
            yield f"alert {alert_id}: the Redis hash and SQL differ in {wrong}"
    for alert_id in evidence.hashes.keys() - {alert_id for alert_id, _ in evidence.alerts}:
        yield f"alert {alert_id}: a Redis hash of an alert that SQL does not have"


def _dead_letters_in_kafka(evidence: Evidence) -> Iterator[str]:
    stored = {
        (topic.name, *place): payload
        for topic in (evidence.transactions, evidence.feedback)
        for place, payload in topic.dead.items()
    }
    published: dict[tuple[str, int, int], bytes | None] = {}
    for record in evidence.published_dead_letters:
        source = [record.headers[f"source_{name}"].decode() for name in ("topic", "partition", "offset")]
        place = (source[0], int(source[1]), int(source[2]))
        if published.setdefault(place, record.value) != record.value:
            yield f"dead letter {place}: repeated in Kafka with another content"
        if place in stored and stored[place] != record.value:
            yield f"dead letter {place}: Kafka and SQL hold different bytes"
    yield from (f"dead letter {place}: not in Kafka" for place in stored.keys() - published.keys())
    yield from (f"dead letter {place}: in Kafka, not in SQL" for place in published.keys() - stored.keys())


def _set_differences(where: str, found: Iterable[Revision], stored: Iterable[Revision]) -> Iterator[str]:
    yield from (f"alert {key}: in SQL, not in {where}" for key in set(stored) - set(found))
    yield from (f"alert {key}: in {where}, not in SQL" for key in set(found) - set(stored))


def _latest(alerts: Mapping[Revision, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """alert_id -> its row with the highest revision."""
    return {alert_id: alerts[alert_id, revision] for alert_id, revision in sorted(alerts)}


def _differences(message: Any, row: Mapping[str, Any]) -> list[str]:
    """The fields in which a published alert is not what SQL's row says; times are not compared."""
    if not isinstance(message, dict):
        return ["everything"]
    names = row.keys() - {"timeline"}
    events = [[entry["event_id"] for entry in side["timeline"]] for side in (message, row)]
    different = [name for name in names if message.get(name) != row[name]]
    return sorted(different + (["timeline"] if events[0] != events[1] else []))


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        fields = json.loads(value or b"")
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


# Reading


def collect(deployment: Deployment) -> Evidence:
    predictions = _sql(
        deployment, "SELECT source_partition, source_offset, event_id, flagged, alert_id FROM predictions"
    )
    names = "alert_id, revision, status, event_ids, account_id, score, score_kind, threshold, severity, model"
    alerts = _sql(deployment, f"SELECT {names}, reasons, timeline FROM alerts")
    with deployment.redis() as client:
        stream = client.xrange(f"{deployment.prefix}alerts")
        hashes = {key: client.hgetall(key) for key in client.scan_iter(f"{deployment.prefix}alert:*")}
    return Evidence(
        transactions=_input_topic(deployment, deployment.transactions, "transactions", "event_id", _is_transaction),
        feedback=_input_topic(deployment, deployment.feedback, "feedback", "feedback_id", _is_label),
        predictions={(row[0], row[1]): (row[2], row[3], row[4]) for row in predictions},
        alerts={(row.alert_id, row.revision): row._mapping for row in alerts},
        published_alerts=read_log(deployment.kafka, f"{deployment.prefix}alerts")[0],
        published_dead_letters=read_log(deployment.kafka, f"{deployment.prefix}dead-letters")[0],
        stream=[
            ((fields[b"alert_id"].decode(), int(fields[b"revision"])), json.loads(fields[b"payload"]))
            for _, fields in stream
        ],
        hashes={
            fields[b"alert_id"].decode(): (int(fields[b"revision"]), json.loads(fields[b"payload"]))
            for fields in hashes.values()
        },
    )


def _sql(deployment: Deployment, statement: str, **values: Any) -> Sequence[Row[Any]]:
    """Outside any transaction: decoding thousands of alerts may take longer than a transaction may idle."""
    with deployment.database.engine.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        return plain.execute(text(statement), values).all()


def _input_topic(
    deployment: Deployment,
    name: str,
    table: str,
    id_field: str,
    is_good: Callable[[Mapping[str, Any], bytes | None], bool],
) -> InputTopic:
    with deployment.database.reading() as connection:
        progress = [row for row in all_progress(connection) if row.topic == name]
    generation = progress[0].topic_generation if progress else 0
    log, ends = read_log(deployment.kafka, name)

    def rows(source: str, column: str) -> dict[Place, Any]:
        statement = (
            f"SELECT source_partition, source_offset, {column} FROM {source} WHERE topic_generation = :generation"
        )
        found = _sql(deployment, statement, generation=generation)
        places = {(row[0], row[1]): row[2] for row in found}
        assert len(places) == len(found), f"{source} holds a place of {name} twice"
        return places

    return InputTopic(
        name=name,
        log=log,
        ends=ends,
        applied=rows(table, id_field),
        duplicates=rows("duplicates", "event_id"),
        dead=rows("dead_letters", "payload"),
        progress={row.partition: row for row in progress},
        id_field=id_field,
        is_good=is_good,
    )


def _is_transaction(fields: Mapping[str, Any], key: bytes | None) -> bool:
    return key == str(fields["account_id"]).encode() and fields["amount"] >= 0


def _is_label(fields: Mapping[str, Any], key: bytes | None) -> bool:
    return key is not None and fields["label"] in ("fraud", "legitimate")


def read_log(servers: str, topic: str) -> tuple[list[LogRecord], dict[int, int]]:
    """All records that the topic holds at this moment, and where each partition ends."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "invariants", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
        bounds = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=READ_SECONDS)
            for number in partitions
        }
        consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in bounds.items()])
        missing = sum(high - low for low, high in bounds.values())
        records: list[LogRecord] = []
        while len(records) < missing:
            batch = consumer.consume(num_messages=missing - len(records), timeout=READ_SECONDS)
            if not batch:
                raise NeverHappened(f"{topic}: {missing - len(records)} records did not come")
            for message in batch:
                assert message.error() is None, message.error()
                headers = dict(message.headers() or [])
                records.append(
                    LogRecord(message.partition(), message.offset(), message.key(), message.value(), headers)
                )
        return records, {number: high for number, (_, high) in bounds.items()}
    finally:
        consumer.close()
