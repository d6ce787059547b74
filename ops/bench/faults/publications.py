"""Whether what was published is what SQL holds: alerts and slates in Kafka and Redis, dead letters in Kafka.

Pure: windows in (evidence.py), violations out. What was seen in earlier windows is kept in `Publications`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Row

from models.catalogue import item_key
from models.slates import conditionals, prefix_products
from ops.bench.faults.evidence import Place, Revision, Window
from ops.bench.faults.outcomes import Kind, Violation
from ops.bench.faults.topic_log import LogRecord

PROPENSITY_TOLERANCE = 1e-6


@dataclass(slots=True)
class Publications:
    """Judges one window after the other, each once. repeats: messages beyond the first of the same id in Kafka.
    latest: the newest revision of each alert; newest: of each user his newest slate's (made_at, place, id)."""

    repeats: Counter[str] = field(default_factory=Counter)
    latest: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    newest: dict[str, tuple[Any, Place, str]] = field(default_factory=dict)
    _first: dict[tuple[str, Any], bytes | None] = field(default_factory=dict)
    _revision: Counter[str] = field(default_factory=Counter)
    _alert_of: dict[str, str] = field(default_factory=dict)
    _asked: dict[str, Place] = field(default_factory=dict)
    _answered: dict[str, Place] = field(default_factory=dict)
    #: Partition -> its first slate's offset; before it there may have been no items.
    _began: dict[int, int] = field(default_factory=dict)

    def violations(self, window: Window, *, redis_forgot: bool) -> Iterator[Violation]:
        """redis_forgot: since the last window Redis lost everything and was rebuilt, which brings back of each alert
        the latest revision alone."""
        before = {alert_id: row["revision"] for alert_id, row in self.latest.items()}
        for alert_id, revision in sorted(window.alerts):
            self.latest[alert_id] = window.alerts[alert_id, revision]
        yield from self._revisions(window, before)
        yield from self._flagged(window)
        yield from self._alerts_in_kafka(window)
        yield from self._alerts_in_redis(window, redis_forgot)
        yield from self._dead_letters(window)
        yield from self._slates(window)
        yield from self._slates_in_kafka(window)
        yield from self.slates_in_redis(window.current)

    def _revisions(self, window: Window, before: Mapping[str, int]) -> Iterator[Violation]:
        """Without gaps, and in the order of their sequence."""
        known = Counter(before)
        for alert_id, revision in window.alerts:
            if revision != known[alert_id] + 1:
                yield Violation("state", f"alert {alert_id}: revision {revision} after {known[alert_id]} in SQL")
            known[alert_id] = revision

    def _flagged(self, window: Window) -> Iterator[Violation]:
        """Each flagged event is in exactly one alert, the one that its prediction names; no other event is in any."""
        named = {row.event_id: row.alert_id for row in window.predictions.values() if row.flagged}
        holding: dict[str, list[str]] = {}
        for (alert_id, _), row in window.alerts.items():
            for event_id in row["event_ids"]:
                holders = holding.setdefault(event_id, [])
                if alert_id not in holders:
                    holders.append(alert_id)
        for event_id in named.keys() | holding.keys():
            wanted = named.get(event_id, self._alert_of.get(event_id))
            if holding.get(event_id, []) != [wanted]:
                text = f"event {event_id}: in alerts {holding.get(event_id)}, its prediction names {wanted}"
                yield Violation("state" if event_id in holding else "lost", text)
        self._alert_of |= {event_id: alert_id for event_id, alert_id in named.items() if alert_id}

    def _alerts_in_kafka(self, window: Window) -> Iterator[Violation]:
        """By id the same set as SQL's, with SQL's content; a repeat equals its first; firsts come in order."""
        found: set[Revision] = set()
        for record, message in self._fresh("alert", window.published["alerts"], _revision_of):
            if isinstance(message, Violation):
                yield message
                continue
            key = _revision_of(message)
            found.add(key)
            if key[1] != self._revision[key[0]] + 1:
                yield Violation("state", f"alert {key}: in Kafka behind revision {self._revision[key[0]]}")
            self._revision[key[0]] = key[1]
            if record.key != message["account_id"].encode():
                yield Violation("state", f"alert {key}: its key in Kafka is {record.key!r}")
            if key in window.alerts and (wrong := differences(message, window.alerts[key])):
                yield Violation("state", f"alert {key}: Kafka and SQL differ in {wrong}")
        yield from _set_differences("alert", "Kafka", found, window.alerts)

    def _alerts_in_redis(self, window: Window, redis_forgot: bool) -> Iterator[Violation]:
        """Each revision once in the stream, the latest in the hash, both with the content that SQL has."""
        counts = Counter(key for key, _ in window.stream)
        for key, count in counts.items():
            if count > 1:
                yield Violation("doubled", f"alert {key}: {count} times in the Redis stream")
        if redis_forgot:
            wanted = {(alert_id, row["revision"]) for alert_id, row in self.latest.items()}
            missing = wanted - counts.keys() if window.stream or wanted else set()
            yield from (Violation("lost", f"alert {key}: in SQL, not in the Redis stream") for key in missing)
        else:
            yield from _set_differences("alert", "the Redis stream", counts, window.alerts)
        for key, payload in window.stream:
            if key in window.alerts and (wrong := differences(payload, window.alerts[key])):
                yield Violation("state", f"alert {key}: the Redis stream and SQL differ in {wrong}")
        yield from self.alerts_in_hashes(window.hashes)

    def alerts_in_hashes(self, hashes: Mapping[str, tuple[int, Any] | None]) -> Iterator[Violation]:
        for alert_id, found in hashes.items():
            revision, payload = found or (0, None)
            row = self.latest.get(alert_id)
            if row is None:
                yield Violation("doubled", f"alert {alert_id}: a Redis hash of an alert that SQL does not have")
            elif revision != row["revision"]:
                text = f"alert {alert_id}: the Redis hash has revision {revision}, SQL {row['revision']}"
                yield Violation("lost" if found is None else "state", text)
            elif wrong := differences(payload, row):
                yield Violation("state", f"alert {alert_id}: the Redis hash and SQL differ in {wrong}")

    def slates_in_redis(self, current: Mapping[str, Any | None]) -> Iterator[Violation]:
        """Each user's slate is his newest in SQL."""
        for user_id, message in current.items():
            wanted = self.newest[user_id][-1] if user_id in self.newest else None
            found = message and message["recommendation_id"]
            if found != wanted:
                kind: Kind = "lost" if found is None else "state"
                yield Violation(kind, f"user {user_id}: slate {found} in Redis, {wanted} in SQL")

    def _dead_letters(self, window: Window) -> Iterator[Violation]:
        stored = {
            (name, *place): payload for name, topic in window.inputs.items() for place, payload in topic.dead.items()
        }
        found: set[tuple[str, int, int]] = set()
        for record in window.published["dead-letters"]:
            place = _source(record, window)
            found.add(place)
            if self._is_repeat("dead letter", place, record):
                if self._first["dead letter", place] != record.value:
                    yield Violation("doubled", f"dead letter {place}: repeated in Kafka with another content")
            elif place not in stored:
                yield Violation("doubled", f"dead letter {place}: in Kafka, not in SQL")
            elif stored[place] != record.value:
                yield Violation("state", f"dead letter {place}: Kafka and SQL hold different bytes")
        yield from (Violation("lost", f"dead letter {place}: not in Kafka") for place in stored.keys() - found)

    def _slates(self, window: Window) -> Iterator[Violation]:
        """Each slate answers the engagement in whose place it lies, is complete, and adds up; every user's latest
        engagement that asks for one is answered."""
        applied = window.inputs["engagements"].applied
        for place, row in sorted(window.slates.items()):
            yield from _wrong_with(place, row, applied.get(place))
            made = (row.made_at, place, row.recommendation_id)
            self.newest[row.user_id] = max(made, self.newest.get(row.user_id, made))
            self._answered[row.user_id] = max(place, self._answered.get(row.user_id, place))
            self._began.setdefault(*place)
        yield from self._unanswered(window)

    def _unanswered(self, window: Window) -> Iterator[Violation]:
        for record in window.inputs["engagements"].log:
            place = (record.partition, record.offset)
            if place in window.inputs["engagements"].applied:
                fields = json.loads(record.value or b"")
                if fields["action"] != "impression":
                    self._asked[fields["user_id"]] = place
        for user_id, place in self._asked.items():
            begun = place[0] in self._began and self._began[place[0]] <= place[1]
            if begun and self._answered.get(user_id, (-1, -1)) < place:
                yield Violation("lost", f"user {user_id}: engagement {place} asks for a slate and got none")

    def _slates_in_kafka(self, window: Window) -> Iterator[Violation]:
        stored = {row.recommendation_id: row for row in window.slates.values()}
        found = set()
        for record, message in self._fresh("slate", window.published["recommendations"], _slate_of):
            if isinstance(message, Violation):
                yield message
                continue
            key = _slate_of(message)
            found.add(key)
            if key in stored and (wrong := _slate_differences(message, record, stored[key])):
                yield Violation("state", f"slate {key}: Kafka and SQL differ in {wrong}")
        yield from _set_differences("slate", "Kafka", found, stored)

    def _fresh(self, kind: str, records: Sequence[LogRecord], id_of: Any) -> Iterator[tuple[LogRecord, Any]]:
        """The records whose id comes for the first time, with their messages; for a repeat with another content, the
        violation."""
        for record in records:
            message = json.loads(record.value or b"null")
            key = id_of(message)
            if not self._is_repeat(kind, key, record):
                yield record, message
            elif self._first[kind, key] != record.value:
                yield record, Violation("doubled", f"{kind} {key}: repeated in Kafka with another content")

    def _is_repeat(self, kind: str, key: Any, record: LogRecord) -> bool:
        if (kind, key) in self._first:
            self.repeats[kind] += 1
            return True
        self._first[kind, key] = record.value
        return False


