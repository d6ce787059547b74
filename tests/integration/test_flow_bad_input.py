"""Bad records through a whole worker: each is one dead letter, in SQL and in Kafka, and harms nothing beside it."""

import json
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pytest

from streams.rows import KEPT_BYTES
from tests.deployment import Deployment, wait_until
from tests.fraud_model import transaction

pytestmark = pytest.mark.timeout(150)

RECORD_SIZE_LIMIT = 1_000_000
HOUR = 3_600_000
KEY = b"a1"

Message = tuple[bytes | None, bytes | None]
#: Of each case: the record's key and value, and the reason that it must be given.
Cases = Mapping[str, tuple[bytes | None, bytes | None, str]]


def encoded(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def bad_transactions(now: int) -> Cases:
    def changed(**fields: Any) -> bytes:
        return encoded(json.loads(transaction("bad", "a1", now, 12.5)[1]) | fields)

    def without(name: str) -> bytes:
        return encoded({field: value for field, value in json.loads(changed()).items() if field != name})

    return {
        "bytes that are no text": (KEY, b"\xff\xfe\x00", "invalid_json"),
        "invalid UTF-8 in a text": (KEY, changed(memo="?!").replace(b"?!", b"\xc3\x28"), "invalid_utf8"),
        "invalid JSON": (KEY, b'{"event_id": "bad",', "invalid_json"),
        "an empty value": (KEY, b"", "invalid_json"),
        "a null value": (KEY, None, "null_value"),
        "not an object": (KEY, b'["event_id", "bad"]', "invalid_field"),
        "a missing field": (KEY, without("merchant_id"), "invalid_field"),
        "a number for a text": (KEY, changed(event_id=7), "invalid_field"),
        "a text for a number": (KEY, changed(amount="12.5"), "invalid_field"),
        "a time without a zone": (KEY, changed(occurred_at="2026-03-14T12:00:00"), "invalid_field"),
        "an amount that is no number": (KEY, changed().replace(b"12.5", b"NaN"), "invalid_json"),
        "an infinite amount": (KEY, changed().replace(b"12.5", b"Infinity"), "invalid_json"),
        "an amount beyond all numbers": (KEY, changed().replace(b"12.5", b"1e999"), "invalid_field"),
        "a negative amount": (KEY, changed(amount=-0.01), "invalid_field"),
        "a time beyond 64 bits": (KEY, changed(occurred_at=1).replace(b'at":1', b'at":' + b"9" * 30), "invalid_field"),
        "a time far in the future": (KEY, changed(occurred_at=now + HOUR), "in_the_future"),
        "another account's key": (b"a2", changed(), "wrong_key"),
        "no key": (None, changed(), "wrong_key"),
        "a NUL character": (KEY, changed(memo="nul \0"), "nul_character"),
        "a NUL character in an unknown field": (KEY, changed(odd={"a\0": 1}), "nul_character"),
        "a lone surrogate": (KEY, changed(memo="?!").replace(b"?!", b"\\ud800"), "invalid_json"),
        "deep nesting": (KEY, changed(odd=1).replace(b'odd":1', b'odd":' + b"[" * 50_000), "too_deep"),
        "more than the size limit": (KEY, changed(odd="x" * RECORD_SIZE_LIMIT), "too_large"),
    }


def bad_feedback(now: int) -> Cases:
    def changed(**fields: Any) -> bytes:
        label = {"feedback_id": "f", "given_at": now, "kind": "label", "event_id": "good-0", "label": "fraud"}
        return encoded(label | fields)

    return {
        "invalid JSON": (KEY, b"{", "invalid_json"),
        "a null value": (KEY, None, "null_value"),
        "an unknown kind": (KEY, changed(kind="guess"), "invalid_field"),
        "an unknown label": (KEY, changed(label="dubious"), "invalid_field"),
        "a label about nothing": (KEY, changed(event_id=None), "invalid_field"),
        "a reward without a value": (KEY, changed(kind="reward"), "invalid_field"),
        "a time far in the future": (KEY, changed(given_at=now + HOUR), "in_the_future"),
        "no key": (None, changed(), "wrong_key"),
        "a NUL character": (KEY, changed(source="\0"), "nul_character"),
        "more than the size limit": (KEY, changed(odd="x" * RECORD_SIZE_LIMIT), "too_large"),
    }


def with_good_ones(cases: Cases, good: Sequence[Message]) -> list[Message]:
    """A good record before each bad one, and one at the end."""
    mixed: list[Message] = []
    for message, (key, value, _) in zip(good, cases.values(), strict=False):
        mixed += [message, (key, value)]
    return [*mixed, good[len(cases)]]


def good_transactions(count: int, now: int) -> list[Message]:
    return [transaction(f"good-{number}", "a1", now, 12.5) for number in range(count)]


def good_feedback(count: int, now: int) -> list[Message]:
    label = {"given_at": now, "kind": "label", "event_id": "good-0", "label": "legitimate", "source": "analyst"}
    return [(KEY, encoded({"feedback_id": f"good-{number}"} | label)) for number in range(count)]


def send(deployment: Deployment, topic: str, messages: Sequence[Message]) -> None:
    """To one partition and in one request, so that a worker that starts later takes all of it as one batch."""
    producer = deployment.producer(**{"linger.ms": 200, "batch.size": 4_000_000})
    for key, value in messages:
        producer.produce(topic, key=key, value=value, partition=0)
    assert producer.flush(20) == 0


def dead_letters(deployment: Deployment, topic: str) -> dict[int, Any]:
    """By offset; all are of partition 0."""
    rows = deployment.sql("SELECT * FROM dead_letters WHERE topic = :topic", topic=topic)
    assert {row.source_partition for row in rows} <= {0}
    return {row.source_offset: row for row in rows}


def assert_each_is_one_dead_letter(deployment: Deployment, topic: str, cases: Cases) -> None:
    """In SQL with reason, place and bytes; in Kafka the same with headers."""
    stored = dead_letters(deployment, topic)
    assert sorted(stored) == [2 * number + 1 for number in range(len(cases))]
    published = {
        int(dict(record.headers)["source_offset"]): record
        for record in deployment.records("dead-letters")
        if dict(record.headers)["source_topic"] == topic.encode()
    }
    assert published.keys() == stored.keys()
    for number, (name, (key, value, code)) in enumerate(cases.items()):
        row, record = stored[2 * number + 1], published[2 * number + 1]
        kept = value[:KEPT_BYTES] if value and code == "too_large" else value
        assert (row.error_code, row.record_key, row.payload) == (code, key, kept), name
        assert row.payload_bytes == len(value or b""), name
        assert row.sha256 == (None if value is None else sha256(value).hexdigest()), name
        assert row.error_message, name
        assert row.replayed_at is None, name
        assert (record.key, record.value) == (key, kept), name
        headers = {header: text.decode() for header, text in record.headers}
        assert headers == {
            "source_topic": topic,
            "source_partition": "0",
            "source_offset": str(row.source_offset),
            "error_code": code,
            "error_message": row.error_message,
            "payload_bytes": str(row.payload_bytes),
            "sha256": row.sha256 or "",
        }, name


def test_each_bad_record_is_one_dead_letter_and_harms_nothing_beside_it(deployment: Deployment) -> None:
    now = round(time.time() * 1000)
    bad, bad_labels = bad_transactions(now), bad_feedback(now)
    send(deployment, deployment.transactions, with_good_ones(bad, good_transactions(len(bad) + 1, now)))
    send(deployment, deployment.feedback, with_good_ones(bad_labels, good_feedback(len(bad_labels) + 1, now)))
    worker = deployment.worker()
    deployment.wait_outcomes(2 * len(bad) + 1)
    deployment.wait_outcomes(2 * len(bad_labels) + 1, topic=deployment.feedback)
    deployment.wait_relayed()

    assert_each_is_one_dead_letter(deployment, deployment.transactions, bad)
    assert_each_is_one_dead_letter(deployment, deployment.feedback, bad_labels)
    scored = deployment.sql("SELECT event_id, scored_at FROM v_predictions")
    assert {row.event_id for row in scored} == {f"good-{number}" for number in range(len(bad) + 1)}
    assert len({row.scored_at for row in scored}) == 1, "they were one batch"
    labels = deployment.sql("SELECT feedback_id, status FROM feedback")
    assert {row.feedback_id for row in labels} == {f"good-{number}" for number in range(len(bad_labels) + 1)}
    assert deployment.faulty_partitions() == []
    assert worker.stop() == 0
    assert "Traceback" not in worker.output()


def test_dead_letters_are_listed_and_sent_again_until_their_cause_is_gone(deployment: Deployment) -> None:
    now = round(time.time() * 1000)
    cases = {
        name: case
        for name, case in bad_transactions(now).items()
        if name in ("invalid JSON", "a null value", "a time far in the future", "more than the size limit")
    }
    send(deployment, deployment.transactions, [(key, value) for key, value, _ in cases.values()])
    first = deployment.worker()
    deployment.wait_outcomes(4)
    assert first.stop() == 0

    shown = deployment.headgate("dlq", "list").stdout
    listed = json.loads(deployment.headgate("dlq", "list", "--json").stdout.splitlines()[-1])["dead_letters"]
    assert {(letter["source_offset"], letter["error_code"]) for letter in listed} == {
        (number, code) for number, (_, _, code) in enumerate(cases.values())
    }
    for letter in listed:
        assert f"{deployment.transactions}/0@{letter['source_offset']}" in shown
        assert letter["error_message"] in shown
    by_code = deployment.headgate("dlq", "list", "--json", "--code", "null_value").stdout.splitlines()[-1]
    assert [letter["error_code"] for letter in json.loads(by_code)["dead_letters"]] == ["null_value"]

    again = deployment.headgate("dlq", "replay")
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == "3 sent again, 1 kept only in part and left alone"
    replayed = deployment.sql("SELECT error_code FROM dead_letters WHERE replayed_at IS NOT NULL")
    assert sorted(row.error_code for row in replayed) == ["in_the_future", "invalid_json", "null_value"]
    assert "replayed 20" in deployment.headgate("dlq", "list").stdout

    # The clock's tolerance was the cause of one; the others are as bad as before.
    second = deployment.worker(FUTURE_TOLERANCE_SECONDS="7200")
    deployment.wait_outcomes(4 + 3)
    assert deployment.value("SELECT event_id FROM v_predictions") == "bad"
    fresh = deployment.sql("SELECT error_code FROM dead_letters WHERE replayed_at IS NULL")
    assert sorted(row.error_code for row in fresh) == ["invalid_json", "null_value", "too_large"]
    assert deployment.headgate("dlq", "replay", "--code", "too_large").stdout.startswith("0 sent again, 1 kept")
    wait_until("the worker is ready", second.ready)
    assert deployment.outcomes() == 7
    assert deployment.faulty_partitions() == []
