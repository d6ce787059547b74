"""Which items are like an item, by the vectors of the champion policy: read when somebody asks for the first time, kept
up to date by a thread from then on."""

import threading
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.artifact import BadModel
from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.policy import TrainedPolicy
from models.recommending import Recommender
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.refreshing import Figures, Refresher
from ops.dashboard.sources import Sources
from storage.catalogue import Positions, catalogue_positions, changed_items
from storage.label_state import begin_snapshot
from storage.registry import CorruptModel, ModelRecord
from streams.catalogue_watch import parts
from streams.policy_watch import POLICY_NAME

log = structlog.get_logger(__name__)

LEAST_SECONDS = 5.0
#: How long the first request waits for the vectors.
FIRST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Similar:
    """items: ids with cosines, the nearest first. policy: None without a champion; loading: not known yet."""

    policy: str | None
    items: list[tuple[str, float]]
    loading: bool = False


class Neighbours:
    """`of` on any thread."""

    def __init__(self, sources: Sources, metrics: DashboardMetrics) -> None:
        self._sources = sources
        # Of a recommender only its catalogue and the policy's vectors are used, no user.
        self._recommender = Recommender(Catalogue(), SlateRules(), capacity=1)
        self._known: Positions = {}
        self._policy: tuple[int, datetime | None] | None = None
        self._in_use: str | None = None
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._started = False
        self._loaded = threading.Event()
        self._refresher = Refresher(
            "neighbours",
            [Figures("neighbours", self._follow)],
            metrics,
            sources.clock,
            least_seconds=LEAST_SECONDS,
        )

    def of(self, item_id: str, count: int) -> Similar:
        with self._starting:
            if not self._started:
                self._started = True
                self._refresher.start()
        if not self._loaded.wait(FIRST_SECONDS):
            return Similar(None, [], loading=True)
        with self._lock:
            if self._in_use is None:
                return Similar(None, [])
            return Similar(self._in_use, self._recommender.similar(item_id, count))

    def stop(self) -> None:
        self._refresher.stop()

    def join(self) -> None:
        self._refresher.join()

    def _follow(self, _now: datetime) -> None:
        """Raises DatabaseUnavailable."""
        self._follow_policy(self._sources.registry.champion(POLICY_NAME))
        if self._in_use is not None:
            self._follow_catalogue()
        self._loaded.set()

    def _follow_policy(self, champion: ModelRecord | None) -> None:
        seen = None if champion is None else (champion.version, champion.promoted_at)
        if seen == self._policy:
            return
        running = None
        if champion is not None:
            try:
                policy = TrainedPolicy.from_bytes(self._sources.registry.load(champion))
                running = self._recommender.prepare(policy)
            except (BadModel, CorruptModel) as error:
                log.warning("the champion policy has no usable vectors", policy=str(champion), error=str(error))
        with self._lock:
            self._in_use = None if running is None else str(champion)
            self._recommender.use_policy(running, str(champion))
        self._policy = seen

    def _follow_catalogue(self) -> None:
        with self._sources.database.reading() as connection:
            begin_snapshot(connection)
            positions = catalogue_positions(connection, self._sources.topic("items"))
            if positions == self._known:
                return
            changed = [part for columns in changed_items(connection, self._known, positions) for part in parts(columns)]
        for part in changed:
            with self._lock:
                self._recommender.catalogue.put(part)
        self._known = positions
