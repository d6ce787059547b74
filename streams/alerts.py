"""Which alerting event opens an alert, which one raises an open alert's revision, and when an alert closes.

Pure bookkeeping for one partition: flagged events in, alert revisions out. It knows nothing of Kafka, SQL or
models. Its state is a function of the revisions it made, so after a crash it is read back from the alerts table.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from hashlib import blake2b

from models.explain import Reason

#: An alert that grew to this many events is closed; the next one opens a new alert (bounds a revision's size).
MAX_EVENTS = 100

#: Severity by expected loss (score times the alert's summed amount in the base currency), from high to low.
SEVERITY_BANDS = (("critical", 5_000.0), ("high", 500.0), ("medium", 50.0), ("low", 0.0))


@dataclass(frozen=True, slots=True)
class FlaggedEvent:
    """A scored event above its threshold. Times in epoch milliseconds, amount in the base currency.

    positions: (day, offset) of the account's recent events, this one last: the alert's timeline.
    """

    event_id: str
    account_id: str
    offset: int
    occurred_at: int
    scored_at: int
    amount: float
    score: float
    score_kind: str
    threshold: float
    model: str
    reasons: tuple[Reason, ...] = ()
    positions: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AlertRevision:
    """One row of `alerts`. sequence numbers the partition's revisions; the relay's cursor counts in it.

    positions is None for a closing: it shows the timeline of the revision before it.
    """

    alert_id: str
    revision: int
    sequence: int
    offset: int | None
    status: str
    closed_by: str | None
    event_ids: tuple[str, ...]
    account_id: str
    occurred_at: int
    scored_at: int
    score: float
    score_kind: str
    threshold: float
    severity: str
    amount_at_risk: float
    model: str
    reasons: tuple[Reason, ...]
    positions: tuple[tuple[int, int], ...] | None


def severity(score: float, amount_at_risk: float) -> str:
    """By expected loss: critical from 5,000, high from 500, medium from 50, else low (base currency)."""
    loss = score * amount_at_risk
    return next(name for name, least in SEVERITY_BANDS if loss >= least)


def deterministic_id(topic: str, topic_uuid: str, partition: int, offset: int, model_kind: str) -> str:
    """The id of what one input record gave rise to: the same after every repeat, unlike any other's."""
    source = f"{topic}\n{topic_uuid}\n{partition}\n{offset}\n{model_kind}"
    return blake2b(source.encode(), digest_size=16).hexdigest()


class AlertBook:
    """The open alerts of one partition, at most one an account.

    fold_within: milliseconds (event time) between an open alert's last event and one that still joins it.
    """

    def __init__(self, *, fold_within: int, next_sequence: int = 0, open_alerts: Iterable[AlertRevision] = ()) -> None:
        self._fold_within = fold_within
        self._next_sequence = next_sequence
        self._open: dict[str, AlertRevision] = {alert.account_id: alert for alert in open_alerts}

    @property
    def open_alerts(self) -> Mapping[str, AlertRevision]:
        """account_id -> latest revision."""
        return self._open

    def apply(self, event: FlaggedEvent, new_id: str) -> list[AlertRevision]:
        """The revisions that a flagged event causes: its own, after a closing where the open alert is over."""
        revisions: list[AlertRevision] = []
        current = self._open.get(event.account_id)
        if current is not None:
            if event.occurred_at - current.occurred_at > self._fold_within:
                revisions.append(self._close(current, "time"))
                current = None
            elif len(current.event_ids) >= MAX_EVENTS:
                revisions.append(self._close(current, "full"))
                current = None
        revisions.append(self._opened(event, new_id) if current is None else self._raised(current, event))
        self._open[event.account_id] = revisions[-1]
        return revisions

    def close_before(self, moment: int) -> list[AlertRevision]:
        """Closes the alerts whose last event is further than fold_within before `moment` (epoch milliseconds)."""
        over = [a for a in self._open.values() if moment - a.occurred_at > self._fold_within]
        return [self._close(alert, "time") for alert in over]

    def close_by_verdict(self, alert_ids: Set[str], event_ids: Set[str] = frozenset()) -> list[AlertRevision]:
        """Closes the alerts that are judged, or of which an event is."""
        if not alert_ids and not event_ids:
            return []
        judged = [
            alert
            for alert in self._open.values()
            if alert.alert_id in alert_ids or not event_ids.isdisjoint(alert.event_ids)
        ]
        return [self._close(alert, "verdict") for alert in judged]

    def _opened(self, event: FlaggedEvent, new_id: str) -> AlertRevision:
        return AlertRevision(
            alert_id=new_id,
            revision=1,
            sequence=self._sequence(),
            offset=event.offset,
            status="open",
            closed_by=None,
            event_ids=(event.event_id,),
            account_id=event.account_id,
            occurred_at=event.occurred_at,
            scored_at=event.scored_at,
            score=event.score,
            score_kind=event.score_kind,
            threshold=event.threshold,
            severity=severity(event.score, event.amount),
            amount_at_risk=event.amount,
            model=event.model,
            reasons=event.reasons,
            positions=event.positions,
        )

    def _raised(self, current: AlertRevision, event: FlaggedEvent) -> AlertRevision:
        score = max(current.score, event.score)
        amount = current.amount_at_risk + event.amount
        return replace(
            current,
            revision=current.revision + 1,
            sequence=self._sequence(),
            offset=event.offset,
            event_ids=(*current.event_ids, event.event_id),
            occurred_at=max(current.occurred_at, event.occurred_at),
            scored_at=event.scored_at,
            score=score,
            score_kind=event.score_kind,
            threshold=event.threshold,
            severity=severity(score, amount),
            amount_at_risk=amount,
            model=event.model,
            reasons=event.reasons if event.score >= current.score else current.reasons,
            positions=event.positions,
        )

    def _close(self, current: AlertRevision, why: str) -> AlertRevision:
        del self._open[current.account_id]
        return replace(
            current,
            revision=current.revision + 1,
            sequence=self._sequence(),
            offset=None,
            status="closed",
            closed_by=why,
            positions=None,
        )

    def _sequence(self) -> int:
        self._next_sequence += 1
        return self._next_sequence - 1
