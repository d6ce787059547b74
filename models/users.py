"""What is remembered of users beside a network's state: rings of their newest engagements, purchases and dislikes.

One slot a user, in an arena per (partition, user) as accounts have it (state.py). Nothing here knows a policy.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.duplicates import find_duplicates
from models.engagements import DISLIKE, IMPRESSION, PURCHASE, Engagements
from models.features import times_and_gaps
from models.hashing import hashes
from models.runs import Runs, find_runs, write_ring
from models.slots import Slots
from models.state import EVENT_IDS, NEVER, Arena

RECENT = 32
SHOWN = 24
BOUGHT = 16
DISLIKED = 16

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NotedBatch:
    """The m accepted engagements of a batch, sorted by user and then by arrival.

    slot int64[n] and duplicate bool[n]: of all events; rows int64[m]: the batch row of each sorted row; key int64[m]:
    of its item; action int8[m]; value float32[m], NaN for none; gap float32[m]: seconds since the user's engagement
    before it, NaN for his first; told int64[m]: his engagements so far that were no impressions, this one included.
    """

    slot: Rows
    duplicate: npt.NDArray[np.bool_]
    runs: Runs
    rows: Rows
    key: Rows
    action: npt.NDArray[np.int8]
    value: npt.NDArray[np.float32]
    gap: npt.NDArray[np.float32]
    told: Rows


@dataclass(frozen=True, slots=True)
class RecentEngagements:
    """m engagements of k users, sorted by slot and then by age, oldest first; columns as in NotedBatch."""

    runs: Runs
    key: Rows
    action: npt.NDArray[np.int8]
    value: npt.NDArray[np.float32]
    gap: npt.NDArray[np.float32]


class Users:
    """Owns the users' state but for the network's. `note` moves it on by one batch."""

    def __init__(self, capacity: int = 1024) -> None:
        self.slots = Slots()
        self.arena = Arena(
            {
                "last_time": ((), "int64", NEVER),
                "slate_at": ((), "int64", NEVER),
                "events": ((), "int64", 0),
                "told": ((), "int64", 0),
                "event_ids": ((EVENT_IDS,), "uint64", 0),
                "keys": ((RECENT,), "int64", 0),
                "actions": ((RECENT,), "int8", 0),
                "values": ((RECENT,), "float32", 0),
                "gaps": ((RECENT,), "float32", 0),
                "shown": ((SHOWN,), "int64", 0),
                "shown_at": ((SHOWN,), "int64", NEVER),
                "shown_count": ((), "int64", 0),
                "bought": ((BOUGHT,), "int64", 0),
                "bought_count": ((), "int64", 0),
                "disliked": ((DISLIKED,), "int64", 0),
                "disliked_count": ((), "int64", 0),
            },
            capacity,
        )

    @property
    def with_history(self) -> Rows:
        """The slots of all users that have had engagements."""
        return np.flatnonzero(self.arena.arrays["events"][: self.slots.highest])

    def find(self, events: Engagements) -> Rows:
        """int64[n]: the users' slots, given out now to those unseen."""
        slots, _ = self.slots.find(events.partition, events.user_id)
        self.arena.grow_to(self.slots.highest)
        return slots

    def drop_partition(self, partition: int) -> Rows:
        """Returns the slots that are free now, cleared."""
        freed = self.slots.drop(partition)
        self.arena.clear(freed)
        return freed

    def note(self, events: Engagements, keys: Rows) -> NotedBatch:
        """keys int64[n]: of the items."""
        slots, state = self.find(events), self.arena.arrays
        event_hash = hashes(events.event_id)
        duplicate = find_duplicates(state["event_ids"], state["events"], slots, event_hash)
        accepted = np.flatnonzero(~duplicate)
        runs = find_runs(slots[accepted])
        rows = accepted[runs.order]
        slot, last = runs.slot, runs.last
        time, gap = times_and_gaps(events.occurred_at[rows], state["last_time"][slot], runs)
        action, value = events.action[rows], events.value[rows].astype(np.float32)
        before, told = state["events"][slot], _counted(action != IMPRESSION, runs) + state["told"][slot]
        seconds = np.where(before + runs.rank == 0, np.nan, gap / 1000).astype(np.float32)
        for name, entries in (
            ("event_ids", event_hash[rows]),
            ("keys", keys[rows]),
            ("actions", action),
            ("values", value),
            ("gaps", seconds),
        ):
            write_ring(state[name], entries, before, runs)
        self._remember(action == IMPRESSION, slot, "shown_count", {"shown": keys[rows], "shown_at": time})
        self._remember(action == PURCHASE, slot, "bought_count", {"bought": keys[rows]})
        self._remember(action == DISLIKE, slot, "disliked_count", {"disliked": keys[rows]})
        self.slots.moved_on(slot[last], events.offset[rows[last]])
        state["last_time"][slot[last]] = time[last]
        state["events"][slot[last]] = before[last] + runs.rank[last] + 1
        state["told"][slot[last]] = told[last]
        return NotedBatch(slots, duplicate, runs, rows, keys[rows], action, value, seconds, told)

    def recent(self, slots: Rows) -> RecentEngagements:
        """What the rings hold of users (each once, with at least one engagement)."""
        slots, state = np.sort(slots), self.arena.arrays
        events = state["events"][slots]
        held = np.minimum(events, RECENT)
        runs = find_runs(np.repeat(slots, held))
        place = (np.repeat(events - held, held) + runs.rank) % RECENT
        columns = (state[name][runs.slot, place] for name in ("keys", "actions", "values", "gaps"))
        return RecentEngagements(runs, *columns)

    def _remember(
        self, which: npt.NDArray[np.bool_], slot: Rows, counter: str, entries: dict[str, npt.NDArray[np.int64]]
    ) -> None:
        """Appends the chosen sorted rows to rings that count for themselves."""
        if not which.any():
            return
        state, runs = self.arena.arrays, find_runs(slot[which])
        before = state[counter][runs.slot]
        for name, values in entries.items():
            write_ring(state[name], values[which], before, runs)
        state[counter][runs.slot[runs.last]] = before[runs.last] + runs.rank[runs.last] + 1


def _counted(which: npt.NDArray[np.bool_], runs: Runs) -> Rows:
    """int64[m]: how many of a run's rows up to each one are marked."""
    total = np.cumsum(which)
    before = np.zeros(len(which), np.int64)
    if len(which):
        before = np.repeat((total - which)[runs.first], runs.last - runs.first + 1)
    return np.asarray(total - before, np.int64)
