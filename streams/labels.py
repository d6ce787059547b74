"""What labels say of merchants, in use: a thread keeps up with the versions in SQL and has them made, the compute
thread takes the newest between two batches.

A version is due at each full hour; whichever worker finds first that it is missing makes it, for all
(streams/label_versions.py). A database that is away delays versions and nothing else: the one before stays in use.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import structlog

from models.merchant_labels import MerchantKnowledge, MerchantLabels
from models.scoring import Scorer
from storage.database import Database
from storage.exclusive import AlreadyRunning, exclusively
from storage.label_state import begin_snapshot, merchants_since, newest_version
from streams.health import FlowMetrics
from streams.label_versions import make_version, milliseconds_of, restore, version_hour

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
LOCK = "label-version"


class LabelWatch:
    """`look` and `load` are the thread's, `take` is the compute thread's. horizon: from an event to its maturity."""

    def __init__(
        self, database: Database, metrics: FlowMetrics, clock: Callable[[], datetime], *, horizon: timedelta
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._horizon = horizon
        self._merchants = MerchantLabels()
        self._loaded = 0
        self._known_at: datetime | None = None
        self._ready: tuple[str, MerchantKnowledge] | None = None
        self._in_use: str | None = None

    def look(self) -> None:
        """Loads the newest version, after making it where it is due. Raises DatabaseUnavailable."""
        self.load()
        if self._known_at is not None and self._known_at >= version_hour(self._clock()):
            return
        try:
            with exclusively(self._database, LOCK):
                made = make_version(self._database, self._clock(), self._horizon)
        except AlreadyRunning:
            return  # it is there at one of the next looks
        if made is not None:
            log.info("labels are brought up to date", version=made.version, known_at=made.known_at.isoformat())
        self.load()

    def load(self) -> None:
        """Has what changed since the version at hand ready for `take`. Raises DatabaseUnavailable."""
        with self._database.reading() as connection:
            begin_snapshot(connection)
            version = newest_version(connection)
            if version is None or version.version == self._loaded:
                return
            for columns in merchants_since(connection, self._loaded):
                restore(self._merchants, columns)
        self._loaded, self._known_at = version.version, version.known_at
        self._ready = str(version.version), _copied(self._merchants, milliseconds_of(version.known_at))
        self._metrics.labels_in_use(version.known_at.timestamp(), len(self._merchants))

    def take(self, scorer: Scorer) -> str | None:
        """Gives the scorer the newest version, between two batches; the number of the one in use, None without any."""
        ready = self._ready
        if ready is not None and ready[0] != self._in_use:
            self._in_use = ready[0]
            scorer.use_labels(ready[1])
        return self._in_use


def _copied(merchants: MerchantLabels, version: int) -> MerchantKnowledge:
    """The fold goes on in its own thread, which must not show in the other."""
    shared = merchants.knowledge(version)
    rows = dict(shared.rows)
    return MerchantKnowledge(version, rows, shared.state.take(np.arange(len(rows) + 1)))
