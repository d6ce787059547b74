"""What keeps the state of accounts and users beyond memory: from settings to the snapshots and the cold tier of both
topics. Composition only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from models.residents import Kept
from ops.clock import utc_now
from ops.settings import Settings
from storage.database import Database
from storage.snapshots import SnapshotFiles
from streams.patience import Wait
from streams.snapshots import Cadence, Snapshots
from streams.state_keeping import StateKeeping, StateRules
from streams.state_metrics import StateMetrics

#: Newcomers have slots before others leave theirs.
BATCH_ROOM = 65_536
#: Of address space: four GiB for accounts and as much for users. What goes beyond grows by doubling.
MOST_RESERVED = 2_000_000


@dataclass(frozen=True, slots=True)
class StatePart:
    """Builds the state keeping of each topic, and remembers it by topic."""

    rules: StateRules
    database: Database
    wait: Wait
    metrics: StateMetrics
    _snapshots: dict[str, Snapshots] = field(default_factory=dict)

    def keeping(self, topic: str, kept: Kept, drop: Callable[[int], None]) -> StateKeeping:
        keeping = StateKeeping(topic, kept, drop, self.rules, self.database, self.wait, utc_now, self.metrics)
        self._snapshots[topic] = keeping.snapshots
        return keeping

    @property
    def snapshots(self) -> Mapping[str, Snapshots]:
        """By topic: threads to be run, and told of commits."""
        return self._snapshots


def slots_to_reserve(settings: Settings) -> int:
    """As many as accounts, or users, can have at a time, within bounds; those that nobody has cost no memory."""
    return min(settings.most_resident, MOST_RESERVED) + BATCH_ROOM


def state_rules(settings: Settings) -> StateRules:
    """Raises ValueError for a place that fsspec does not know."""
    try:
        files = SnapshotFiles(settings.state)
    except ImportError as error:  # the store's own package
        raise ValueError(str(error)) from error
    return StateRules(files, Cadence(settings.snapshot_seconds), settings.most_resident)
