"""One person's rows out of SQL, in the caller's transaction, and the partitions that knew him under a new epoch.

A worker that holds such a partition finds its epoch gone: nothing that it prepared with what it remembers can be
committed any more, and it begins with what SQL and the snapshots hold by then (streams/partition_watch.py). So memory
forgets without anybody being told a name. Knows no pseudonyms: it is given all names under which a person is stored.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    and_,
    delete,
    false,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
)

from storage.tables import (
    Alert,
    Base,
    ColdState,
    DeadLetter,
    Duplicate,
    Engagement,
    Feedback,
    Prediction,
    Recommendation,
    RecommendationItem,
    ShadowPrediction,
    StreamProgress,
    Transaction,
    UtcTimestamp,
)

#: What `owner` of a progress row says after this command, until a worker claims the partition.
ERASE = "headgate erase"
#: How long the transaction may wait between two statements, while snapshots are written anew.
LONGEST_PAUSE = "10min"

#: Topic generation and partition.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is to be forgotten: an account or a user. names: all that he is stored under, never shown. stream,
    feedback: the topic generations of his events and of feedback."""

    kind: Literal["account", "user"]
    names: Sequence[str] = field(repr=False)
    stream: Sequence[int]
    feedback: Sequence[int]


@dataclass(frozen=True, slots=True)
class Fenced:
    """A partition under a new epoch."""

    topic: str
    topic_generation: int
    partition: int
    epoch: int
    next_offset: int

    @property
    def place(self) -> Place:
        return self.topic_generation, self.partition


def generations(connection: Connection, topic: str) -> list[int]:
    """Of a topic as it is, and of those before it under the same name."""
    found = select(StreamProgress.topic_generation).where(StreamProgress.topic == topic).distinct()
    return sorted(connection.execute(found).scalars())


def remove_rows(
    connection: Connection, subject: Subject, beyond: Mapping[Place, int] | None = None
) -> tuple[dict[str, int], set[Place]]:
    """How many rows went from each table, and the partitions whose state is made of some of them. beyond: only of
    events from these offsets of their partitions on, which came in while the others were looked for."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_PAUSE}'"))
    removed: dict[str, int] = {}
    places: set[Place] = set()
    for table, condition in _conditions(subject):
        if beyond is not None:
            condition = and_(condition, _came_in(table, beyond))
        place = table.topic_generation, table.source_partition
        rows = connection.execute(delete(table).where(condition).returning(*place)).all()
        removed[table.__tablename__] = len(rows)
        places |= {(row[0], row[1]) for row in rows if row[0] in subject.stream}
    return removed, places


def remove_dead_letters(connection: Connection, names: Iterable[str]) -> int:
    """Those that hold or quote a name as a word of its own."""
    removed = 0
    for name in names:
        for place in list(_mentions(connection, name)):
            key = tuple_(DeadLetter.topic_generation, DeadLetter.source_partition, DeadLetter.source_offset)
            removed += connection.execute(delete(DeadLetter).where(key == place)).rowcount
    return removed


def fence(connection: Connection, places: Iterable[Place], now: datetime) -> list[Fenced]:
    """A new epoch for each partition, which its owner has lost from the commit on."""
    found = []
    for generation, partition in sorted(places):  # in one order everywhere, as storage/progress.py has it
        row = connection.execute(
            text(
                "UPDATE stream_progress SET epoch = epoch + 1, owner = :owner, backend_pid = NULL, updated_at = :now "
                "WHERE topic_generation = :generation AND partition = :partition "
                "RETURNING topic, epoch, next_offset"
            ),
            {
                "owner": ERASE,
                "generation": generation,
                "partition": partition,
                "now": UtcTimestamp().process_bind_param(now, connection.dialect),
            },
        ).one_or_none()
        if row is not None:
            found.append(Fenced(row.topic, generation, partition, row.epoch, row.next_offset))
    return found


def positions(connection: Connection, generations: Sequence[int]) -> dict[Place, int]:
    """Where SQL has each partition of these."""
    progress = StreamProgress
    found = select(progress.topic_generation, progress.partition, progress.next_offset)
    rows = connection.execute(found.where(progress.topic_generation.in_(generations))).all()
    return {(row[0], row[1]): row[2] for row in rows}


def unclaimed(connection: Connection, fenced: Sequence[Fenced]) -> list[Fenced]:
    """Those that nobody claimed since."""
    rows = connection.execute(
        select(StreamProgress.topic_generation, StreamProgress.partition, StreamProgress.epoch)
    ).all()
    epochs = {(row[0], row[1]): row[2] for row in rows}
    return [one for one in fenced if epochs.get(one.place) == one.epoch]


def _conditions(subject: Subject) -> Iterator[tuple[Any, ColumnElement[bool]]]:
    """Each table with what is the subject's in it, what refers to others before those."""
    names, streams = subject.names, subject.stream
    named = _feedback_about(subject)
    yield Feedback, named
    yield Duplicate, and_(Duplicate.entity_id.in_(names), Duplicate.topic_generation.in_([*streams, *subject.feedback]))
    yield ColdState, and_(ColdState.entity_id.in_(names), ColdState.topic_generation.in_(streams))
    if subject.kind == "account":
        for table in (Alert, Prediction, ShadowPrediction, Transaction):
            yield table, table.account_id.in_(names)
        return
    slates = select(*_log_key(Recommendation)).where(Recommendation.user_id.in_(names))
    yield RecommendationItem, tuple_(*_log_key(RecommendationItem)).in_(slates)
    for log in (Recommendation, Engagement):
        yield log, log.user_id.in_(names)


