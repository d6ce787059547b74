"""Rates from what stream_progress says at some moments, and figures that are computed in the background."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ops.dashboard.cursors import cursor_of, place_in
from ops.dashboard.errors import ApiError
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.refreshing import Figures, Refresher
from ops.dashboard.throughput import Rates, Throughput
from storage.database import DatabaseUnavailable
from storage.progress import ProgressRow
from tests.deployment import wait_until
from tests.storage.rows import NOON

ROW = ProgressRow("transactions", "u", 1, 0, 1, "w", None, 0, 100, 100, 0, 0, 0)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_rates_are_of_what_came_between_looks() -> None:
    counted = Throughput("transactions", "engagements")
    shop = replace(ROW, topic="engagements", topic_generation=2, next_offset=50, applied=50)

    assert counted.add(NOON, [ROW, shop], 0) == Rates()
    later = replace(shop, next_offset=60, applied=58)
    assert counted.unseen_engagements([ROW, later]) == {(2, 0): (50, 60)}
    assert counted.add(NOON + seconds(2), [replace(ROW, applied=300), later], 6) == Rates(100.0, 4.0, 3.0)


def test_rates_forget_what_is_long_ago_and_never_fall_below_zero() -> None:
    counted = Throughput("transactions", "engagements")
    counted.add(NOON, [ROW], 0)
    for second in range(1, 31):
        rates = counted.add(NOON + seconds(second), [replace(ROW, applied=1_100)], 0)
    assert rates.events == 0.0
    assert counted.add(NOON + seconds(31), [replace(ROW, applied=5)], 0).events == 0.0, "a topic that was made anew"
    new = replace(ROW, partition=1, applied=1_000_000)
    assert counted.add(NOON + seconds(32), [replace(ROW, applied=5), new], 0).events == 0.0


def test_figures_keep_their_last_value_while_a_service_is_away_and_say_of_when_it_is() -> None:
    answers = iter([1, DatabaseUnavailable("gone"), 3])

    def compute(_now: object) -> int:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    figures = Figures("some", compute)
    figures.refresh(NOON)
    assert figures.current == 1
    with pytest.raises(DatabaseUnavailable):
        figures.refresh(NOON + seconds(1))
    assert figures.current is None
    assert figures.latest is not None
    assert (figures.latest.value, figures.latest.moment) == (1, NOON)
    figures.refresh(NOON + seconds(2))
    assert figures.current == 3


def test_figures_count_as_away_while_their_next_computation_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []

    def compute(_now: object) -> int:
        seen.append(figures.current)
        with monkeypatch.context() as patched:
            patched.setattr("ops.dashboard.refreshing.HANGING_SECONDS", -1.0)
            seen.append(figures.current)
        return 1

    figures = Figures("some", compute)
    figures.refresh(NOON)
    figures.refresh(NOON)
    assert seen == [None, None, 1, None]
    assert figures.current == 1


def test_a_refresher_goes_on_after_failures_and_counts_them() -> None:
    metrics = DashboardMetrics()
    broken = Figures("broken", lambda _now: 1 // 0)
    sound = Figures("sound", lambda _now: 7)
    refresher = Refresher("test", [broken, sound], metrics, lambda: NOON, least_seconds=0.001)
    refresher.start()

    def failures() -> float:
        name = "headgate_dashboard_refresh_failures_total"
        return metrics.registry.get_sample_value(name, {"figures": "broken"}) or 0.0

    wait_until("it has failed three times", lambda: failures() >= 3, 30)
    refresher.stop()
    refresher.join()
    assert sound.current == 7


def test_a_cursor_brings_its_place_back_and_no_other_text_does() -> None:
    place = [NOON, "an id", 3, 0.5]
    kinds = [type(part) for part in place]
    assert place_in(cursor_of(place), kinds) == place
    for wrong in ("", "x", "bnVsbA", cursor_of([1]), cursor_of([NOON, "an id", 3, True])):
        with pytest.raises(ApiError):
            place_in(wrong, kinds)
