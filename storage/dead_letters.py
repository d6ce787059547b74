"""Dead letters as people handle them: list, count, look at one, mark as replayed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, null, select, tuple_, update

from storage.tables import DeadLetter as Row


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """kept_bytes: of the payload, which is left out, with the key, where only a list is wanted."""

    topic_generation: int
    source_partition: int
    source_offset: int
    topic: str
    recorded_at: datetime
    error_code: str
    error_message: str
    record_key: bytes | None
    payload: bytes | None
    kept_bytes: int
    payload_bytes: int
    sha256: str | None
    replayed_at: datetime | None

    @property
    def is_withheld(self) -> bool:
        """Whether nothing of the record is kept, as pseudonyms were on: its digest names the key that it was made
        with."""
        return "." in (self.sha256 or "")

    @property
    def is_whole(self) -> bool:
        """False for a record above the size limit, of whose key and value only the beginnings are kept, and for one
        that is withheld."""
        return not self.is_withheld and self.error_code != "too_large" and self.kept_bytes == self.payload_bytes

    def summary(self) -> dict[str, Any]:
        """Everything but the payload."""
        names = ("topic", "source_partition", "source_offset", "recorded_at", "error_code", "error_message")
        return {name: getattr(self, name) for name in (*names, "payload_bytes", "sha256", "replayed_at")}


#: Topic generation, partition, offset.
Place = tuple[int, int, int]


def dead_letters(
    connection: Connection,
    *,
    limit: int,
    code: str | None,
    replayed: bool | None,
    after: tuple[datetime, int, int, int] | None = None,
    content: bool = True,
) -> list[DeadLetter]:
    """The newest first; replayed: only those that were (True), were not (False), or all (None). after: recorded_at and
    place of the last one of the page before; content: with keys and payloads."""
    statement = _every(content)
    if code is not None:
        statement = statement.where(Row.error_code == code)
    if replayed is not None:
        statement = statement.where(Row.replayed_at.is_not(None) if replayed else Row.replayed_at.is_(None))
    order = (Row.recorded_at, Row.topic_generation, Row.source_partition, Row.source_offset)
    if after is not None:
        statement = statement.where(tuple_(*order) < tuple_(*after, types=[column.type for column in order]))
    newest = statement.order_by(*(column.desc() for column in order)).limit(limit)
    return [DeadLetter(**row._mapping) for row in connection.execute(newest)]


def dead_letter(connection: Connection, place: Place) -> DeadLetter | None:
    row = connection.execute(_every().where(*_at(place))).one_or_none()
    return None if row is None else DeadLetter(**row._mapping)


def unreplayed_by_code(connection: Connection) -> dict[str, int]:
    """How many were not replayed, for each error code."""
    counted = select(Row.error_code, func.count().label("letters")).where(Row.replayed_at.is_(None))
    rows = connection.execute(counted.group_by(Row.error_code).order_by(Row.error_code))
    return {row.error_code: row.letters for row in rows}


def mark_replayed(connection: Connection, letters: Sequence[DeadLetter], moment: datetime) -> None:
    for letter in letters:
        place = letter.topic_generation, letter.source_partition, letter.source_offset
        connection.execute(update(Row).where(*_at(place)).values(replayed_at=moment))


def _every(content: bool = True) -> Select[Any]:
    columns: dict[str, Any] = {name: getattr(Row, name, None) for name in DeadLetter.__dataclass_fields__}
    columns |= {"kept_bytes": func.coalesce(func.length(Row.payload), 0).label("kept_bytes")}
    if not content:
        columns |= {name: null().label(name) for name in ("record_key", "payload")}
    return select(*columns.values())


def _at(place: Place) -> tuple[Any, ...]:
    generation, partition, offset = place
    return Row.topic_generation == generation, Row.source_partition == partition, Row.source_offset == offset
