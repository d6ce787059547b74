"""How much comes through a second, from what stream_progress says at some moments. No clock, no database."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from storage.progress import ProgressRow

#: Rates are those of the last so many seconds.
WINDOW_SECONDS = 10.0
#: Topic generation and partition.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted from the first look until a moment."""

    at: datetime
    events: int = 0
    engagements: int = 0
    slates: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """A second; None before there are two looks."""

    events: float | None = None
    engagements: float | None = None
    slates: float | None = None


class Throughput:
    """transactions, engagements: the topics' names."""

    def __init__(self, transactions: str, engagements: str) -> None:
        self._transactions, self._engagements = transactions, engagements
        self._known: dict[Place, ProgressRow] = {}
        self._history: deque[Totals] = deque()

    def unseen_engagements(self, rows: Sequence[ProgressRow]) -> Mapping[Place, tuple[int, int]]:
        """(first, end) offsets of the engagements since the last look, in which slates are to be counted."""
        return {
            place_of(row): (self._known[place_of(row)].next_offset, row.next_offset)
            for row in rows
            if row.topic == self._engagements and place_of(row) in self._known
        }

    def add(self, at: datetime, rows: Sequence[ProgressRow], slates: int) -> Rates:
        """slates: made for the unseen engagements."""
        before = self._history[-1] if self._history else Totals(at)
        self._history.append(
            replace(
                before,
                at=at,
                events=before.events + self._applied_since(rows, self._transactions),
                engagements=before.engagements + self._applied_since(rows, self._engagements),
                slates=before.slates + slates,
            )
        )
        self._known = {place_of(row): row for row in rows}
        while len(self._history) > 2 and (at - self._history[1].at).total_seconds() >= WINDOW_SECONDS:
            self._history.popleft()
        return _rates(self._history[0], self._history[-1])

    def _applied_since(self, rows: Sequence[ProgressRow], topic: str) -> int:
        """A partition that was not there at the last look counts from this one on."""
        return sum(
            max(0, row.applied - self._known[place_of(row)].applied)
            for row in rows
            if row.topic == topic and place_of(row) in self._known
        )


def place_of(row: ProgressRow) -> Place:
    return row.topic_generation, row.partition


def _rates(first: Totals, last: Totals) -> Rates:
    seconds = (last.at - first.at).total_seconds()
    if seconds <= 0:
        return Rates()
    return Rates(
        (last.events - first.events) / seconds,
        (last.engagements - first.engagements) / seconds,
        (last.slates - first.slates) / seconds,
    )
