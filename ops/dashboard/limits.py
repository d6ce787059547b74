"""How much one client may ask of the console in a time. Who that is it does not know; time is passed in.

Each limit is a bucket for each caller: full at first, emptied by a piece with each request, filled again as time goes.
Buckets of callers not heard of for longest are forgotten, so that no number of callers fills the memory.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import structlog

from ops.dashboard.errors import ApiError
from ops.dashboard.metrics import DashboardMetrics

log = structlog.get_logger(__name__)

MOST_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """burst: at once; per_second: in the long run."""

    burst: int
    per_second: float


FAILED_LOGINS = Rate(10, 1 / 6)
READS = Rate(600, 100.0)
WRITES = Rate(60, 2.0)


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_at: float
    refused: bool = False


class Limit:
    """One limit. clock: in seconds, never backwards."""

    def __init__(
        self,
        name: str,
        rate: Rate,
        metrics: DashboardMetrics,
        clock: Callable[[], float],
        most_callers: int = MOST_CALLERS,
    ) -> None:
        self._name, self._rate, self._metrics, self._clock = name, rate, metrics, clock
        self._most = most_callers
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str) -> None:
        """Once more by this caller. Raises ApiError."""
        self.check(caller)
        self._bucket(caller).left -= 1

    def check(self, caller: str) -> None:
        """Raises ApiError where this caller has asked too often, and says for how long. One line in the log each time
        that this begins."""
        bucket = self._bucket(caller)
        if bucket.left >= 1:
            bucket.refused = False
            return
        if not bucket.refused:
            bucket.refused = True
            log.warning("a client of the console asks too often", limit=self._name, caller=caller)
        self._metrics.limited(self._name)
        raise too_many(self._name, (1 - bucket.left) / self._rate.per_second)

    def _bucket(self, caller: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._rate.burst, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.left = min(self._rate.burst, bucket.left + (now - bucket.filled_at) * self._rate.per_second)
        bucket.filled_at = now
        return bucket


class Limits:
    """Those of the console: failed logins by address, all else by user, or by address where there is none."""

    def __init__(self, metrics: DashboardMetrics, clock: Callable[[], float]) -> None:
        self.failed_logins = Limit("failed_logins", FAILED_LOGINS, metrics, clock)
        self.reads = Limit("reads", READS, metrics, clock)
        self.writes = Limit("writes", WRITES, metrics, clock)


def too_many(limit: str, seconds: float) -> ApiError:
    wait = max(1, ceil(seconds))
    return ApiError(429, "too_many", f"too many {limit.replace('_', ' ')}: try again in {wait} s", _after(wait))


def caller_at(address: str) -> str:
    """What an address counts as: in IPv6 one client has all addresses of a network of 64 bits."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found if found.version == 4 else found.ipv4_mapped)


def _after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
