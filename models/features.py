"""From events and what is remembered to the model's inputs: one vectorised code for live, replay and training.

Each event sees its account and merchant as they were just before it, plus itself. The result does not depend on how
the log is cut into batches. Merchants are counted per partition: accounts are spread evenly over partitions, so a
partition's merchant counts are an unbiased sample of all (docs/detector.md says what that costs).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.duplicates import find_duplicates
from models.events import Events
from models.feature_schema import (
    ACCOUNT_SUM_TAUS,
    ACCOUNT_TAUS,
    CATEGORIES,
    CATEGORY_BUCKETS,
    FEATURES,
    FIRST_GAP,
    MEMO_BUCKETS,
    MEMO_PARTS,
    MERCHANT_SUM_TAUS,
    MERCHANT_TAUS,
    Floats,
    Known,
    Rows,
    account_additions,
    feature_matrix,
    is_near_limit,
    merchant_additions,
)
from models.hashing import BucketMemory, hashes
from models.merchant_labels import LABEL_FEATURES, MerchantKnowledge, unexplained_share
from models.runs import Runs, decayed_before, find_runs, running_maximum, window, write_ring
from models.slots import Slots
from models.state import FEATURE_ROWS, LOG_AMOUNTS, NEVER, POSITIONS, account_arena, merchant_arena
from models.text_encoder import DistinctTexts, TextParts

COUNTRY = CATEGORIES.index("country")


@dataclass(frozen=True, slots=True)
class Positions:
    """The newest places in the log of each run's account before the batch: offsets and days [runs, 12], entry k of
    an account at k % 12; events [runs]: how many entries there were."""

    offsets: Rows
    days: npt.NDArray[np.int32]
    events: Rows


@dataclass(frozen=True, slots=True)
class Displaced:
    """What the rings of recent rows held where each accepted row was written to: features float16[m, F], categories
    uint16[m, C]. Of a run, the first 16 rows count."""

    features: npt.NDArray[np.float16]
    categories: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """The m accepted events of a batch, sorted by account and then by arrival.

    features float32[m, F] in the units of feature_schema; categories int64[m, 4] bucket numbers; memos: those given,
    None when no event has one; labels float32[m, 13]: what labels say of the merchant, columns as LABEL_FEATURES names
    them; unexplained float64[m]: how little the account alone explains the amount, 0 to 1; usual float32[m]: median of
    the account's recent amounts in base currency, NaN without history; age int64[m]: the account's events before this
    one; duplicate bool[n]; rows int64[m]: the batch row of each sorted row.
    """

    runs: Runs
    features: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int64]
    memos: DistinctTexts | None
    labels: npt.NDArray[np.float32]
    unexplained: npt.NDArray[np.float64]
    usual: npt.NDArray[np.float32]
    age: npt.NDArray[np.int64]
    duplicate: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    positions: Positions
    displaced: Displaced

    def recent_positions(self, events: Events, place: int) -> list[tuple[int, int]]:
        """(day, offset) of the account's newest events up to the one at a sorted place, itself last, at most 12."""
        run = int(np.searchsorted(self.runs.first, place, side="right")) - 1
        own = self.rows[self.runs.first[run] : place + 1]
        count, ring = int(self.positions.events[run]), self.positions
        before = [k % POSITIONS for k in range(max(0, count - POSITIONS), count)]
        days = [*ring.days[run, before].tolist(), *events.day[own].tolist()]
        offsets = [*ring.offsets[run, before].tolist(), *events.offset[own].tolist()]
        return list(zip(days, offsets, strict=True))[-POSITIONS:]


