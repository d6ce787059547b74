"""The drifts that were found: at most one a day for each model, detector and subject, whichever worker is first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import exists, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Database
from storage.tables import Drift


@dataclass(frozen=True, slots=True)
class DriftRecord:
    model: str
    detector: str
    subject: str
    detected_at: datetime
    value: float
    bound: float
    worker: str


def record_drifts(database: Database, drifts: Sequence[DriftRecord]) -> list[DriftRecord]:
    """Stores them; returns those that were not known on their day."""
    insert = postgresql.insert if database.dialect == "postgresql" else sqlite.insert
    new = []
    with database.begin() as connection:
        for drift in drifts:
            values = {name: getattr(drift, name) for name in DriftRecord.__dataclass_fields__}
            statement = insert(Drift).values(day=drift.detected_at.date(), **values).on_conflict_do_nothing()
            if connection.execute(statement.returning(Drift.subject)).first() is not None:
                new.append(drift)
    return new


def drifted_since(database: Database, moment: datetime) -> bool:
    """Whether anything drifted after a moment."""
    with database.reading() as connection:
        return bool(connection.execute(select(exists().where(Drift.detected_at > moment))).scalar())


def drifts_since(database: Database, day: date) -> list[tuple[date, DriftRecord]]:
    """With their days, the latest first."""
    columns = [getattr(Drift, name) for name in DriftRecord.__dataclass_fields__]
    statement = select(Drift.day, *columns).where(Drift.day >= day)
    with database.reading() as connection:
        rows = connection.execute(statement.order_by(Drift.detected_at.desc(), Drift.subject)).all()
    return [(row.day, DriftRecord(*row[1:])) for row in rows]
