"""A thread that has other models become champion while the load runs, as `headgate models promote` does.

It registers a few detectors and policies at the start and promotes them in turn; not while the registry is away.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle

from models.feature_schema import FEATURE_SCHEMA
from ops.bench.faults.beside import Beside
from ops.bench.faults.deployment import Deployment
from ops.clock import utc_now
from storage.database import DatabaseUnavailable
from storage.registry import ModelRecord, ModelRegistry
from streams.detection import MODEL_KIND, MODEL_NAME
from streams.policy_watch import POLICY_KIND, POLICY_NAME

WHY = "its turn in the fault benchmark"


class Promotions(Beside):
    """The first of each kind is champion from the beginning on. `next_detector` does at once what the thread does every
    `seconds`; while somebody has `held` it does nothing."""

    def __init__(
        self, deployment: Deployment, detectors: Sequence[bytes], policies: Sequence[bytes], seconds: float
    ) -> None:
        super().__init__("promotions", seconds)
        self.registry = ModelRegistry(deployment.database, str(deployment.models))
        self.detectors = [self._register(MODEL_NAME, MODEL_KIND, FEATURE_SCHEMA, data) for data in detectors]
        self.policies = [self._register(POLICY_NAME, POLICY_KIND, 1, data) for data in policies]
        self._files = detectors
        self._turns = cycle([*self.detectors[1:], *self.policies[1:], *self.detectors[:1], *self.policies[:1]])
        self._detectors = cycle([*self.detectors[1:], *self.detectors[:1]])
        self.held = threading.Lock()
        for first in (self.detectors[0], self.policies[0]):
            self.promote(first)

    def promote(self, record: ModelRecord) -> None:
        """Raises DatabaseUnavailable."""
        self.registry.promote(record.name, record.version, WHY, utc_now)

    def next_detector(self) -> ModelRecord:
        """Makes another detector than the champion the champion."""
        champion = self.registry.champion(MODEL_NAME)
        record = next(one for one in self._detectors if champion is None or one.version != champion.version)
        self.promote(record)
        return record

    def register_detector(self, number: int) -> ModelRecord:
        """One of the detectors once more, as a version of its own that nobody uses yet."""
        return self._register(MODEL_NAME, MODEL_KIND, FEATURE_SCHEMA, self._files[number])

    def _register(self, name: str, kind: str, schema: int, data: bytes) -> ModelRecord:
        return self.registry.register(name, kind, data, feature_schema=schema, metrics={}, clock=utc_now)

    def _act(self) -> None:
        with self.held, suppress(DatabaseUnavailable):
            self.promote(next(self._turns))
