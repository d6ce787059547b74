"""Whether every input record has exactly the one outcome that it must have, judged from the log and SQL's rows.

Pure: windows in (evidence.py), violations out. What was seen in earlier windows is kept in `Outcomes`.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ops.bench.faults.evidence import InputWindow, Place, Window
from ops.bench.faults.topic_log import LogRecord
from storage.progress import ProgressRow

#: lost: something that should be there is not; doubled: something is there twice, or that should not be; state:
#: everything else that is wrong: numbers, contents, order.
Kind = Literal["lost", "doubled", "state"]
Good = Callable[[Mapping[str, Any], LogRecord], bool]


@dataclass(frozen=True, slots=True)
class Violation:
    """A breach, in words."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def _is_transaction(fields: Mapping[str, Any], record: LogRecord) -> bool:
    return record.key == str(fields["account_id"]).encode() and fields["amount"] >= 0


def _is_engagement(fields: Mapping[str, Any], record: LogRecord) -> bool:
    return record.key == str(fields.get("user_id")).encode() and fields["action"] != "stare"


def _is_label(fields: Mapping[str, Any], record: LogRecord) -> bool:
    return record.key is not None and fields["label"] in ("fraud", "legitimate")


#: Input topic -> the field with a record's id, and whether a record that is a JSON object is good.
RULES: Mapping[str, tuple[str, Good]] = {
    "transactions": ("event_id", _is_transaction),
    "engagements": ("event_id", _is_engagement),
    "feedback": ("feedback_id", _is_label),
}


@dataclass(slots=True)
class Outcomes:
    """Judges one window after the other, each once."""

    _seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _progress: dict[tuple[str, int], ProgressRow] = field(default_factory=dict)
    _items: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _accounts: dict[str, tuple[Place, Any]] = field(default_factory=dict)

    def violations(self, window: Window) -> Iterator[Violation]:
        for name in RULES:
            yield from self._records(window.inputs[name])
        for topic in window.inputs.values():
            yield from self._counters(topic)
        yield from self._predictions(window)
        yield from self._order(window)
        yield from self._catalogue(window)

    def _records(self, topic: InputWindow) -> Iterator[Violation]:
        expected = self.expected(topic)
        stored: Mapping[str, Mapping[Place, Any]] = {
            "applied": topic.applied,
            "duplicate": topic.duplicates,
            "dead letter": topic.dead,
        }
        yield from (Violation("doubled", f"{table} holds a place of {topic.name} twice") for table in topic.doubled)
        for place in sorted(expected.keys() | topic.applied.keys() | topic.duplicates.keys() | topic.dead.keys()):
            found = [name for name, places in stored.items() if place in places]
            wanted = [expected[place][0]] if place in expected else []
            if found != wanted:
                text = f"{topic.name} {place}: outcome {found or 'none'}, expected {wanted or 'none'}"
                yield Violation(_kind(found, wanted), text)
            elif (message := stored[found[0]][place]) != expected[place][1]:
                text = f"{topic.name} {place}: {found[0]} with {message!r}, the record says {expected[place][1]!r}"
                yield Violation("state", text)

    def expected(self, topic: InputWindow) -> dict[Place, tuple[str, Any]]:
        """place -> (outcome, what its row must hold): judged from the log alone."""
        id_field, is_good = RULES[topic.name]
        seen, expected = self._seen[topic.name], {}
        for record in sorted(topic.log, key=lambda record: (record.partition, record.offset)):
            place = (record.partition, record.offset)
            fields = _object(record.value)
            if fields is None or not is_good(fields, record):
                expected[place] = ("dead letter", record.value)
                continue
            name = fields[id_field]
            expected[place] = ("duplicate" if name in seen else "applied", name)
            seen.add(name)
        return expected

    def _counters(self, topic: InputWindow) -> Iterator[Violation]:
        """SQL has passed the whole log, and its counters moved by as much as there are rows."""
        for partition, end in topic.ends.items():
            row, before = topic.progress.get(partition), self._progress.get((topic.name, partition))
            if row is None or row.next_offset != end:
                kind: Kind = "lost" if row is None or row.next_offset < end else "state"
                yield Violation(
                    kind, f"{topic.name}/{partition}: SQL is at {row and row.next_offset}, the log ends at {end}"
                )
                continue
            self._progress[topic.name, partition] = row
            told = [getattr(row, name) - (getattr(before, name) if before else 0) for name in COUNTERS]
            counts = self._counted(topic, partition, end - (before.next_offset if before else row.start_offset))
            if told != counts:
                yield Violation("state", f"{topic.name}/{partition}: progress counts {told}, there are {counts}")
            if before and row.epoch < before.epoch:
                yield Violation("state", f"{topic.name}/{partition}: epoch {row.epoch} after {before.epoch}")

    def _counted(self, topic: InputWindow, partition: int, passed: int) -> list[int]:
        """As COUNTERS. Of items only the latest of each has a row, so what is no dead letter counts as applied."""
        records = sum(record.partition == partition for record in topic.log)
        applied, duplicates, dead = (
            sum(place[0] == partition for place in places) for places in (topic.applied, topic.duplicates, topic.dead)
        )
        if topic.name not in RULES:
            applied = records - duplicates - dead
        return [applied, duplicates, dead, passed - records]

    def _predictions(self, window: Window) -> Iterator[Violation]:
        applied = window.inputs["transactions"].applied
        for place in sorted(applied.keys() - window.predictions.keys()):
            yield Violation("lost", f"{place}: no prediction")
        for place in sorted(window.predictions.keys() - applied.keys()):
            yield Violation("doubled", f"{place}: a prediction without its transaction")
        for place in applied.keys() & window.predictions.keys():
            if window.predictions[place].event_id != applied[place]:
                yield Violation("state", f"{place}: the prediction is about another event")

    def _order(self, window: Window) -> Iterator[Violation]:
        """An account's events were scored in the order of the log."""
        for place in sorted(window.predictions):
            row = window.predictions[place]
            before = self._accounts.get(row.account_id)
            if before is not None and (before[0][0] != place[0] or before[1] > row.scored_at):
                yield Violation("state", f"account {row.account_id}: {place} was scored before {before[0]}")
            self._accounts[row.account_id] = (place, row.scored_at)

    def _catalogue(self, window: Window) -> Iterator[Violation]:
        """SQL's items are the log's latest."""
        for record in sorted(window.inputs["items"].log, key=lambda record: record.offset):
            latest = _object(record.value)
            if latest is not None:
                self._items[latest["item_id"]] = latest
        for item_id, fields in self._items.items():
            row = window.items.get(item_id)
            if row is None:
                yield Violation("lost", f"item {item_id} is not in SQL")
            elif any(getattr(row, name) != value for name, value in fields.items()):
                yield Violation("state", f"item {item_id}: SQL has not its latest record")


COUNTERS = ("applied", "duplicates", "dead_letters", "gaps")


def _kind(found: list[str], wanted: list[str]) -> Kind:
    if not found:
        return "lost"
    more = len(found) > len(wanted) or (found == ["applied"] and wanted == ["duplicate"])
    return "doubled" if more else "lost"


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        fields = json.loads(value or b"")
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None
