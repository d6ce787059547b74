"""The one place that reads the wall clock for composition; everything below gets a clock passed in."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def epoch_milliseconds() -> int:
    return time.time_ns() // 1_000_000
