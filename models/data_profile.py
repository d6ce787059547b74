"""What a history holds, gathered in one pass over events in the order of time, in bounded memory.

Beside some numbers for each account, merchant and day, everything is counts and samples of fixed size (value_counts.py,
samples.py). What it means is data_quality.py's business; where events come from is not known here.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.events import MILLISECONDS_A_DAY, Events
from models.hashing import hashes
from models.samples import Floats, Hashes, RepeatSample, RowSample, mixed
from models.value_counts import FRAUD, LEGITIMATE, UNLABELLED, YOUNG, Counts, Numbers, Slicing, ValueCounts

Labels = npt.NDArray[np.int8]
#: Events that are looked at together.
AT_ONCE = 50_000
TEXT_FIELDS = ("currency", "channel", "country", "category", "memo")
IDS = ("event_id", "account_id", "merchant_id")
#: Numbers whose size may tell frauds apart.
NUMBERS = EVENT_NUMBER, AMOUNT = "number at the end of event_id", "amount"
#: What ids look like; ids with more looks than this are random.
MOST_PATTERNS = 1_000
#: Amounts are counted by the logarithm of 1 + amount, in bins of this width; the largest amount is 1e11.
AMOUNT_WIDTH, AMOUNT_BINS = 0.05, 520
#: Time of an event: whole milliseconds, seconds, minutes, or midnight.
PRECISIONS = ("to the millisecond", "to the second", "to the minute", "midnight")
HOURS_A_DAY, HOUR = 24, 3_600_000
#: Rows kept of frauds, of other matured events, and of labels.
MOST_SAMPLED = 50_000
DIGITS = "0123456789"
#: More digits than a float64 tells apart are no number.
MOST_DIGITS = 15
_RANDOM = re.compile(r"[0-9a-fA-F]*[0-9][0-9a-fA-F]*")


@dataclass(frozen=True, slots=True)
class Observed:
    """n events in the order of time; known int8[n]: 1 fraud, 0 legitimate, -1 no label; given_at int64[n]: when the
    label was given, epoch milliseconds, 0 where that is not known; currency: of the amounts before their conversion."""

    events: Events
    known: Labels
    given_at: Numbers
    currency: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.events)

    def parts(self, size: int) -> "list[Observed]":
        if len(self) <= size:
            return [self]
        return [self._part(slice(first, first + size)) for first in range(0, len(self), size)]

    def _part(self, part: slice) -> "Observed":
        rows = np.arange(*part.indices(len(self)))
        return Observed(self.events.take(rows), self.known[part], self.given_at[part], self.currency[part])


@dataclass(slots=True)
class Day:
    events: int = 0
    accounts: int = 0
    merchants: int = 0
    matured: int = 0
    labelled: int = 0
    frauds: int = 0


class DataProfile:
    """matured_until: epoch milliseconds, events up to which have matured. features: names of numbers that come with
    the events beside their own fields."""

    def __init__(self, matured_until: int, features: Sequence[str] = ()) -> None:
        self.matured_until = matured_until
        self.slicing = Slicing()
        self.texts = {name: ValueCounts() for name in TEXT_FIELDS}
        self.patterns = {name: ValueCounts(MOST_PATTERNS) for name in IDS}
        self.amounts, self.hours, self.precisions = Counts(AMOUNT_BINS), Counts(HOURS_A_DAY), Counts(len(PRECISIONS))
        self.entities = {name: _Entities() for name in IDS[1:]}
        self.days: dict[int, Day] = {}
        self.event_ids, self.payloads = RepeatSample(), RepeatSample()
        self.features = tuple(features)
        columns = (*NUMBERS, *map(feature_column, self.features))
        self.frauds, self.others = RowSample(columns, MOST_SAMPLED), RowSample(columns, MOST_SAMPLED)
        #: Days from an event to its label, and whether it says fraud.
        self.delays = RowSample(("days", "fraud"), MOST_SAMPLED)
        self.first = self.last = 0
        self.least_amount, self.most_amount = np.inf, -np.inf
        self.zero_amounts = self.known_early = self.labelled_before = self.timed_labels = 0
        self._patterns = _Patterns()
        self._today = _Today()

    def __len__(self) -> int:
        return self.slicing.events

    def add(self, observed: Observed, features: npt.NDArray[np.float32] | None = None) -> None:
        """features float32[n, F]: as they are named; NaN where there is none."""
        first = 0
        for part in observed.parts(AT_ONCE):
            own = None if features is None else features[first : first + len(part)]
            if len(part):
                self._add(part, own)
            first += len(part)

    def _add(self, observed: Observed, features: npt.NDArray[np.float32] | None) -> None:
        events = observed.events
        knowledge = self._knowledge(observed)
        slices, halvings = self.slicing.take(len(events))
        for _ in range(halvings):
            for counts in self._all_counts():
                counts.halve()
        cells = slices * 4 + knowledge
        for name in TEXT_FIELDS:
            texts = observed.currency if name == "currency" else getattr(events, name)
            self.texts[name].add(cells, self.texts[name].bins_of(texts))
        if not len(self) - len(events):
            self.first = int(events.occurred_at[0])
        self.last = int(events.occurred_at[-1])
        self._add_numbers(events, cells)
        found, event_number = self._patterns.of(events.event_id)
        self.patterns["event_id"].add(cells, self.patterns["event_id"].bins_of(found))
        numbers = {}
        for name, entities in self.entities.items():
            numbers[name], bins = entities.add(getattr(events, name), self.patterns[name], self._patterns)
            self.patterns[name].add(cells, bins)
        hash_of_id = hashes(events.event_id)
        self.event_ids.add(hash_of_id)
        self.payloads.add(mixed(*numbers.values(), events.occurred_at, events.amount))
        self._add_days(events, knowledge, numbers)
        self._add_labels(observed, knowledge, hash_of_id)
        self._add_samples(knowledge, hash_of_id, [event_number, events.amount], features)

    def _knowledge(self, observed: Observed) -> Numbers:
        of_label = np.array([LEGITIMATE, FRAUD, UNLABELLED])[observed.known]  # -1 is the last one
        return np.where(observed.events.occurred_at <= self.matured_until, of_label, YOUNG)

    def _all_counts(self) -> list[Counts]:
        return [*self.texts.values(), *self.patterns.values(), self.amounts, self.hours, self.precisions]

    def _add_numbers(self, events: Events, cells: Numbers) -> None:
        amount, time = events.amount, events.occurred_at
        self.least_amount = min(self.least_amount, float(amount.min()))
        self.most_amount = max(self.most_amount, float(amount.max()))
        self.zero_amounts += int((amount == 0).sum())
        self.amounts.add(cells, amount_bins(amount))
        self.hours.add(cells, time // HOUR % HOURS_A_DAY)
        steps = [time % 1_000 == 0, time % 60_000 == 0, time % MILLISECONDS_A_DAY == 0]
        self.precisions.add(cells, np.sum(steps, axis=0))

    def _add_days(self, events: Events, knowledge: Numbers, numbers: Mapping[str, Numbers]) -> None:
        day = events.occurred_at // MILLISECONDS_A_DAY
        cuts = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(day)]
        for first, stop in pairwise(cuts):
            part, today = knowledge[first:stop], self.days.setdefault(int(day[first]), Day())
            today.events += len(part)
            today.matured += int((part != YOUNG).sum())
            today.labelled += int((part >= LEGITIMATE).sum())
            today.frauds += int((part == FRAUD).sum())
            seen = self._today.add(int(day[first]), [own[first:stop] for own in numbers.values()])
            today.accounts, today.merchants = seen

    def _add_labels(self, observed: Observed, knowledge: Numbers, hash_of_id: Hashes) -> None:
        labelled = observed.known >= 0
        self.known_early += int((labelled & (knowledge == YOUNG)).sum())
        timed = np.flatnonzero(labelled & (observed.given_at > 0))
        delay = (observed.given_at[timed] - observed.events.occurred_at[timed]) / MILLISECONDS_A_DAY
        self.timed_labels += len(timed)
        self.labelled_before += int((delay < 0).sum())
        self.delays.add(hash_of_id[timed], np.stack([delay, observed.known[timed] == 1], axis=1))

    def _add_samples(
        self, knowledge: Numbers, hash_of_id: Hashes, own: list[Floats], features: npt.NDArray[np.float32] | None
    ) -> None:
        columns = np.stack(own, axis=1)
        if self.features:
            assert features is not None
            columns = np.concatenate([columns, features], axis=1)
        for sample, chosen in ((self.frauds, knowledge == FRAUD), (self.others, is_other(knowledge))):
            sample.add(hash_of_id[chosen], columns[chosen])


def is_other(knowledge: Numbers) -> npt.NDArray[np.bool_]:
    """Matured and no known fraud."""
    return np.isin(knowledge, (UNLABELLED, LEGITIMATE))


def feature_column(name: str) -> str:
    return f"feature {name}"


def amount_bins(amount: Floats) -> Numbers:
    return np.clip(np.log1p(amount) / AMOUNT_WIDTH, 0, AMOUNT_BINS - 1).astype(np.int64)


class _Entities:
    """Accounts or merchants: how many events each has, and what its id looks like."""

    def __init__(self) -> None:
        self._numbers = _EntityNumbers()
        self._pattern = np.zeros(1024, np.int64)
        self._events = np.zeros(1024, np.int64)

    @property
    def events(self) -> Numbers:
        return self._events[: len(self._numbers)]

    def add(self, ids: Sequence[str], counts: ValueCounts, patterns: "_Patterns") -> tuple[Numbers, Numbers]:
        """Of each event the number of its entity, and the bin of that one's pattern."""
        known = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, ids), np.int64, len(ids))
        while len(self._numbers) > len(self._events):
            self._events = np.pad(self._events, (0, len(self._events)))
            self._pattern = np.pad(self._pattern, (0, len(self._pattern)))
        fresh, self._numbers.fresh = self._numbers.fresh, []
        self._pattern[known : len(self._numbers)] = counts.bins_of(patterns.of(fresh)[0])
        np.add.at(self._events, numbers, 1)
        return numbers, self._pattern[numbers]


