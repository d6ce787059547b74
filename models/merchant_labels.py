"""What matured labels say of each merchant: rates of frauds, and runs of frauds that the accounts do not explain.

A fraud is explained by its account as far as its amount is out of the account's usual: then the card is the problem.
Frauds whose amounts are usual point at the merchant. Compromised merchants show as a run of such frauds that a
legitimate event ends. Measured on the Fraud Detection Handbook's data, runs and unexplained frauds carry the result
(docs/log.md).

`fold` takes what became known in any portions, each in the order of event time within a merchant; sums decay exactly.
Nothing here decides when something is known (models/labels.py does), and nothing knows accounts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from models.events import MILLISECONDS_A_DAY
from models.runs import find_runs
from models.state import NEVER

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: Counts and rates are natural logarithms; days are at most MOST_DAYS, which also stands for never.
LABEL_FEATURES = (
    "matured_week", "matured_month",
    "fraud_rate_week", "fraud_rate_month",
    "unexplained_rate_week", "unexplained_rate_month",
    "run_open", "run_frauds", "days_since_run_began", "days_since_run_fraud", "days_since_legitimate_before_run",
    "days_since_legitimate", "legitimate_since_run",
)  # fmt: skip
MOST_DAYS = 60.0
#: Rates start at PRIOR_FRAUDS in PRIOR_EVENTS.
PRIOR_FRAUDS, PRIOR_EVENTS = 0.02, 2.0
#: Time constants in milliseconds: a week and a month, as of each kind of sum.
SPANS = np.array((7.0, 30.0)) * MILLISECONDS_A_DAY
#: An amount begins to be explained at twice the account's usual and is so entirely from four times on.
EXPLAINED_FROM, EXPLAINED_AT = np.log(2.0), np.log(4.0)
#: A fraud that is less explained than this begins a run or prolongs it.
OF_A_RUN = 0.5


def unexplained_share(log_amount_to_usual: Floats, has_history: Flags) -> Floats:
    """How little the account alone explains an amount, from 0 to 1; log_amount_to_usual: ln(amount / usual)."""
    explained = np.clip((log_amount_to_usual - EXPLAINED_FROM) / (EXPLAINED_AT - EXPLAINED_FROM), 0.0, 1.0)
    return np.where(has_history, 1.0 - explained, 1.0)


@dataclass(frozen=True, slots=True)
class LabelRecords:
    """k things that became known. fraud bool[k]; unexplained float64[k] as `unexplained_share` gives it; correction
    bool[k]: the event was counted before with the opposite label, else it has just matured."""

    merchant_id: Sequence[str]
    occurred_at: Rows
    fraud: Flags
    unexplained: Floats
    correction: Flags


@dataclass(slots=True)
class MerchantState:
    """Of m merchants; times in epoch milliseconds, NEVER for none. sums float64[m, 6]: events, frauds, unexplained
    frauds, each over a week and a month, as of `as_of`. run_...: the latest run; run_after: the legitimate event
    before it."""

    as_of: Rows
    sums: Floats
    run_open: Flags
    run_frauds: Rows
    run_first: Rows
    run_last: Rows
    run_after: Rows
    latest_legitimate: Rows
    legitimate_since_run: Rows

    @staticmethod
    def empty(merchants: int) -> "MerchantState":
        def never() -> Rows:
            return np.full(merchants, NEVER, np.int64)

        return MerchantState(
            as_of=np.zeros(merchants, np.int64),
            sums=np.zeros((merchants, 2 * 3)),
            run_open=np.zeros(merchants, np.bool_),
            run_frauds=np.zeros(merchants, np.int64),
            run_first=never(),
            run_last=never(),
            run_after=never(),
            latest_legitimate=never(),
            legitimate_since_run=np.zeros(merchants, np.int64),
        )

    def take(self, rows: Rows) -> "MerchantState":
        return MerchantState(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def put(self, rows: Rows, other: "MerchantState") -> None:
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)


@dataclass(frozen=True, slots=True)
class MerchantKnowledge:
    """What one version says. version: its moment in epoch milliseconds; rows: merchant -> row of the state."""

    version: int
    rows: Mapping[str, int]
    state: MerchantState

    @staticmethod
    def none() -> "MerchantKnowledge":
        """Nothing is known of any merchant."""
        return MerchantKnowledge(0, {}, MerchantState.empty(1))

    def features(self, merchant_ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32[m, 13], columns as LABEL_FEATURES names them."""
        rows = np.fromiter((self.rows.get(name, 0) for name in merchant_ids), np.int64, len(merchant_ids))
        return label_features(self.state.take(rows), self.version)


class MerchantLabels:
    """The fold. Row 0 stands for merchants of which nothing is known."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._state = MerchantState.empty(1024)

    def __len__(self) -> int:
        return len(self._rows)

    def fold(self, records: LabelRecords, known_at: int) -> Rows:
        """Takes in what became known until a moment (epoch milliseconds). Returns the rows of the merchants that it
        is about, each once."""
        merchant = self.rows_of(records.merchant_id)
        touched = np.unique(merchant)
        place = np.searchsorted(touched, merchant)
        state = self._state.take(touched)
        _fold_sums(state, place, records, known_at)
        _fold_runs(state, place, records)
        self._state.put(touched, state)
        return touched

    def rows_of(self, merchant_ids: Sequence[str]) -> Rows:
        """The rows of these merchants, new ones for those unseen."""
        rows = self._rows
        found = np.array([rows.setdefault(name, len(rows) + 1) for name in merchant_ids], np.int64)
        if len(rows) + 1 > len(self._state.as_of):
            larger = MerchantState.empty(max(len(rows) + 1, 2 * len(self._state.as_of)))
            larger.put(np.arange(len(self._state.as_of)), self._state)
            self._state = larger
        return found

    def state_of(self, rows: Rows) -> MerchantState:
        """A copy."""
        return self._state.take(rows)

    def restore(self, merchant_ids: Sequence[str], state: MerchantState) -> None:
        """Replaces what is known of these merchants by what another fold knew."""
        rows = self.rows_of(merchant_ids)  # may make room in another state
        self._state.put(rows, state)

    def knowledge(self, version: int) -> MerchantKnowledge:
        """As of the version's moment (epoch milliseconds). Good until the fold goes on: it shares the state."""
        return MerchantKnowledge(version, self._rows, self._state)