def _feedback_about(subject: Subject) -> ColumnElement[bool]:
    """Given under his name, or about his events, alerts or slates."""
    if subject.kind == "user":
        slates = select(Recommendation.recommendation_id).where(Recommendation.user_id.in_(subject.names))
        own = and_(Feedback.kind == "reward", Feedback.entity_id.in_(subject.names))
        return or_(own, Feedback.recommendation_id.in_(slates))
    events = select(Transaction.event_id).where(Transaction.account_id.in_(subject.names))
    alerts = select(Alert.alert_id).where(Alert.account_id.in_(subject.names))
    own = and_(Feedback.kind == "label", Feedback.entity_id.in_(subject.names))
    return or_(own, Feedback.event_id.in_(events), Feedback.alert_id.in_(alerts))


def _came_in(table: Any, beyond: Mapping[Place, int]) -> ColumnElement[bool]:
    """Rows of the partitions that may have come in since they were at these offsets. Feedback that came in since is
    as good as given later; revisions of alerts are few, and found by an index."""
    if table is Feedback:
        return false()
    if table is Alert:
        return true()
    return or_(
        *(
            and_(
                table.topic_generation == generation,
                table.source_partition == partition,
                true() if table is ColdState else table.source_offset >= offset,
            )
            for (generation, partition), offset in beyond.items()
        )
    )


def _log_key(table: type[Base]) -> list[Any]:
    return [getattr(table, name) for name in ("day", "topic_generation", "source_partition", "source_offset")]


def _mentions(connection: Connection, name: str) -> Iterator[tuple[int, int, int]]:
    """Places of dead letters with the name in their key, value or message."""
    written = {name.encode(), json.dumps(name)[1:-1].encode()}
    for content in written:
        word = re.compile(rb"(?<![\w.-])" + re.escape(content) + rb"(?![\w.-])")
        shown = content.decode()
        bytes_of = literal(content, LargeBinary)
        holds = func.instr if connection.dialect.name == "sqlite" else func.strpos
        columns = [
            _position(connection, column, bytes_of) > 0 for column in (DeadLetter.record_key, DeadLetter.payload)
        ]
        statement = select(
            DeadLetter.topic_generation,
            DeadLetter.source_partition,
            DeadLetter.source_offset,
            DeadLetter.record_key,
            DeadLetter.payload,
            DeadLetter.error_message,
        ).where(or_(*columns, holds(DeadLetter.error_message, shown) > 0))
        for row in connection.execute(statement):
            parts = (row.record_key or b"", row.payload or b"", row.error_message.encode())
            if any(word.search(part) for part in parts):
                yield row.topic_generation, row.source_partition, row.source_offset


def _position(connection: Connection, column: Any, content: Any) -> Any:
    """From 1 on, 0 for nowhere."""
    if connection.dialect.name == "sqlite":
        return func.instr(column, content)
    return func.position(content.op("IN")(column))
