"""Alerts as people look for them: a page of a filtered list, one alert with all that is known of it, counts by day.

The view v_alerts joins every label that was ever given; these statements look up the labels of the alerts they show, by
the indexes of `alerts` and `feedback`, so that a page costs what a page holds. An alert is shown at its latest
revision, its label is the newest one on itself or on one of its events, as in the view.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from string import Template
from typing import Any, Literal

from sqlalchemy import Connection, Row, TextClause, bindparam, func, literal, select, text, union_all

from storage.tables import Alert, Feedback, JsonColumn, UtcTimestamp
from storage.views import DIALECT_WORDS

Order = Literal["newest", "worst"]
SEVERITIES = ("low", "medium", "high", "critical")
NO_LABEL = "none"
SUMMARY = (
    *("alert_id", "revision", "status", "closed_by", "account_id", "event_ids", "occurred_at", "scored_at", "score"),
    *("score_kind", "threshold", "severity", "amount_at_risk", "model", "reasons"),
)
ONE_DAY = timedelta(days=1)
IDS_AT_ONCE = 500

#: As their indexes have it, not as parameters: what counts them reads these indexes only.
_OPENING, _CLOSING = text("revision = 1"), text("status = 'closed'")
#: What a list is ordered by, descending; of the worst, within each severity.
_ORDER: Mapping[Order, tuple[str, ...]] = {
    "newest": ("a.scored_at", "a.alert_id"),
    "worst": ("a.score", "a.scored_at", "a.alert_id"),
}
_LATEST = "NOT EXISTS (SELECT 1 FROM alerts later WHERE later.alert_id = a.alert_id AND later.revision > a.revision)"
#: Two looks into an index for each alert, where OR would read all feedback.
_NEWEST_LABEL = """(
    SELECT given.label FROM (
        SELECT f.label, f.given_at, f.feedback_id FROM feedback f
        WHERE f.alert_id = a.alert_id AND f.kind = 'label' AND f.status = 'joined'
        UNION ALL
        SELECT f.label, f.given_at, f.feedback_id
        FROM ${each_event_id} JOIN feedback f ON f.event_id = each_event.value
        WHERE f.kind = 'label' AND f.status = 'joined'
    ) AS given
    ORDER BY given.given_at DESC, given.feedback_id DESC LIMIT 1
)"""
_FOUND_BY = """(
    substr(a.alert_id, 1, length(:search)) = :search OR substr(a.account_id, 1, length(:search)) = :search
    OR ${an_event_id_begins_with_search}
)"""


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts; None: whatever it is. label: fraud, legitimate, or none. since and until (exclusive): when the
    latest revision was scored. search: the beginning of an alert_id, account_id or event_id."""

    status: str | None = None
    severities: tuple[str, ...] = ()
    label: str | None = None
    account_id: str | None = None
    model: str | None = None
    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """feedback of kind label; status is pending, joined or expired."""

    feedback_id: str
    given_at: datetime
    label: str
    source: str | None
    status: str
    event_id: str | None
    alert_id: str | None


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """The latest revision, with the newest label that counts."""

    alert_id: str
    revision: int
    status: str
    closed_by: str | None
    account_id: str
    event_ids: list[str]
    occurred_at: datetime
    scored_at: datetime
    score: float
    score_kind: str
    threshold: float
    severity: str
    amount_at_risk: float
    model: str
    reasons: list[dict[str, Any]]
    label: GivenLabel | None


@dataclass(frozen=True, slots=True)
class AlertDetail:
    """labels: all that were given on it or on its events, the newest first, whether they count yet or not. opened_at:
    when its first revision was scored."""

    alert: ListedAlert
    timeline: list[dict[str, Any]]
    labels: list[GivenLabel]
    opened_at: datetime


