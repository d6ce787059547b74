"""Who did what: entries that are only added, in the very transaction of what they tell of. Who may do it is not known
here.

The database refuses to change an entry (migration 0013). An entry holds ids and reasons, no secrets and no content.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import Connection, insert, select

from storage.tables import AuditLog

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """who: as "analyst:alice" or "cli:root"; action: as "model.promote"; subject: what it was done to."""

    who: str
    action: str
    subject: str
    detail: Mapping[str, JSON]
    at: datetime


def record_audit(connection: Connection, entry: AuditEntry) -> None:
    """Part of the caller's transaction: what is rolled back was not done."""
    values = {name: getattr(entry, name) for name in AuditEntry.__dataclass_fields__}
    connection.execute(insert(AuditLog).values(values | {"detail": dict(entry.detail)}))


def audit_entries(
    connection: Connection,
    *,
    limit: int,
    who: str | None = None,
    action: str | None = None,
    before: int | None = None,
) -> list[tuple[int, AuditEntry]]:
    """With their ids, the latest first. before: the id of the last one of the page before."""
    columns = [getattr(AuditLog, name) for name in AuditEntry.__dataclass_fields__]
    statement = select(AuditLog.id, *columns)
    if who is not None:
        statement = statement.where(AuditLog.who == who)
    if action is not None:
        statement = statement.where(AuditLog.action == action)
    if before is not None:
        statement = statement.where(AuditLog.id < before)
    rows = connection.execute(statement.order_by(AuditLog.id.desc()).limit(limit)).all()
    return [(row.id, AuditEntry(*row[1:])) for row in rows]
