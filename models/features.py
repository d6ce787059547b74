"""From events and what is remembered to the model's inputs: one vectorised code for live, replay and training.

Each event sees its account and merchant as they were just before it, plus itself. The result does not depend on how
the log is cut into batches. Merchants are counted per partition: accounts are spread evenly over partitions, so a
partition's merchant counts are an unbiased sample of all (docs/detector.md says what that costs).
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.events import Events
from models.hashing import HashMemory, MemoBuckets, hashes
from models.runs import Runs, decayed_before, find_runs, running_maximum, window, write_ring
from models.state import (
    EVENT_IDS,
    FEATURE_ROWS,
    LOG_AMOUNTS,
    NEVER,
    POSITIONS,
    Slots,
    account_arena,
    merchant_arena,
)

FEATURE_SCHEMA = 1

HOUR, DAY = 3_600_000.0, 86_400_000.0
#: Time constants of the decayed sums, in milliseconds.
ACCOUNT_COUNT_TAUS = (HOUR, DAY, 7 * DAY, 30 * DAY)
ACCOUNT_AMOUNT_TAUS = (DAY, 7 * DAY, 30 * DAY)
MERCHANT_TAUS = (DAY, 7 * DAY, 30 * DAY)
#: Account sums: counts, amounts, then log-amount and its square over 30 days, then near-limit events over 7 days.
ACCOUNT_TAUS = np.array((*ACCOUNT_COUNT_TAUS, *ACCOUNT_AMOUNT_TAUS, 30 * DAY, 30 * DAY, 7 * DAY))
MERCHANT_SUM_TAUS = np.array((*MERCHANT_TAUS, *MERCHANT_TAUS))

FEATURES = (
    "amount", "amount_to_median", "amount_deviation", "gap",
    "hour_sin", "hour_cos", "weekday_sin", "weekday_cos",
    "account_count_hour", "account_count_day", "account_count_week", "account_count_month",
    "amount_to_day_mean", "amount_to_week_mean", "amount_to_month_mean",
    "merchant_count_day", "merchant_count_week", "merchant_count_month",
    "amount_to_merchant_week", "amount_to_merchant_month",
    "new_merchant", "new_country", "history",
    "below_limit", "below_limit_count", "account_amount_day",
)  # fmt: skip
CATEGORIES = ("merchant", "category", "channel", "country")
CATEGORY_BUCKETS = (2048, 64, 16, 64)
MEMO_BUCKETS, MEMO_WORDS = 512, 8
LARGEST = 20.0
ODD = np.uint64(0x9E3779B97F4A7C15)
#: An account's first event has no gap; it counts as the longest time constant.
FIRST_GAP_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """The m accepted events of a batch, sorted by account and then by arrival (runs.order gives batch rows).

    features float32[m, F] in natural units; categories int64[m, 4] bucket numbers; memos int64[m, 8] or None when no
    event has one; usual float32[m]: median of the account's recent amounts in base currency, NaN without history;
    duplicate bool[n]; rows int64[m]: the batch row of each accepted event in arrival order; age int64[m]: the
    account's events before this one.
    """

    runs: Runs
    features: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int64]
    memos: npt.NDArray[np.int64] | None
    usual: npt.NDArray[np.float32]
    age: npt.NDArray[np.int64]
    duplicate: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]

    @property
    def batch_rows(self) -> npt.NDArray[np.int64]:
        """The batch row of each sorted row."""
        return self.rows[self.runs.order]


class FeatureBuilder:
    """Owns the state of accounts and merchants but for the network's. `build` moves it on by one batch."""

    def __init__(self, reporting_limit: float, capacity: int = 1024) -> None:
        self._limit = reporting_limit
        self.account_slots = Slots()
        self.merchant_slots = Slots()
        self.accounts = account_arena(
            capacity, features=len(FEATURES), categories=len(CATEGORIES), sums=len(ACCOUNT_TAUS)
        )
        self.merchants = merchant_arena(capacity, sums=len(MERCHANT_SUM_TAUS))
        self._texts = HashMemory()
        self._memos = MemoBuckets(MEMO_BUCKETS, MEMO_WORDS)

    def drop_partition(self, partition: int) -> npt.NDArray[np.int64]:
        """Returns the account slots that are free now, cleared."""
        freed = self.account_slots.drop(partition)
        self.accounts.clear(freed)
        self.merchants.clear(self.merchant_slots.drop(partition))
        return freed

    def build(self, events: Events) -> FeatureBatch:
        slots = self.account_slots.find(events.partition, events.account_id)
        self.accounts.grow_to(self.account_slots.highest)
        event_hash = hashes(events.event_id)
        duplicate = self._duplicates(slots, event_hash)
        if duplicate.any():
            rows = np.flatnonzero(~duplicate)
            events, slots, event_hash = events.take(rows), slots[rows], event_hash[rows]
        else:
            rows = np.arange(len(events))
        runs = find_runs(slots)
        return self._build(events, runs, event_hash[runs.order], duplicate, rows)

    def _build(
        self,
        events: Events,
        runs: Runs,
        event_hash: npt.NDArray[np.uint64],
        duplicate: npt.NDArray[np.bool_],
        rows: npt.NDArray[np.int64],
    ) -> FeatureBatch:
        count, order, state = len(events), runs.order, self.accounts.arrays
        time = events.occurred_at[order]
        amount = events.amount[order]
        log_amount = np.log1p(amount)
        raw_categories = np.stack(
            [self._texts.of(getattr(events, f"{n}_id" if n == "merchant" else n), count) for n in CATEGORIES], 1
        )
        merchant_sums = self._merchant_history(events)
        raw_categories, merchant_sums = raw_categories[order], merchant_sums[order]
        categories = (raw_categories % np.array(CATEGORY_BUCKETS, np.uint64)).astype(np.int64)

        last_time = state["last_time"][runs.slot]
        first_ever = (last_time == NEVER) & (runs.rank == 0)
        time = running_maximum(np.maximum(time, last_time), runs.rank, runs.longest)
        previous = np.where(runs.rank == 0, last_time, np.roll(time, 1))
        gap = np.where(first_ever, 0, time - previous).astype(np.float64)
        near_limit = ((amount >= 0.8 * self._limit) & (amount < self._limit)).astype(np.float64)
        added = _account_additions(amount, log_amount, near_limit)
        sums = decayed_before(
            np.exp(-gap[:, None] / ACCOUNT_TAUS), state["sums"][runs.slot], added, runs.rank, runs.longest
        )
        age = state["events"][runs.slot] + runs.rank
        before = state["events"][runs.slot]

        merchant_hash = (raw_categories[:, 0] >> np.uint64(32)).astype(np.uint32)
        recent_amounts = window(state["log_amounts"], log_amount.astype(np.float32), before, runs)
        recent_merchants = window(state["merchants"], merchant_hash, before, runs)
        recent_categories = window(state["category_rows"].view("V8")[:, :, 0], _packed(categories), before, runs)
        countries = recent_categories.view(np.uint16).reshape(count, FEATURE_ROWS, len(CATEGORIES))[:, :, 3]
        held = np.minimum(age, countries.shape[1])
        new_country = (countries != categories[:, 3:4]).all(1) & (held > 0)
        median = _median(recent_amounts, np.minimum(age, LOG_AMOUNTS))
        features = _assemble(
            time, amount, log_amount, median, gap, first_ever, sums, merchant_sums, age,
            new_merchant=(recent_merchants != merchant_hash[:, None]).all(1) & (age > 0),
            new_country=new_country, near_limit=near_limit,
        )  # fmt: skip

        last = runs.last
        state["sums"][runs.slot[last]] = sums[last] + added[last]
        state["last_time"][runs.slot[last]] = time[last]
        write_ring(state["log_amounts"], log_amount.astype(np.float32), before, runs)
        write_ring(state["merchants"], merchant_hash, before, runs)
        write_ring(state["event_ids"], event_hash, before, runs)
        write_ring(state["feature_rows"], features.astype(np.float16), before, runs)
        write_ring(state["category_rows"], categories.astype(np.uint16), before, runs)
        write_ring(state["offsets"], events.offset[order], before, runs)
        write_ring(state["days"], events.day[order], before, runs)
        state["events"][runs.slot[last]] = age[last] + 1
        usual = np.where(age > 0, np.expm1(median), np.nan).astype(np.float32)
        return FeatureBatch(runs, features, categories, self._memo_buckets(events, order), usual, age, duplicate, rows)

    def recent_positions(self, slot: int, until_offset: int) -> list[tuple[int, int]]:
        """(day, offset) of the account's newest events up to an offset, oldest first."""
        state = self.accounts.arrays
        events = int(state["events"][slot])
        ring = [k % POSITIONS for k in range(max(0, events - POSITIONS), events)]
        positions = [(int(state["days"][slot, k]), int(state["offsets"][slot, k])) for k in ring]
        return [position for position in positions if position[1] <= until_offset]

    def _merchant_history(self, events: Events) -> npt.NDArray[np.float64]:
        """The merchant's decayed sums before each event, in arrival order; moves the merchants on."""
        slots = self.merchant_slots.find(events.partition, events.merchant_id)
        self.merchants.grow_to(self.merchant_slots.highest)
        runs, state = find_runs(slots), self.merchants.arrays
        last_time = state["last_time"][runs.slot]
        time = running_maximum(np.maximum(events.occurred_at[runs.order], last_time), runs.rank, runs.longest)
        previous = np.where(runs.rank == 0, last_time, np.roll(time, 1))
        gap = np.where((last_time == NEVER) & (runs.rank == 0), 0, time - previous).astype(np.float64)
        added = np.repeat(np.stack([np.ones(len(events)), events.amount[runs.order]], 1), len(MERCHANT_TAUS), 1)
        sums = decayed_before(
            np.exp(-gap[:, None] / MERCHANT_SUM_TAUS), state["sums"][runs.slot], added, runs.rank, runs.longest
        )
        state["sums"][runs.slot[runs.last]] = sums[runs.last] + added[runs.last]
        state["last_time"][runs.slot[runs.last]] = time[runs.last]
        unsorted_sums = np.empty_like(sums)
        unsorted_sums[runs.order] = sums
        return unsorted_sums

    def _duplicates(self, slots: npt.NDArray[np.int64], event_hash: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Events whose id is among their account's newest accepted ones. Vectorised where there is no candidate;
        an account with one is followed event by event, so that the answer never depends on the batch's cut."""
        duplicate = (self.accounts.arrays["event_ids"][slots] == event_hash[:, None]).any(1)
        key = event_hash + slots.astype(np.uint64) * ODD  # equal for equal pairs, else hardly ever
        ordered = np.sort(key)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(repeated) and not duplicate.any():
            return duplicate
        suspects = np.unique(slots[duplicate | np.isin(key, repeated)])
        for slot in suspects:
            rows = np.flatnonzero(slots == slot)
            duplicate[rows] = self._follow(int(slot), event_hash[rows])
        return duplicate

    def _follow(self, slot: int, event_hash: npt.NDArray[np.uint64]) -> list[bool]:
        state = self.accounts.arrays
        events = int(state["events"][slot])
        newest = range(max(0, events - EVENT_IDS), events)
        recent = deque((int(state["event_ids"][slot, k % EVENT_IDS]) for k in newest), EVENT_IDS)
        answers = []
        for value in event_hash.tolist():
            answers.append(value in recent)
            if not answers[-1]:
                recent.append(value)
        return answers

    def _memo_buckets(self, events: Events, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        if not any(events.memo):
            return None
        return np.array([self._memos[memo] for memo in events.memo], np.int64)[order]


def _account_additions(
    amount: npt.NDArray[np.float64], log_amount: npt.NDArray[np.float64], near_limit: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What an event adds to its account's sums, [m, 10], in the order of ACCOUNT_TAUS."""
    added = np.empty((len(amount), len(ACCOUNT_TAUS)))
    added[:, :4] = 1.0
    added[:, 4:7] = amount[:, None]
    added[:, 7] = log_amount
    added[:, 8] = log_amount**2
    added[:, 9] = near_limit
    return added


def _packed(categories: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """The four bucket numbers of a row as one 8-byte value, as the ring holds them."""
    return np.ascontiguousarray(categories.astype(np.uint16)).view("V8")[:, 0]


def _median(values: npt.NDArray[np.float32], held: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The median of the `held` finite values of each row (empty places are infinite); 0 where there are none."""
    ordered = np.sort(values, axis=1)
    rows = np.arange(len(values))
    upper = ordered[rows, np.maximum(held // 2, 0).clip(max=values.shape[1] - 1)]
    lower = ordered[rows, np.maximum((held - 1) // 2, 0)]
    return np.where(held > 0, (lower + upper) / 2, 0.0).astype(np.float32)


def _assemble(
    time: npt.NDArray[np.int64],
    amount: npt.NDArray[np.float64],
    log_amount: npt.NDArray[np.float64],
    median: npt.NDArray[np.float32],
    gap: npt.NDArray[np.float64],
    first_ever: npt.NDArray[np.bool_],
    sums: npt.NDArray[np.float64],
    merchant_sums: npt.NDArray[np.float64],
    age: npt.NDArray[np.int64],
    *,
    new_merchant: npt.NDArray[np.bool_],
    new_country: npt.NDArray[np.bool_],
    near_limit: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """The feature matrix [m, F], columns as FEATURES names them."""
    known = age > 0
    counts, amounts, near_limit_before = sums[:, :4], sums[:, 4:7], sums[:, 9]
    weight = np.maximum(counts[:, 3], 1e-6)
    mean = sums[:, 7] / weight
    deviation = np.sqrt(np.maximum(sums[:, 8] / weight - mean**2, 0.0))
    hour = time % int(DAY) * (2 * np.pi / DAY)
    weekday = (time // int(DAY) + 4) % 7 * (2 * np.pi / 7)
    result = np.empty((len(time), len(FEATURES)), np.float32)
    result[:, 0] = log_amount
    result[:, 1] = np.where(known, log_amount - median, 0.0)
    result[:, 2] = np.where(known, (log_amount - mean) / (deviation + 0.25), 0.0)
    result[:, 3] = np.log1p(np.where(first_ever, FIRST_GAP_SECONDS, gap / 1000))
    result[:, 4], result[:, 5] = np.sin(hour), np.cos(hour)
    result[:, 6], result[:, 7] = np.sin(weekday), np.cos(weekday)
    result[:, 8:12] = np.log1p(counts)
    means = np.log1p(amounts / np.maximum(counts[:, 1:4], 1e-6))
    result[:, 12:15] = np.where(known[:, None], log_amount[:, None] - means, 0.0)
    result[:, 15:18] = np.log1p(merchant_sums[:, :3])
    merchant_means = np.log1p(merchant_sums[:, 4:6] / np.maximum(merchant_sums[:, 1:3], 1e-6))
    seen = merchant_sums[:, 1:3] > 1e-3
    result[:, 18:20] = np.where(seen, log_amount[:, None] - merchant_means, 0.0)
    result[:, 20], result[:, 21] = new_merchant, new_country
    result[:, 22] = np.log1p(age)
    result[:, 23] = near_limit
    result[:, 24] = np.log1p(near_limit_before)
    result[:, 25] = np.log1p(amounts[:, 0])
    return np.clip(result, -LARGEST, LARGEST, out=result)
