"""How a version of what labels say of merchants is made: what became known in SQL since the one before, hour by hour
as it became known, folded onto what was stored (models/merchant_labels.py), in one transaction.

An event counts from the first full hour after its maturity, with the newest label given by its maturity; a label that
is given later and contradicts what the event counts as is a correction from the first full hour after that. So a
version that comes late, or the first one after a long history, says what one version an hour would have said; only
events that were stored after their maturity's version and labels that were joined late are taken in late.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count, groupby, islice

import numpy as np

from models.labels import VERSION_INTERVAL, milliseconds
from models.merchant_labels import LabelRecords, MerchantLabels, MerchantState
from storage.database import Database
from storage.label_state import (
    GivenLabel,
    LabelledEvent,
    MerchantColumns,
    StoredVersion,
    begin_snapshot,
    log_positions,
    merchants_named,
    newest_version,
    newly_labelled,
    newly_matured,
    write_merchants,
    write_version,
)

FOLDED_AT_ONCE = 50_000
LAST_TIME = 2**62


@dataclass(frozen=True, slots=True)
class Correction:
    """From an hour on (epoch milliseconds) an event counts as the opposite of what it did."""

    hour: int
    event: LabelledEvent
    fraud: bool


@dataclass(frozen=True, slots=True)
class Portion:
    """What became known in one hour, or a part of it: matured events in the order of time with what they count as,
    and corrections."""

    hour: int
    matured: Sequence[tuple[LabelledEvent, bool]]
    corrections: Sequence[Correction]

    @property
    def records(self) -> LabelRecords:
        events = [event for event, _ in self.matured] + [one.event for one in self.corrections]
        fraud = [fraud for _, fraud in self.matured] + [one.fraud for one in self.corrections]
        # Scored before it was stored how far accounts explain amounts: as if explained, so that it makes no run.
        unexplained = [0.0 if event.unexplained is None else event.unexplained for event in events]
        return LabelRecords(
            merchant_id=[event.merchant_id for event in events],
            occurred_at=np.array([event.occurred_at for event in events], np.int64),
            fraud=np.array(fraud, np.bool_),
            unexplained=np.array(unexplained, np.float64),
            correction=np.arange(len(events)) >= len(self.matured),
        )


def version_hour(now: datetime) -> datetime:
    """The full hour whose version holds at a moment."""
    return moment_of(milliseconds_of(now) // VERSION_INTERVAL * VERSION_INTERVAL)


def make_version(
    database: Database, now: datetime, horizon: timedelta, *, at_once: int = FOLDED_AT_ONCE
) -> StoredVersion | None:
    """Makes the version of the present full hour; None where it is there, or a later one. For one process at a time:
    of two, one fails with DatabaseUnavailable."""
    with database.begin() as connection:
        begin_snapshot(connection)
        before = newest_version(connection)
        known_at = version_hour(now)
        if before is not None and before.known_at >= known_at:
            return None
        version = StoredVersion(
            version=1 if before is None else before.version + 1,
            known_at=known_at,
            matured_until=_matured_until(before, known_at - horizon),
            positions=log_positions(connection),
        )
        corrected = newly_labelled(connection, before, known_at)
        matured = newly_matured(connection, before, version)
        earliest = 0 if before is None else milliseconds_of(before.known_at)
        merchants, restored = MerchantLabels(), set[str]()
        events = frauds = corrections = 0
        for portion in portions(matured, corrected, milliseconds(horizon), at_once):
            records = portion.records
            unseen = set(records.merchant_id) - restored
            for columns in merchants_named(connection, sorted(unseen)):
                restore(merchants, columns)
            restored |= unseen
            merchants.fold(records, max(portion.hour, earliest))
            events += len(portion.matured)
            frauds += sum(fraud for _, fraud in portion.matured)
            corrections += len(portion.corrections)
        write_version(connection, version, now, events=events, frauds=frauds, corrections=corrections)
        write_merchants(connection, version.version, columns_of(merchants, sorted(restored)))
    return version


def portions(
    matured: Iterable[LabelledEvent], counted: Iterable[LabelledEvent], horizon: int, at_once: int
) -> Iterator[Portion]:
    """What became known, in the order of the hours in which it did. matured: events to be counted now, in the order of
    time; counted: events that are counted already and have a label that was not known; horizon: milliseconds."""
    waiting = Waiting()
    for event in counted:
        waiting.correct(event, _says_fraud(label for label in event.labels if label.known))
    for hour, group in groupby(matured, lambda event: _full_hour(event.occurred_at + horizon)):
        yield from waiting.before(hour)
        while some := list(islice(group, at_once)):
            says = [_says_fraud(label for label in event.labels if _in_time(label, event, horizon)) for event in some]
            for event, fraud in zip(some, says, strict=True):
                waiting.correct(event, fraud)
            # Not those of later events: a merchant's records are folded in the order of time.
            due = waiting.due(hour, some[-1].occurred_at)
            yield Portion(hour, list(zip(some, says, strict=True)), due)
    yield from waiting.before(None)


class Waiting:
    """Corrections until their hour comes."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Correction]] = []
        self._number = count()

    def correct(self, event: LabelledEvent, counts_as: bool) -> None:
        """Has an event corrected where its newest label contradicts what it counts as."""
        if event.labels and event.labels[-1].fraud != counts_as:
            correction = Correction(_full_hour(event.labels[-1].given_at), event, not counts_as)
            heappush(self._heap, (correction.hour, event.occurred_at, next(self._number), correction))

    def due(self, hour: int, until: int) -> list[Correction]:
        """Takes out those of an hour on events up to a moment, in the order of the events' time; the ones of earlier
        hours are taken out already."""
        found = []
        while self._heap and self._heap[0][:2] <= (hour, until):
            found.append(heappop(self._heap)[-1])
        return found

    def before(self, hour: int | None) -> Iterator[Portion]:
        """Takes out all of the hours before one, hour by hour; None for all."""
        while self._heap and (hour is None or self._heap[0][0] < hour):
            earliest = self._heap[0][0]
            yield Portion(earliest, [], self.due(earliest, LAST_TIME))


def restore(merchants: MerchantLabels, columns: MerchantColumns) -> None:
    state = MerchantState(**{part.name: getattr(columns, part.name) for part in fields(MerchantState)})
    merchants.restore(columns.merchant_id, state)


def columns_of(merchants: MerchantLabels, names: Sequence[str]) -> MerchantColumns:
    state = merchants.state_of(merchants.rows_of(names))
    return MerchantColumns(names, **{part.name: getattr(state, part.name) for part in fields(MerchantState)})


def milliseconds_of(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def moment_of(time: int) -> datetime:
    """Epoch milliseconds as a moment."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)


def _matured_until(before: StoredVersion | None, wanted: datetime) -> datetime:
    """Never back: with a longer horizon than before, what has been counted stays so."""
    return wanted if before is None else max(before.matured_until, wanted)


def _says_fraud(labels: Iterable[GivenLabel]) -> bool:
    """What the last of these says; legitimate without any."""
    fraud = False
    for label in labels:
        fraud = label.fraud
    return fraud


def _in_time(label: GivenLabel, event: LabelledEvent, horizon: int) -> bool:
    return label.given_at <= event.occurred_at + horizon


def _full_hour(time: int) -> int:
    """The first full hour that is not before a moment."""
    return -(-time // VERSION_INTERVAL) * VERSION_INTERVAL