def list_alerts(
    connection: Connection, wanted: AlertFilter, order: Order, limit: int, after: Sequence[Any] | None = None
) -> list[ListedAlert]:
    """At most `limit`, after a place (place_of) of a list in the same order."""
    if order == "newest":
        return _with_labels(connection, _page(connection, wanted, order, limit, after))
    found: list[Row[Any]] = []
    begin = len(SEVERITIES) - 1 if after is None else int(after[0])
    for severity in reversed(SEVERITIES[: begin + 1]):  # each by the index that begins with it
        if len(found) < limit and severity in (wanted.severities or SEVERITIES):
            rest = after[1:] if after is not None and severity == SEVERITIES[begin] else None
            these = replace(wanted, severities=(severity,))
            found += _page(connection, these, order, limit - len(found), rest)
    return _with_labels(connection, found)


def place_of(alert: ListedAlert, order: Order) -> list[Any]:
    """Where a list goes on after this alert."""
    if order == "newest":
        return [alert.scored_at, alert.alert_id]
    return [SEVERITIES.index(alert.severity), alert.score, alert.scored_at, alert.alert_id]


def alert_detail(connection: Connection, alert_id: str) -> AlertDetail | None:
    statement = select(*(getattr(Alert, name) for name in SUMMARY), Alert.timeline).where(Alert.alert_id == alert_id)
    row: Any = connection.execute(statement.order_by(Alert.revision.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    opened = select(func.min(Alert.scored_at)).where(Alert.alert_id == alert_id)
    (alert,) = _with_labels(connection, [row])
    labels = sorted(labels_of(connection, [alert_id], row.event_ids), key=_age, reverse=True)
    return AlertDetail(alert, row.timeline, labels, connection.execute(opened).scalar_one())


def account_of_alert(connection: Connection, alert_id: str) -> str | None:
    """None for an alert that is not stored."""
    return connection.execute(select(Alert.account_id).where(Alert.alert_id == alert_id).limit(1)).scalar()


def alerts_at(connection: Connection, revisions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], ListedAlert]:
    """These revisions, whether or not they are the latest, with the labels of now."""
    wanted = set(revisions)
    found: list[Row[Any]] = []
    for some in _portions([alert_id for alert_id, _ in wanted]):
        statement = select(*(getattr(Alert, name) for name in SUMMARY)).where(Alert.alert_id.in_(some))
        found += [row for row in connection.execute(statement) if (row.alert_id, row.revision) in wanted]
    return {(alert.alert_id, alert.revision): alert for alert in _with_labels(connection, found)}


def labels_of(connection: Connection, alert_ids: Collection[str], event_ids: Collection[str]) -> list[GivenLabel]:
    """All labels that were given on these alerts or on these events."""
    columns = [getattr(Feedback, name) for name in GivenLabel.__dataclass_fields__]
    found: dict[str, GivenLabel] = {}
    for column, ids in ((Feedback.alert_id, alert_ids), (Feedback.event_id, event_ids)):
        for some in _portions(ids):
            rows = connection.execute(select(*columns).where(Feedback.kind == "label", column.in_(some)))
            found |= {row.feedback_id: GivenLabel(**row._mapping) for row in rows}
    return list(found.values())


def newest(labels: Iterable[GivenLabel]) -> GivenLabel | None:
    """The one that counts: the newest of those that are joined."""
    return max((label for label in labels if label.status == "joined"), key=_age, default=None)


def open_alert_count(connection: Connection) -> int:
    """Alerts that have no closing revision: two counts, each of an index that holds nothing else."""
    opened, closed = (
        select(func.count()).select_from(Alert).where(revisions).scalar_subquery() for revisions in (_OPENING, _CLOSING)
    )
    return int(connection.execute(select(opened - closed)).scalar_one())


def opened_by_day(connection: Connection, days: Iterable[date]) -> dict[date, int]:
    """How many alerts were opened on each of these days (UTC, by the first event's own time)."""
    begins = {day: datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days}
    # A count between two moments for each day: a day of every row took longer to compute than the index to read.
    counts = [
        select(literal(number), func.count())
        .select_from(Alert)
        .where(_OPENING, Alert.occurred_at >= begin, Alert.occurred_at < begin + ONE_DAY)
        for number, begin in enumerate(begins.values())
    ]
    counted = {number: alerts for number, alerts in connection.execute(union_all(*counts))}
    return {day: counted[number] for number, day in enumerate(begins)}


def _page(
    connection: Connection, wanted: AlertFilter, order: Order, limit: int, after: Sequence[Any] | None
) -> Sequence[Row[Any]]:
    conditions, values = _conditions(wanted)
    columns = _ORDER[order]
    if after is not None:
        names = [f"after_{number}" for number in range(len(columns))]
        conditions.append(f"({', '.join(columns)}) < ({', '.join(f':{name}' for name in names)})")
        values |= dict(zip(names, after, strict=True))
    selected = ", ".join(f"a.{name}" for name in SUMMARY)
    by = ", ".join(f"{column} DESC" for column in columns)
    found: Sequence[Row[Any]] = connection.execute(
        _typed(
            connection,
            f"SELECT {selected} FROM alerts a WHERE {' AND '.join([_LATEST, *conditions])} ORDER BY {by} LIMIT :limit",
            {**values, "limit": limit},
        )
    ).all()
    return found


def _conditions(wanted: AlertFilter) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    values: dict[str, Any] = {}
    plain = {
        "status": ("a.status = :status", wanted.status),
        "account": ("a.account_id = :account", wanted.account_id),
        "model": ("a.model = :model", wanted.model),
        "search": (_FOUND_BY, wanted.search),
        "since": ("a.scored_at >= :since", wanted.since),
        "until": ("a.scored_at < :until", wanted.until),
    }
    for name, (condition, value) in plain.items():
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.severities:
        named = {f"severity_{number}": value for number, value in enumerate(wanted.severities)}
        conditions.append(f"a.severity IN ({', '.join(f':{name}' for name in named)})")
        values |= named
    if wanted.label == NO_LABEL:
        conditions.append(f"{_NEWEST_LABEL} IS NULL")
    elif wanted.label is not None:
        conditions.append(f"{_NEWEST_LABEL} = :label")
        values["label"] = wanted.label
    return conditions, values


def _typed(connection: Connection, statement: str, values: Mapping[str, Any]) -> Any:
    words = DIALECT_WORDS[connection.dialect.name]
    bound: TextClause = text(Template(statement).substitute(words)).bindparams(
        *(
            bindparam(name, value, type_=UtcTimestamp() if isinstance(value, datetime) else None)
            for name, value in values.items()
        )
    )
    return bound.columns(occurred_at=UtcTimestamp(), scored_at=UtcTimestamp(), event_ids=JsonColumn, reasons=JsonColumn)


def _with_labels(connection: Connection, rows: Sequence[Row[Any]]) -> list[ListedAlert]:
    event_ids = {event_id for row in rows for event_id in row.event_ids}
    by_subject: dict[tuple[str, str], list[GivenLabel]] = {}
    for label in labels_of(connection, {row.alert_id for row in rows}, event_ids):
        for kind, subject in (("alert", label.alert_id), ("event", label.event_id)):
            if subject is not None:
                by_subject.setdefault((kind, subject), []).append(label)
    found = []
    for row in rows:
        subjects = [("alert", row.alert_id), *(("event", event_id) for event_id in row.event_ids)]
        counts = newest(label for subject in subjects for label in by_subject.get(subject, ()))
        found.append(ListedAlert(**{name: getattr(row, name) for name in SUMMARY}, label=counts))
    return found


def _age(label: GivenLabel) -> tuple[datetime, str]:
    return label.given_at, label.feedback_id


def _portions(ids: Collection[str]) -> Iterable[list[str]]:
    wanted = list(ids)
    return (wanted[start : start + IDS_AT_ONCE] for start in range(0, len(wanted), IDS_AT_ONCE))