class FeatureBuilder:
    """Owns the state of accounts and merchants but for the network's. `build` moves it on by one batch."""

    def __init__(self, reporting_limit: float, capacity: int = 1024) -> None:
        """capacity: accounts that there is room for; merchants are few."""
        self._limit = reporting_limit
        self.account_slots = Slots()
        self.merchant_slots = Slots()
        self.accounts = account_arena(
            capacity, features=len(FEATURES), categories=len(CATEGORIES), sums=len(ACCOUNT_SUM_TAUS)
        )
        self.merchants = merchant_arena(1024, sums=len(MERCHANT_SUM_TAUS), labels=len(LABEL_FEATURES))
        self._buckets = [BucketMemory(buckets) for buckets in CATEGORY_BUCKETS[1:]]
        self._memos = TextParts(MEMO_BUCKETS, MEMO_PARTS)
        self._knowledge = MerchantKnowledge.none()

    def use_labels(self, knowledge: MerchantKnowledge) -> None:
        """What labels say of merchants from the next batch on. No state depends on it."""
        self._knowledge = knowledge

    def drop_partition(self, partition: int) -> npt.NDArray[np.int64]:
        """Returns the account slots that are free now, cleared."""
        freed = self.account_slots.drop(partition)
        self.accounts.clear(freed)
        self.merchants.clear(self.merchant_slots.drop(partition))
        return freed

    def slots_with_history(self, events: Events) -> npt.NDArray[np.int64]:
        """The slots of those accounts in a batch that have had events before it, each once."""
        slots, _ = self.account_slots.find(events.partition, events.account_id)
        self.accounts.grow_to(self.account_slots.highest)
        touched = np.unique(slots)
        return touched[self.accounts.arrays["events"][touched] > 0]

    @property
    def accounts_with_history(self) -> npt.NDArray[np.int64]:
        """The slots of all accounts that have had events."""
        return np.flatnonzero(self.accounts.arrays["events"][: self.account_slots.highest])

    def build(self, events: Events) -> FeatureBatch:
        slots, _ = self.account_slots.find(events.partition, events.account_id)
        self.accounts.grow_to(self.account_slots.highest)
        state = self.accounts.arrays
        event_hash = hashes(events.event_id)
        duplicate = find_duplicates(state["event_ids"], state["events"], slots, event_hash)
        accepted = np.arange(len(events))
        if duplicate.any():
            accepted = np.flatnonzero(~duplicate)
            events, slots, event_hash = events.take(accepted), slots[accepted], event_hash[accepted]
        runs = find_runs(slots)
        order = runs.order
        merchant_hash, merchant_sums, labels = self._merchants_before(events)
        merchant_hash, merchant_sums, labels = merchant_hash[order], merchant_sums[order], labels[order]
        categories = self._category_buckets(events, order, merchant_hash)
        known, added, time = self._accounts_before(events, runs, merchant_hash, merchant_sums, categories)
        features = feature_matrix(known)
        first = runs.slot[runs.first]
        positions = Positions(state["offsets"][first], state["days"][first], state["events"][first])

        place = known.age % FEATURE_ROWS
        displaced = Displaced(state["feature_rows"][runs.slot, place], state["category_rows"][runs.slot, place])

        before, last = state["events"][runs.slot], runs.last
        self.account_slots.moved_on(runs.slot[last], events.offset[order[last]])
        state["sums"][runs.slot[last]] = known.sums[last] + added[last]
        state["last_time"][runs.slot[last]] = time[last]
        for name, entries in (
            ("log_amounts", known.log_amount.astype(np.float32)),
            ("merchants", _short(merchant_hash)),
            ("event_ids", event_hash[order]),
            ("feature_rows", features.astype(np.float16)),
            ("category_rows", categories.astype(np.uint16)),
            ("offsets", events.offset[order]),
            ("days", events.day[order]),
        ):
            write_ring(state[name], entries, before, runs)
        state["events"][runs.slot[last]] = known.age[last] + 1
        usual = np.where(known.age > 0, np.expm1(known.median), np.nan).astype(np.float32)
        return FeatureBatch(
            runs=runs,
            features=features,
            categories=categories,
            memos=self._sorted_memos(events, order),
            labels=labels,
            unexplained=unexplained_share(known.log_amount - known.median, known.age > 0),
            usual=usual,
            age=known.age,
            duplicate=duplicate,
            rows=accepted[order],
            positions=positions,
            displaced=displaced,
        )

    def _sorted_memos(self, events: Events, order: Rows) -> DistinctTexts | None:
        found = self._memos.distinct(events.memo)
        if found is None:
            return None
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return DistinctTexts(place[found.rows], found.which, found.parts)

    def _accounts_before(
        self,
        events: Events,
        runs: Runs,
        merchant_hash: npt.NDArray[np.uint64],
        merchant_sums: Floats,
        categories: Rows,
    ) -> tuple[Known, Floats, Rows]:
        """What is known of each sorted event, what it adds to its account's sums, and its account's time with it."""
        state, order, slot = self.accounts.arrays, runs.order, runs.slot
        amount = events.amount[order]
        log_amount = np.log1p(amount)
        near_limit = is_near_limit(amount, self._limit)
        before = state["events"][slot]
        age = before + runs.rank
        time, gap = times_and_gaps(events.occurred_at[order], state["last_time"][slot], runs)
        gap[age == 0] = FIRST_GAP
        added = account_additions(amount, log_amount, near_limit)
        decay = np.exp(gap[:, None] / -ACCOUNT_TAUS)[:, ACCOUNT_SUM_TAUS]
        sums = decayed_before(decay, state["sums"][slot], added, runs)
        recent_amounts = window(state["log_amounts"], log_amount.astype(np.float32), before, runs)
        merchants = window(state["merchants"], _short(merchant_hash), before, runs)
        country = categories[:, COUNTRY]
        countries = window(state["category_rows"][:, :, COUNTRY], country, before, runs)
        known = Known(
            occurred_at=events.occurred_at[order],
            log_amount=log_amount,
            near_limit=near_limit,
            gap=gap,
            age=age,
            median=median_of_held(recent_amounts, np.minimum(age, LOG_AMOUNTS)),
            sums=sums,
            merchant_sums=merchant_sums,
            new_merchant=(merchants != _short(merchant_hash)[:, None]).all(1) & (age > 0),
            new_country=(countries != country[:, None]).all(1) & (age > 0) & (country > 0),
        )
        return known, added, time

    def _merchants_before(self, events: Events) -> tuple[npt.NDArray[np.uint64], Floats, npt.NDArray[np.float32]]:
        """Each merchant's hash, its decayed sums before each event and what labels say of it, in arrival order; moves
        the merchants on."""
        slots, unseen = self.merchant_slots.find(events.partition, events.merchant_id)
        self.merchants.grow_to(self.merchant_slots.highest)
        state = self.merchants.arrays
        state["hash"][slots[unseen]] = hashes([events.merchant_id[row] for row in unseen.tolist()])
        runs = find_runs(slots)
        time, gap = times_and_gaps(events.occurred_at[runs.order], state["last_time"][runs.slot], runs)
        added = merchant_additions(events.amount[runs.order])
        decay = np.exp(gap[:, None] / -MERCHANT_TAUS)[:, MERCHANT_SUM_TAUS]
        sums = decayed_before(decay, state["sums"][runs.slot], added, runs)
        last = runs.slot[runs.last]
        self.merchant_slots.moved_on(last, events.offset[runs.order[runs.last]])
        state["sums"][last] = sums[runs.last] + added[runs.last]
        state["last_time"][last] = time[runs.last]
        in_arrival_order = np.empty_like(sums)
        in_arrival_order[runs.order] = sums
        self._look_up_labels(events, slots, runs)
        return state["hash"][slots], in_arrival_order, state["labels"][slots]

    def _look_up_labels(self, events: Events, slots: Rows, runs: Runs) -> None:
        """Once for each merchant and version of what labels say, at the first event."""
        state, version = self.merchants.arrays, self._knowledge.version
        first = runs.order[runs.first]
        outdated = first[state["label_version"][slots[first]] != version]
        if len(outdated):
            names = [events.merchant_id[row] for row in outdated.tolist()]
            state["labels"][slots[outdated]] = self._knowledge.features(names)
            state["label_version"][slots[outdated]] = version

    def _category_buckets(self, events: Events, order: Rows, merchant_hash: npt.NDArray[np.uint64]) -> Rows:
        """int64 [m, 4], sorted."""
        result = np.empty((len(events), len(CATEGORIES)), np.int64)
        result[:, 0] = 1 + merchant_hash % np.uint64(CATEGORY_BUCKETS[0] - 1)
        columns = (events.category, events.channel, events.country)
        for place, (memory, column) in enumerate(zip(self._buckets, columns, strict=True), start=1):
            result[:, place] = memory.of(column)[order]
        return result


def times_and_gaps(occurred_at: Rows, last_time: Rows, runs: Runs) -> tuple[Rows, Floats]:
    """Each entity's time with each event, which never runs backwards, and the milliseconds since the one before."""
    time = running_maximum(np.maximum(occurred_at, last_time), runs.rank, runs.longest)
    previous = last_time.copy()
    previous[runs.rank > 0] = time[np.flatnonzero(runs.rank > 0) - 1]
    return time, np.where(previous == NEVER, 0, time - previous).astype(np.float64)


def median_of_held(values: npt.NDArray[np.float32], held: Rows) -> npt.NDArray[np.float32]:
    """The median of the `held` finite values of each row (empty places are infinite); 0 where there are none."""
    ordered = np.sort(values, axis=1)
    rows = np.arange(len(values))
    lower, upper = ordered[rows, np.maximum(held - 1, 0) // 2], ordered[rows, held // 2]
    return np.where(held > 0, (lower + upper) / 2, 0.0).astype(np.float32)


def _short(merchant_hash: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """The part that the account's ring of merchants keeps."""
    return (merchant_hash >> np.uint64(32)).astype(np.uint32)
