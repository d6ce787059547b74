"""What became of the log, read as any client may: from Kafka's topics, SQL and Redis.

`Reader` gives one `Window` after the other: what is new since the one before it. A reader of its own that begins at the
beginning sees everything. It reads and judges nothing; to be asked while nothing is on its way, since what is read at
different moments would differ otherwise.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Row, text

from ops.bench.faults.deployment import Deployment
from ops.bench.faults.topic_log import LogRecord, read_log
from ops.clock import utc_now
from storage.progress import ProgressRow, all_progress

#: (partition, offset) in one input topic.
Place = tuple[int, int]
#: (alert_id, revision)
Revision = tuple[str, int]
#: Input topic -> its table of applied records and the column with their id; items keep no row for each record.
INPUTS: Mapping[str, tuple[str, str] | None] = {
    "transactions": ("transactions", "event_id"),
    "engagements": ("engagements", "event_id"),
    "feedback": ("feedback", "feedback_id"),
    "items": None,
}
OUTPUTS = ("alerts", "recommendations", "dead-letters")
ALERT_COLUMNS = (
    "alert_id, revision, status, event_ids, account_id, score, score_kind, threshold, severity, model, reasons, "
    "timeline"
)


@dataclass(frozen=True, slots=True)
class InputWindow:
    """What is new in one input topic's log, what SQL says became of it (place -> id of the message, payload of a dead
    letter), and SQL's progress. ends: where each partition's log ends."""

    name: str
    log: Sequence[LogRecord]
    ends: Mapping[int, int]
    applied: Mapping[Place, str]
    duplicates: Mapping[Place, str]
    dead: Mapping[Place, bytes | None]
    doubled: Sequence[str]
    progress: Mapping[int, ProgressRow]


@dataclass(frozen=True, slots=True)
class Control:
    """From this offset on a partition used this value of something."""

    partition: int
    name: str
    from_offset: int
    value: str


@dataclass(frozen=True, slots=True)
class Window:
    """All that is new. predictions and slates: rows of SQL by place; controls: of all time, by input topic; stream:
    entries of the Redis stream, payloads as JSON values; hashes and current: what Redis holds of the alerts and of
    the users named in this window, None where it holds nothing."""

    inputs: Mapping[str, InputWindow]
    predictions: Mapping[Place, Row[Any]]
    slates: Mapping[Place, Row[Any]]
    alerts: Mapping[Revision, Mapping[str, Any]]
    items: Mapping[str, Row[Any]]
    controls: Mapping[str, Sequence[Control]]
    published: Mapping[str, Sequence[LogRecord]]
    stream: Sequence[tuple[Revision, Any]]
    hashes: Mapping[str, tuple[int, Any] | None]
    current: Mapping[str, Any | None]


@dataclass(slots=True)
class Reader:
    """Where the next window begins."""

    deployment: Deployment
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    sequences: dict[int, int] = field(default_factory=dict)
    stream_id: str = "-"
    days: list[date] = field(default_factory=list)

    def window(self) -> Window:
        today = utc_now().date()
        self.days = self.days or [today - timedelta(days=1)]
        while self.days[-1] <= today:
            self.days.append(self.days[-1] + timedelta(days=1))
        before = dict(self.positions)
        inputs = {name: self._input(name) for name in INPUTS}
        alerts = self._alerts(inputs["transactions"])
        slates = self._slates(inputs["engagements"], before)
        return Window(
            inputs=inputs,
            predictions=self._predictions(inputs["transactions"], before),
            slates=slates,
            alerts=alerts,
            items={row.item_id: row for row in self._sql("SELECT * FROM items WHERE NOT deleted")},
            controls={name: self._controls(inputs[name]) for name in ("transactions", "engagements")},
            published={name: self._log(name)[0] for name in OUTPUTS},
            stream=self._stream(),
            hashes=self.hashes({alert_id for alert_id, _ in alerts}),
            current=self.current_slates({row.user_id for row in slates.values()}),
        )

    def copy(self) -> "Reader":
        """For a window that may have to be read again."""
        return Reader(self.deployment, dict(self.positions), dict(self.sequences), self.stream_id, list(self.days))

    def further_alerts(self, window: Window) -> bool:
        """Whether alerts got revisions since the window was read."""
        return bool(Reader(self.deployment, sequences=dict(self.sequences))._alerts(window.inputs["transactions"]))

    def _input(self, name: str) -> InputWindow:
        topic = f"{self.deployment.prefix}{name}"
        with self.deployment.database.reading() as connection:
            progress = {row.partition: row for row in all_progress(connection) if row.topic == topic}
        before = dict(self.positions)
        log, ends = self._log(name)
        doubled: list[str] = []

        def places(table: str, column: str) -> dict[Place, Any]:
            found = self._rows(f"{column} AS found", table, topic, progress, before)
            by_place = {(row.source_partition, row.source_offset): row.found for row in found}
            if len(by_place) != len(found):
                doubled.append(table)
            return by_place

        kept = INPUTS[name]
        return InputWindow(
            name=name,
            log=log,
            ends=ends,
            applied=places(*kept) if kept else {},
            duplicates=places("duplicates", "event_id"),
            dead=places("dead_letters", "payload"),
            doubled=doubled,
            progress=progress,
        )

    def _rows(
        self,
        columns: str,
        table: str,
        topic: str,
        progress: Mapping[int, ProgressRow],
        before: Mapping[tuple[str, int], int],
    ) -> list[Row[Any]]:
        """Of the partitions' rows those from the window's beginning on."""
        name = topic.removeprefix(self.deployment.prefix)
        found: list[Row[Any]] = []
        for partition, row in progress.items():
            found += self._sql(
                f"SELECT source_partition, source_offset, {columns} FROM {table} WHERE day = ANY(:days) "
                "AND topic_generation = :generation AND source_partition = :partition AND source_offset >= :first",
                days=self.days,
                generation=row.topic_generation,
                partition=partition,
                first=before.get((name, partition), 0),
            )
        return found

    def _predictions(self, window: InputWindow, before: Mapping[tuple[str, int], int]) -> dict[Place, Row[Any]]:
        columns = "event_id, account_id, score, threshold, flagged, alert_id, model, scored_at"
        topic = f"{self.deployment.prefix}transactions"
        found = self._rows(columns, "predictions", topic, window.progress, before)
        return {(row.source_partition, row.source_offset): row for row in found}

    def _slates(self, window: InputWindow, before: Mapping[tuple[str, int], int]) -> dict[Place, Row[Any]]:
        """With `shown`: [position, item, propensity, prefix, score] of each item, by position."""
        shown = (
            "ARRAY(SELECT jsonb_build_array(position, item_id, propensity, prefix_propensity, score) "
            "FROM recommendation_items i WHERE i.day = r.day AND i.topic_generation = r.topic_generation "
            "AND i.source_partition = r.source_partition AND i.source_offset = r.source_offset "
            "AND i.recommendation_id = r.recommendation_id ORDER BY position) AS shown"
        )
        columns = f"recommendation_id, user_id, made_at, policy, cause, candidates, log_weights, {shown}"
        topic = f"{self.deployment.prefix}engagements"
        found = self._rows(columns, "recommendations r", topic, window.progress, before)
        return {(row.source_partition, row.source_offset): row for row in found}

    def _alerts(self, window: InputWindow) -> dict[Revision, Mapping[str, Any]]:
        found: dict[Revision, Mapping[str, Any]] = {}
        for partition, row in window.progress.items():
            first = self.sequences.get(partition, -1)
            rows = self._sql(
                f"SELECT sequence, {ALERT_COLUMNS} FROM alerts WHERE topic_generation = :generation "
                "AND source_partition = :partition AND sequence > :first ORDER BY sequence",
                generation=row.topic_generation,
                partition=partition,
                first=first,
            )
            self.sequences[partition] = max([first, *(one.sequence for one in rows)])
            for one in rows:
                fields = dict(one._mapping)
                del fields["sequence"]
                found[one.alert_id, one.revision] = fields
        return found

    def _controls(self, window: InputWindow) -> list[Control]:
        generations = {row.topic_generation for row in window.progress.values()}
        rows = self._sql(
            "SELECT partition, name, from_offset, value FROM stream_controls "
            "WHERE topic_generation = ANY(:generations) ORDER BY partition, from_offset",
            generations=list(generations),
        )
        return [Control(**row._mapping) for row in rows]

    def _sql(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        """Outside any transaction: decoding thousands of rows may take longer than a transaction may idle."""
        with self.deployment.database.engine.connect() as connection:
            plain = connection.execution_options(isolation_level="AUTOCOMMIT")
            return plain.execute(text(statement), values).all()

    def _log(self, name: str) -> tuple[list[LogRecord], dict[int, int]]:
        """The records from the window's beginning to the log's present end, and where each partition ends."""
        topic = f"{self.deployment.prefix}{name}"
        first = {partition: offset for (known, partition), offset in self.positions.items() if known == name}
        records, ends = read_log(self.deployment.kafka, topic, first)
        self.positions |= {(name, partition): end for partition, end in ends.items()}
        return records, ends

    def _stream(self) -> list[tuple[Revision, Any]]:
        with self.deployment.redis() as client:
            entries: Any = client.xrange(f"{self.deployment.prefix}alerts", min=self.stream_id)
        if entries:
            self.stream_id = f"({entries[-1][0].decode()}"
        return [
            ((fields[b"alert_id"].decode(), int(fields[b"revision"])), json.loads(fields[b"payload"]))
            for _, fields in entries
        ]

    def alerts_in_redis(self) -> set[str]:
        """The ids of all alerts that have a hash."""
        prefix = f"{self.deployment.prefix}alert:"
        with self.deployment.redis() as client:
            return {key.decode().removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=1000)}

    def hashes(self, alert_ids: set[str]) -> dict[str, tuple[int, Any] | None]:
        """alert_id -> what its Redis hash holds: revision and payload; None where there is none."""
        names = sorted(alert_ids)
        with self.deployment.redis() as client, client.pipeline(transaction=False) as pipeline:
            for alert_id in names:
                pipeline.hgetall(f"{self.deployment.prefix}alert:{alert_id}")
            found = pipeline.execute()
        return {
            alert_id: (int(fields[b"revision"]), json.loads(fields[b"payload"])) if fields else None
            for alert_id, fields in zip(names, found, strict=True)
        }

    def current_slates(self, user_ids: set[str]) -> dict[str, Any | None]:
        """User -> what Redis has as his current slate."""
        names = sorted(user_ids)
        if not names:
            return {}
        with self.deployment.redis() as client:
            found: Any = client.mget([f"{self.deployment.prefix}recs:{name}" for name in names])
        return {name: json.loads(value) if value else None for name, value in zip(names, found, strict=True)}