def differences(message: Any, row: Mapping[str, Any]) -> list[str]:
    """The fields in which a published alert is not what SQL's row says; times are not compared."""
    if not isinstance(message, dict):
        return ["everything"]
    names = row.keys() - {"timeline"}
    events = [[entry["event_id"] for entry in side["timeline"]] for side in (message, row)]
    different = [name for name in names if message.get(name) != row[name]]
    return sorted(different + (["timeline"] if events[0] != events[1] else []))


def _slate_differences(message: Mapping[str, Any], record: LogRecord, row: Row[Any]) -> list[str]:
    shown = [[item["position"], item["item_id"], item["propensity"], item["score"]] for item in message["items"]]
    stored = [[one[0], one[1], one[2], one[4]] for one in row.shown]
    wrong = [name for name in ("user_id", "policy", "cause") if message[name] != getattr(row, name)]
    wrong += ["items"] if shown != stored else []
    return wrong + (["key"] if record.key != row.user_id.encode() else [])


def _wrong_with(place: Place, row: Row[Any], cause: str | None) -> Iterator[Violation]:
    if row.cause != cause:
        yield Violation("state", f"slate at {place}: answers {row.cause}, there is {cause}")
    positions = [one[0] for one in row.shown]
    if not positions or positions != list(range(1, len(positions) + 1)):
        yield Violation("lost", f"slate at {place}: positions {positions}")
        return
    candidates, weights = np.frombuffer(row.candidates, "<i8").tolist(), np.frombuffer(row.log_weights, "<f4")
    keys = [item_key(one[1]) for one in row.shown]
    if len(set(keys)) != len(keys) or not set(keys) <= set(candidates):
        yield Violation("state", f"slate at {place}: items twice, or that were no candidates")
        return
    given = conditionals(weights[None], np.array([[candidates.index(key) for key in keys]], np.int16))
    told = np.array([[one[2:4] for one in row.shown]])
    right = np.stack([given, prefix_products(given)], axis=2)
    if not np.allclose(told, right, rtol=PROPENSITY_TOLERANCE):
        yield Violation("state", f"slate at {place}: its propensities are not those of its weights")


def _revision_of(message: Mapping[str, Any]) -> Revision:
    return message["alert_id"], message["revision"]


def _slate_of(message: Mapping[str, Any]) -> str:
    return str(message["recommendation_id"])


def _source(record: LogRecord, window: Window) -> tuple[str, int, int]:
    """Topic (without prefix), partition and offset that a dead letter names."""
    topic, partition, offset = (record.headers[f"source_{name}"].decode() for name in ("topic", "partition", "offset"))
    name = next((name for name in window.inputs if topic.endswith(name)), topic)
    return name, int(partition), int(offset)


def _set_differences(what: str, where: str, found: Iterable[Any], stored: Iterable[Any]) -> Iterator[Violation]:
    yield from (Violation("lost", f"{what} {key}: in SQL, not in {where}") for key in set(stored) - set(found))
    yield from (Violation("doubled", f"{what} {key}: in {where}, not in SQL") for key in set(found) - set(stored))
