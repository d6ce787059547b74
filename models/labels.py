"""What may be learned from labels, and when: maturity, and the release of a history's labels in the order of time.

An event is matured once it is older than the label horizon; a matured event without a label is legitimate. Nothing
here looks at a label before it was known: training, backtests and live scoring see the same of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.events import Events
from models.merchant_labels import LabelRecords, MerchantKnowledge, MerchantLabels

Times = npt.NDArray[np.int64]
#: What labels say of merchants is brought up to date once in so many milliseconds, at full hours. Once a day costs .02
#: average precision (docs/log.md).
VERSION_INTERVAL = 3_600_000


def training_labels(
    occurred_at: Times, known: npt.NDArray[np.int8], *, now: int, horizon: timedelta
) -> npt.NDArray[np.int8]:
    """known: 1 fraud, 0 legitimate, -1 no label. An event older than the horizon without a label is legitimate. A
    younger one is unknown, even where a verdict came early: early verdicts are mostly frauds, and would teach and
    calibrate a share of them that does not exist. Times in epoch milliseconds."""
    matured = occurred_at <= now - milliseconds(horizon)
    return np.where(matured, np.maximum(known, 0), -1).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Entities:
    """Of which account or merchant each of n events is: number int32[n], counted in the order of appearance."""

    number: npt.NDArray[np.int32]
    names: Sequence[str]

    @staticmethod
    def of(ids: Sequence[str]) -> "Entities":
        numbering = Numbering()
        return Entities(numbering.of(ids), numbering.names)

    def first(self, count: int) -> "Entities":
        return Entities(self.number[:count], self.names)


@dataclass(slots=True)
class Numbering:
    """Gives every id a number, the same whenever it comes."""

    _numbers: dict[str, int] = field(default_factory=dict)

    def of(self, ids: Iterable[str]) -> npt.NDArray[np.int32]:
        numbers = self._numbers
        return np.array([numbers.setdefault(name, len(numbers)) for name in ids], np.int32)

    @property
    def names(self) -> list[str]:
        return list(self._numbers)


class History(Protocol):
    """n events in the order of time that can be gone through more than once, wherever they are kept. In memory are only
    these columns: occurred_at int64[n] (epoch milliseconds); labels int8[n]: 1 fraud, 0 legitimate, -1 unknown;
    known_at int64[n]: since when the label is known, at the event's maturity or later; horizon: milliseconds from an
    event to its maturity."""

    @property
    def occurred_at(self) -> Times: ...
    @property
    def labels(self) -> npt.NDArray[np.int8]: ...
    @property
    def known_at(self) -> Times: ...
    @property
    def horizon(self) -> int: ...
    @property
    def accounts(self) -> Entities: ...
    @property
    def merchants(self) -> Entities: ...

    def __len__(self) -> int: ...

    def batches(self, first: int = 0) -> Iterator[Events]:
        """The events from a row on, in portions of any size."""
        ...

    def first(self, count: int) -> "History":
        """Without the events that come later."""
        ...


@dataclass(frozen=True, slots=True)
class LabelledHistory:
    """A history in memory."""

    events: Events
    labels: npt.NDArray[np.int8]
    known_at: Times
    horizon: int

    @staticmethod
    def of(
        events: Events,
        known: npt.NDArray[np.int8],
        *,
        now: int,
        horizon: timedelta,
        given_at: Times | None = None,
    ) -> "LabelledHistory":
        """known: newest labels, -1 without one; given_at: when they were given, None where that is not known."""
        matures = events.occurred_at + milliseconds(horizon)
        return LabelledHistory(
            events,
            training_labels(events.occurred_at, known, now=now, horizon=horizon),
            matures if given_at is None else np.maximum(matures, given_at),
            milliseconds(horizon),
        )

    @staticmethod
    def matured(
        events: Events, labels: npt.NDArray[np.int8], horizon: timedelta = timedelta(days=7)
    ) -> "LabelledHistory":
        """Labels as they stand, each known at its event's maturity."""
        return LabelledHistory(events, labels, events.occurred_at + milliseconds(horizon), milliseconds(horizon))

    def __len__(self) -> int:
        return len(self.events)

    @property
    def occurred_at(self) -> Times:
        return self.events.occurred_at

    @property
    def accounts(self) -> Entities:
        return Entities.of(self.events.account_id)

    @property
    def merchants(self) -> Entities:
        return Entities.of(self.events.merchant_id)

    def batches(self, first: int = 0) -> Iterator[Events]:
        yield self.events.take(np.arange(first, len(self))) if first else self.events

    def first(self, count: int) -> "LabelledHistory":
        return self.take(np.arange(count))

    def take(self, rows: npt.NDArray[np.intp]) -> "LabelledHistory":
        return LabelledHistory(self.events.take(rows), self.labels[rows], self.known_at[rows], self.horizon)

    def as_of(self, now: int) -> "LabelledHistory":
        """What was known at a moment: the events before it; a label that came later is not there, so that a matured
        event counts as legitimate."""
        past = self.first(int(np.searchsorted(self.events.occurred_at, now, "left")))
        matured = past.events.occurred_at <= now - self.horizon
        as_known = np.where(past.known_at <= now, past.labels, 0)
        labels = np.where(matured & (past.labels >= 0), as_known, -1).astype(np.int8)
        return replace(past, labels=labels)


