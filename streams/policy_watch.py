"""A new policy between two batches: a thread finds and loads it, the compute thread takes it over.

The registry says which version is champion; it is asked every two seconds. Without one, everyone gets what is popular.
A file that is missing, damaged or foreign is refused: the policy in use goes on, and the operator is told. A policy
that has no answer for users is withdrawn, and the registry makes the one before it champion again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.artifact import BadModel
from models.policy import TrainedPolicy
from models.recommending import Recommender
from models.running_policy import RunningPolicy
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from streams.recommendation_metrics import RecommendationMetrics
from streams.swap import Tell

log = structlog.get_logger(__name__)

POLICY_NAME, POLICY_KIND = "recommender", "policy"
#: Users without an answer after which a policy is withdrawn.
MOST_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Ready:
    """What the compute thread has to take over; without a policy everyone gets what is popular."""

    record: ModelRecord | None = None
    running: RunningPolicy | None = None


class PolicyWatch:
    """`look` is the thread's, everything else the compute thread's."""

    def __init__(
        self,
        registry: ModelRegistry,
        recommender: Recommender,
        metrics: RecommendationMetrics,
        tell: Tell,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._recommender = recommender
        self._metrics = metrics
        self._tell = tell
        self._clock = clock
        self._seen: tuple[int, datetime | None] | None = None
        self._ready: Ready | None = None
        self._current: ModelRecord | None = None
        self._failures = 0
        self._to_withdraw: list[tuple[ModelRecord, str]] = []
        self._lock = threading.Lock()

    def look(self) -> None:
        """One look at the registry. Raises DatabaseUnavailable."""
        while self._to_withdraw:
            record, why = self._to_withdraw[0]
            self._registry.withdraw(record, why, self._clock)
            self._to_withdraw.pop(0)
        champion = self._registry.champion(POLICY_NAME)
        seen = None if champion is None else (champion.version, champion.promoted_at)
        if seen == self._seen:
            return
        ready = Ready() if champion is None else self._loaded(champion)
        self._seen = seen
        if ready is not None:
            with self._lock:
                self._ready = ready

    def take(self) -> str:
        """Between two batches: puts a waiting policy into the recommender; the name of the one in use."""
        if self._ready is not None:
            with self._lock:
                ready, self._ready = self._ready, None
            if ready is not None:
                self._use(ready)
        return self._recommender.policy

    def failed(self, users: int) -> None:
        """The policy in use had no answer for so many users."""
        self._failures += users
        if self._current is not None and self._failures >= MOST_FAILURES:
            why = f"it had no answer for {self._failures} users"
            self._to_withdraw.append((self._current, why))
            log.error("policy withdrawn", policy=str(self._current), why=why)
            self._tell(f"policy {self._current} is withdrawn: {why}; what is popular goes on until another takes over")
            self._metrics.policy_swapped("withdrawn")
            self._use(Ready())

    def _loaded(self, champion: ModelRecord) -> Ready | None:
        try:
            policy = TrainedPolicy.from_bytes(self._registry.load(champion))
            running = self._recommender.prepare(policy)
        except (BadModel, CorruptModel) as error:
            log.error("policy refused", policy=str(champion), why=str(error))
            self._metrics.policy_swapped("refused")
            self._tell(f"policy {champion} is refused: {error}; what is in use goes on")
            return None
        return Ready(champion, running)

    def _use(self, ready: Ready) -> None:
        self._current, self._failures = ready.record, 0
        if ready.record is None:
            self._recommender.use_policy(None)
            self._metrics.policy_in_use(0)
            return
        self._recommender.use_policy(ready.running, str(ready.record))
        self._metrics.policy_in_use(ready.record.version)
        self._metrics.policy_swapped("activated")
        log.info("policy in use", policy=str(ready.record))
