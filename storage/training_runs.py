"""Training runs as people look at them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from storage.tables import TrainingRun


@dataclass(frozen=True, slots=True)
class ListedRun:
    """status is running, succeeded, refused or failed."""

    run_id: str
    model_name: str
    model_version: int | None
    started_at: datetime
    finished_at: datetime | None
    status: str
    config: dict[str, Any]
    metrics: dict[str, Any] | None
    message: str | None


_COLUMNS = tuple(getattr(TrainingRun, name) for name in ListedRun.__dataclass_fields__)


def newest_runs(connection: Connection, limit: int) -> list[ListedRun]:
    rows = connection.execute(select(*_COLUMNS).order_by(TrainingRun.started_at.desc()).limit(limit))
    return [ListedRun(**row._mapping) for row in rows]


def runs_of(connection: Connection, name: str, version: int) -> list[ListedRun]:
    """The newest first."""
    of_model = (TrainingRun.model_name == name, TrainingRun.model_version == version)
    rows = connection.execute(select(*_COLUMNS).where(*of_model).order_by(TrainingRun.started_at.desc()))
    return [ListedRun(**row._mapping) for row in rows]