class LabelRelease:
    """Goes through a history in the order of time and says at each moment what matured labels tell of merchants.

    `note` gives it, row after row, how little accounts alone explain the amounts (FeatureBatch.unexplained); a moment's
    knowledge needs all events that have matured by then.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._entities = history.merchants
        self._merchants = MerchantLabels()
        self._unexplained = np.zeros(len(history))
        self._folded = 0
        occurred_at = history.occurred_at
        late = np.flatnonzero((history.labels == 1) & (history.known_at > occurred_at + history.horizon))
        #: Frauds that count as legitimate from their maturity until their label comes, in the order of its coming.
        self._late = late[np.argsort(history.known_at[late], kind="stable")]
        self._corrected = 0
        self._knowledge = MerchantKnowledge.none()
        self._known_at: int | None = None

    def note(self, rows: npt.NDArray[np.intp], unexplained: npt.NDArray[np.float64]) -> None:
        self._unexplained[rows] = unexplained

    def knowledge(self, moment: int) -> MerchantKnowledge:
        """Of the version that holds at a moment (epoch milliseconds); moments never run backwards."""
        version = moment // VERSION_INTERVAL * VERSION_INTERVAL
        if version != self._known_at:
            self._merchants.fold(self._matured_by(version), version)
            self._knowledge = self._merchants.knowledge(version)
            self._known_at = version
        return self._knowledge

    def _matured_by(self, version: int) -> LabelRecords:
        history = self._history
        occurred_at = history.occurred_at
        matured = int(np.searchsorted(occurred_at, version - history.horizon, "right"))
        rows = np.arange(self._folded, matured)
        self._folded = matured
        came = int(np.searchsorted(history.known_at[self._late], version, "right"))
        corrected = self._late[self._corrected : came]
        self._corrected = came
        in_time = history.known_at[rows] <= occurred_at[rows] + history.horizon
        fraud = (history.labels[rows] == 1) & in_time
        every = np.concatenate([rows, corrected])
        return LabelRecords(
            merchant_id=[self._entities.names[number] for number in self._entities.number[every].tolist()],
            occurred_at=occurred_at[every],
            fraud=np.concatenate([fraud, np.ones(len(corrected), np.bool_)]),
            unexplained=self._unexplained[every],
            correction=np.arange(len(every)) >= len(rows),
        )


def version_batches(occurred_at: Times, at_once: int) -> Iterator[npt.NDArray[np.intp]]:
    """The rows of a history in the order of time, at most so many together, none across two label versions."""
    versions = occurred_at // VERSION_INTERVAL
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(versions)) + 1, [len(versions)]])
    for first, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        for start in range(first, stop, at_once):
            yield np.arange(start, min(start + at_once, stop))


def version_portions(history: History, at_once: int) -> Iterator[tuple[npt.NDArray[np.intp], Events]]:
    """The same of a history wherever it is kept: rows, and their events."""
    first = 0
    for events in history.batches():
        for rows in version_batches(events.occurred_at, at_once):
            yield first + rows, events.take(rows)
        first += len(events)


def events_of(history: History, rows: npt.NDArray[np.intp]) -> Events:
    """Those of some rows, which rise; one at least."""
    found, first = [], int(rows[0])
    for events in history.batches(first):
        inside = rows[(rows >= first) & (rows < first + len(events))] - first
        found.append(events.take(inside))
        first += len(events)
        if first > rows[-1]:
            break
    return Events.concatenate(found)


def milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
