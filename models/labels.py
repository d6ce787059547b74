"""What may be learned from labels, and when: maturity, and the release of a history's labels in the order of time.

An event is matured once it is older than the label horizon; a matured event without a label is legitimate. Nothing
here looks at a label before it was known: training, backtests and live scoring see the same of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

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
class LabelledHistory:
    """n events in the order of time. labels int8[n]: 1 fraud, 0 legitimate, -1 unknown; known_at int64[n]: since when
    the label is known, at the event's maturity or later; horizon: milliseconds from an event to its maturity."""

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

    def take(self, rows: npt.NDArray[np.intp]) -> "LabelledHistory":
        return LabelledHistory(self.events.take(rows), self.labels[rows], self.known_at[rows], self.horizon)

    def as_of(self, now: int) -> "LabelledHistory":
        """What was known at a moment: the events until then; a label that came later is not there, so that a matured
        event counts as legitimate."""
        past = self.take(np.arange(int(np.searchsorted(self.events.occurred_at, now, "right"))))
        matured = past.events.occurred_at <= now - self.horizon
        as_known = np.where(past.known_at <= now, past.labels, 0)
        labels = np.where(matured & (past.labels >= 0), as_known, -1).astype(np.int8)
        return replace(past, labels=labels)


class LabelRelease:
    """Goes through a history in the order of time and says at each moment what matured labels tell of merchants.

    `note` gives it, row after row, how little accounts alone explain the amounts (FeatureBatch.unexplained); a moment's
    knowledge needs all events that have matured by then.
    """

    def __init__(self, history: LabelledHistory) -> None:
        self._history = history
        self._merchants = MerchantLabels()
        self._unexplained = np.zeros(len(history))
        self._folded = 0
        occurred_at = history.events.occurred_at
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
        occurred_at = history.events.occurred_at
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
            merchant_id=[history.events.merchant_id[row] for row in every.tolist()],
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


def milliseconds(span: timedelta) -> int:
    return int(span.total_seconds() * 1000)