def label_features(state: MerchantState, moment: int) -> npt.NDArray[np.float32]:
    """float32[m, 13], columns as LABEL_FEATURES names them."""
    sums = _sums_at(state, moment)
    events, frauds, unexplained = sums[:, :2], np.maximum(sums[:, 2:4], 0.0), np.maximum(sums[:, 4:], 0.0)
    result = np.empty((len(state.as_of), len(LABEL_FEATURES)), np.float32)
    result[:, 0:2] = np.log1p(events)
    result[:, 2:4] = np.log((frauds + PRIOR_FRAUDS) / (events + PRIOR_EVENTS))
    result[:, 4:6] = np.log((unexplained + PRIOR_FRAUDS) / (events + PRIOR_EVENTS))
    result[:, 6] = state.run_open
    result[:, 7] = np.log1p(state.run_frauds)
    times = (state.run_first, state.run_last, state.run_after, state.latest_legitimate)
    for column, time in enumerate(times, start=8):
        result[:, column] = np.clip((moment - time) / MILLISECONDS_A_DAY, 0.0, MOST_DAYS)
    result[:, 12] = np.log1p(state.legitimate_since_run)
    return result


def _sums_at(state: MerchantState, moment: int) -> Floats:
    """Decayed from `as_of` to a moment (epoch milliseconds)."""
    age = np.maximum(moment - state.as_of, 0)[:, None]
    sums: Floats = state.sums * np.tile(np.exp(age / -SPANS), 3)
    return sums


def nothing_known(merchants: int) -> npt.NDArray[np.float32]:
    """The features of merchants of which labels say nothing, float32[merchants, 13]."""
    return label_features(MerchantState.empty(merchants), 0)


def _fold_sums(state: MerchantState, place: Rows, records: LabelRecords, known_at: int) -> None:
    """Everything as of known_at: an event counts by its own age, however late it became known."""
    state.sums = _sums_at(state, known_at)
    weight = np.exp(np.maximum(known_at - records.occurred_at, 0)[:, None] / -SPANS)
    change = np.where(records.fraud, 1.0, np.where(records.correction, -1.0, 0.0))[:, None] * weight
    counted = np.where(records.correction[:, None], 0.0, weight)
    added = np.concatenate([counted, change, change * records.unexplained[:, None]], axis=1)
    for column in range(added.shape[1]):
        state.sums[:, column] += np.bincount(place, added[:, column], minlength=len(state.as_of))
    state.as_of[:] = known_at


def _fold_runs(state: MerchantState, place: Rows, records: LabelRecords) -> None:
    """Of a merchant's events in order, frauds that nothing explains make a run, a legitimate one ends it; frauds that
    the account explains do neither. Only the latest run matters, so it is read off the last of each in a portion."""
    of_run = records.fraud & (records.unexplained > OF_A_RUN)
    telling = np.flatnonzero(of_run | ~records.fraud)
    telling = telling[np.argsort(records.occurred_at[telling], kind="stable")]
    runs = find_runs(place[telling])
    if not len(runs.first):
        return
    rows = telling[runs.order]
    time, fraud = records.occurred_at[rows], of_run[rows]
    number = np.arange(len(rows))
    newest_fraud = np.maximum.accumulate(np.where(fraud, number, -1))[runs.last]
    newest_legitimate = np.maximum.accumulate(np.where(fraud, -1, number))
    merchants = place[rows[runs.first]]
    old = state.take(merchants)
    new = state.take(merchants)

    has_fraud = newest_fraud >= runs.first
    at = np.where(has_fraud, newest_fraud, runs.first)
    before = newest_legitimate[at]  # the legitimate event before the newest fraud
    begins_here = has_fraud & (before >= runs.first)
    first = np.where(begins_here, before + 1, runs.first)
    goes_on = ~begins_here & old.run_open
    frauds = at - first + 1
    _set(new.run_frauds, has_fraud, np.where(goes_on, old.run_frauds + frauds, frauds))
    _set(new.run_first, has_fraud, np.where(goes_on, np.minimum(old.run_first, time[first]), time[first]))
    _set(new.run_last, has_fraud, np.where(goes_on, np.maximum(old.run_last, time[at]), time[at]))
    run_after = np.where(begins_here, time[before], np.where(goes_on, old.run_after, old.latest_legitimate))
    _set(new.run_after, has_fraud, run_after)
    new.run_open = fraud[runs.last]
    length = runs.last - runs.first + 1
    new.legitimate_since_run = np.where(has_fraud, runs.last - at, old.legitimate_since_run + length)
    newest = newest_legitimate[runs.last]
    legitimate = np.where(newest >= runs.first, time[newest], NEVER)
    new.latest_legitimate = np.maximum(old.latest_legitimate, legitimate)
    state.put(merchants, new)


def _set(column: npt.NDArray[Any], where: Flags, values: npt.NDArray[Any]) -> None:
    column[where] = values[where]
