"""What the demo sees of the recommender: slates and what they earned, by policy, from SQL."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, text

from ops.demo.readings import LEAST_SQL_SECONDS, QUERY_SHARE, read_sample
from storage.database import Database, DatabaseUnavailable
from storage.tables import UtcTimestamp

RANDOM = "random"
#: What a policy of its own is called, before its version.
TRAINED = "recommender:"
#: A slate counts once its shopper did something with it: an engagement makes a new slate, so most of them are replaced
#: before anybody looks, and that has nothing to do with how good they are.
EARNED = """
SELECT policy, count(*), sum(reward) FROM (
    SELECT policy, sum(reward) AS reward FROM slate_answers WHERE made_at >= :since
    GROUP BY day, topic_generation, source_partition, source_offset, policy
) AS looked_at
GROUP BY policy
"""


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """slates: that were looked at; reward: of all of them, so far."""

    policy: str
    slates: int
    reward: float

    @property
    def per_slate(self) -> float:
        return self.reward / self.slates


@dataclass(frozen=True, slots=True)
class ShopFigures:
    """recommendations: slates made; policies: those whose slates were looked at, trained ones by version, then popular
    and random."""

    recommendations: int = 0
    policies: Sequence[PolicyFigures] = ()

    def of(self, name: str) -> PolicyFigures | None:
        return next((each for each in self.policies if each.policy == name), None)

    @property
    def lift(self) -> float | None:
        """How much more a slate of all trained versions earns than one of the random holdout, as a share; None where
        there is nothing to compare."""
        trained = [each for each in self.policies if each.policy.startswith(TRAINED)]
        return lift(
            PolicyFigures(TRAINED, sum(each.slates for each in trained), sum(each.reward for each in trained)),
            self.of(RANDOM),
        )


def lift(policy: PolicyFigures, random: PolicyFigures | None) -> float | None:
    if random is None or not random.slates or random.per_slate <= 0 or not policy.slates:
        return None
    return policy.per_slate / random.per_slate - 1


class ShopReadings:
    """since: slates made before are not this run's. clock in seconds. What does not answer keeps its last figures."""

    def __init__(
        self, *, worker_url: str, topic: str, database: Database, since: datetime, clock: Callable[[], float]
    ) -> None:
        self._worker_url = worker_url
        self._topic = topic
        self._applied = 0.0
        self._database = database
        self._since = since
        self._clock = clock
        self._figures = ShopFigures()
        self._ask_at = -math.inf

    def applied(self) -> float:
        """Engagements that the worker has stored."""
        with suppress(OSError):
            self._applied = read_sample(self._worker_url, self._topic).applied
        return self._applied

    def figures(self, *, now: bool = False) -> ShopFigures:
        """At this moment with `now`, else some seconds old where the query is slow."""
        began = self._clock()
        if now or began >= self._ask_at:
            with suppress(DatabaseUnavailable), self._database.reading() as connection:
                self._figures = self._ask(connection)
            ended = self._clock()
            self._ask_at = ended + max(LEAST_SQL_SECONDS, (ended - began) / QUERY_SHARE)
        return self._figures

    def _ask(self, connection: Connection) -> ShopFigures:
        since = bindparam("since", self._since, UtcTimestamp())
        made = text("SELECT count(*) FROM recommendations WHERE made_at >= :since").bindparams(since)
        rows = connection.execute(text(EARNED).bindparams(since)).all()
        policies = [PolicyFigures(policy, int(slates), float(reward)) for policy, slates, reward in rows]
        return ShopFigures(int(connection.execute(made).scalar_one()), sorted(policies, key=_place))


def _place(figures: PolicyFigures) -> tuple[bool, int, str]:
    version = figures.policy.removeprefix(TRAINED)
    is_trained = version != figures.policy and version.isdigit()
    return not is_trained, int(version) if is_trained else 0, figures.policy
