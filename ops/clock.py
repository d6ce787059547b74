"""The one place that reads the wall clock for composition; everything below gets a clock passed in."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)
