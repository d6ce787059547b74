"""Dead letters as people handle them: list, replay, mark as replayed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from storage.tables import DeadLetter as Row


@dataclass(frozen=True, slots=True)
class DeadLetter:
    topic_generation: int
    source_partition: int
    source_offset: int
    topic: str
    recorded_at: datetime
    error_code: str
    error_message: str
    record_key: bytes | None
    payload: bytes | None
    payload_bytes: int
    sha256: str | None
    replayed_at: datetime | None

    @property
    def is_whole(self) -> bool:
        """False for a record above the size limit, of whose key and value only the beginnings are kept."""
        return self.error_code != "too_large" and len(self.payload or b"") == self.payload_bytes

    def summary(self) -> dict[str, Any]:
        """Everything but the payload."""
        names = ("topic", "source_partition", "source_offset", "recorded_at", "error_code", "error_message")
        return {name: getattr(self, name) for name in (*names, "payload_bytes", "sha256", "replayed_at")}


def dead_letters(connection: Connection, *, limit: int, code: str | None, replayed: bool | None) -> list[DeadLetter]:
    """The newest first; replayed: only those that were (True), were not (False), or all (None)."""
    statement = select(*(getattr(Row, name) for name in DeadLetter.__dataclass_fields__))
    if code is not None:
        statement = statement.where(Row.error_code == code)
    if replayed is not None:
        statement = statement.where(Row.replayed_at.is_not(None) if replayed else Row.replayed_at.is_(None))
    newest = statement.order_by(Row.recorded_at.desc(), Row.source_offset.desc()).limit(limit)
    return [DeadLetter(**row._mapping) for row in connection.execute(newest)]


def mark_replayed(connection: Connection, letters: Sequence[DeadLetter], moment: datetime) -> None:
    for letter in letters:
        connection.execute(
            update(Row)
            .where(
                Row.topic_generation == letter.topic_generation,
                Row.source_partition == letter.source_partition,
                Row.source_offset == letter.source_offset,
            )
            .values(replayed_at=moment)
        )