class _EntityNumbers(dict[str, int]):
    """Id -> its number, counted in the order of appearance; fresh: those that came since it was emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh: list[str] = []

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        self.fresh.append(name)
        return number


class _Patterns(dict[str, str]):
    """What an id looks like: runs of digits, and of hexadecimal digits with one among them, as one 9, and its length.
    Remembers what stands before the digits at the end."""

    def __missing__(self, stem: str) -> str:
        if len(self) > MOST_PATTERNS:
            self.clear()
        self[stem] = _RANDOM.sub("9", stem)[:40]
        return self[stem]

    def of(self, ids: Collection[str]) -> tuple[list[str], Floats]:
        """The patterns, and the numbers at the ends, NaN where there is none."""
        stems = [name.rstrip(DIGITS) for name in ids]
        found, numbers = [], []
        for name, stem in zip(ids, stems, strict=True):
            digits = len(name) - len(stem)
            found.append(f"{self[stem]}{'9' if digits else ''} ({len(name)} characters)")
            numbers.append(float(name[len(stem) :]) if 0 < digits <= MOST_DIGITS else np.nan)
        return found, np.array(numbers, np.float64)


class _Today:
    """How many different numbers the latest day has shown in each of some columns."""

    def __init__(self) -> None:
        self._day: int | None = None
        self._seen: list[Numbers] = []

    def add(self, day: int, columns: list[Numbers]) -> list[int]:
        if day != self._day:
            self._day, self._seen = day, [np.zeros(0, np.int64) for _ in columns]
        self._seen = [np.union1d(seen, column) for seen, column in zip(self._seen, columns, strict=True)]
        return [len(seen) for seen in self._seen]
