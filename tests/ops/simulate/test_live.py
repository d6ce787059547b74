"""Live traffic: a Poisson process in real time that waits for nobody and does not depend on who asks when."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.simulate.cards import BadSimulation, SimulationConfig, simulate
from ops.simulate.labels import LabelDelay
from ops.simulate.live import LiveBatch, LiveConfig, LiveTraffic, batches, time_scale
from ops.simulate.scenarios import SCENARIO_NAMES

START = 1_790_000_000_000
MINUTE = 60_000
SLOW = LiveConfig(
    start=START, accounts=200, merchants=60, rate=20.0, fraud_share=0.2, label_delay=LabelDelay(1_000, 4_000)
)


def events(batch: LiveBatch) -> list[tuple[Any, ...]]:
    return list(zip(*(list(column) for column in batch.transactions.columns().values()), strict=True))


def labels(batch: LiveBatch) -> list[tuple[Any, ...]]:
    given = batch.labels.given_at.tolist()
    return list(zip(batch.labels.event_ids(), batch.labels.label_names(), given, strict=True))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 12_000), max_size=8))
def test_output_does_not_depend_on_how_the_calls_are_cut(cuts: list[int]) -> None:
    end = START + 12_000
    whole = LiveTraffic(SLOW).until(end)
    traffic = LiveTraffic(SLOW)
    parts = [traffic.until(START + cut) for cut in (*sorted(cuts), 12_000)]

    assert [row for part in parts for row in events(part)] == events(whole)
    assert [row for part in parts for row in labels(part)] == labels(whole)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 12_000), min_size=1, max_size=8))
def test_nothing_comes_before_it_is_due_or_after_it_was(cuts: list[int]) -> None:
    traffic, before = LiveTraffic(SLOW), START - 1
    for cut in sorted(cuts):
        batch, now = traffic.until(START + cut), START + cut
        assert all(before < time <= now for time in batch.transactions.occurred_at.tolist())
        assert all(before < time <= now for time in batch.labels.given_at.tolist())
        before = now


def test_a_late_caller_gets_everything_with_its_due_times() -> None:
    """Open loop: after a stall of a minute, a minute's traffic is there at once, and its times say how late it is."""
    traffic = LiveTraffic(SLOW)
    traffic.until(START + 1_000)
    late = traffic.until(START + 61_000)

    assert len(late.transactions) == pytest.approx(20 * 60, abs=6 * np.sqrt(20 * 60))
    by_second = np.bincount((late.transactions.occurred_at - START) // 1000)
    assert (by_second[1:61] > 0).all()


def test_the_same_config_gives_the_same_traffic_and_another_seed_does_not() -> None:
    first, again = (events(LiveTraffic(SLOW).until(START + 5_000)) for _ in range(2))
    other = events(LiveTraffic(replace(SLOW, seed=1)).until(START + 5_000))

    assert first == again
    assert first != other


def test_ids_are_unique_sorted_and_carry_the_start() -> None:
    traffic = LiveTraffic(SLOW)
    ids = [
        *traffic.until(START + 3_000).transactions.event_ids(),
        *traffic.until(START + 6_000).transactions.event_ids(),
    ]

    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert ids[0] == f"sim-0-live{START}-0000000000"


@pytest.mark.parametrize("fraud_share", [0.0, 0.05])
def test_arrivals_are_a_poisson_process_of_the_rate(fraud_share: float) -> None:
    config = replace(SLOW, rate=300.0, fraud_share=fraud_share, scenarios=("large_amounts",))
    times = LiveTraffic(config).until(START + 10 * MINUTE - 1).transactions.occurred_at
    counts = np.bincount((times - START) // 1000, minlength=600)

    expected = 300 * 600
    assert abs(len(times) - expected) < 4 * np.sqrt(expected)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.25)  # 4 standard deviations
    gaps = np.diff(times) / 1000 * 300
    assert np.exp(-1) == pytest.approx((gaps > 1).mean(), abs=0.02)


def test_the_share_of_frauds_holds_from_the_first_second_on() -> None:
    config = replace(SLOW, accounts=2_000, rate=500.0, fraud_share=0.1)
    traffic = LiveTraffic(config)
    minutes = [traffic.until(START + (minute + 1) * MINUTE).transactions for minute in range(4)]

    for made in minutes:
        assert made.fraud.mean() == pytest.approx(0.1, abs=0.02)
        assert set(made.scenario_names()) == {None, *SCENARIO_NAMES}


@pytest.mark.parametrize("change", [{"fraud_share": 0.0}, {"scenarios": ()}], ids=str)
def test_without_frauds_the_whole_rate_is_honest(change: dict[str, Any]) -> None:
    config = replace(SLOW, rate=500.0, fraud_share=0.5) if "scenarios" in change else replace(SLOW, rate=500.0)
    made = LiveTraffic(replace(config, **change)).until(START + MINUTE).transactions

    assert not made.fraud.any()
    assert len(made) == pytest.approx(500 * 60, rel=0.05)


def test_live_traffic_continues_the_history_of_its_seed() -> None:
    history = simulate(SimulationConfig(accounts=200, merchants=60, events=10))
    assert LiveTraffic(SLOW).population is history.population


def test_time_is_squeezed_by_the_rate_over_the_populations_own() -> None:
    people = LiveTraffic(SLOW).population
    own = people.payments_a_day / 86_400

    assert time_scale(people, own * 50) == pytest.approx(50)
    assert time_scale(people, own / 50) == 1.0


def test_labels_can_be_of_frauds_alone() -> None:
    batch = LiveTraffic(replace(SLOW, legitimate_share=0.0)).until(START + 30_000)
    assert {row[1] for row in labels(batch)} == {"fraud"}


class Clock:
    """Seconds that pass when somebody waits, or as long as each look at them takes."""

    def __init__(self, look: float = 0.0) -> None:
        self.now, self.look = START / 1000, look
        self.waits: list[float] = []

    def __call__(self) -> float:
        self.now += self.look
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def test_a_batch_is_due_each_interval() -> None:
    clock = Clock()
    given = batches(
        LiveTraffic(SLOW), clock=clock, wait=clock.wait, interval=0.5, stop=lambda: clock.now >= START / 1000 + 10
    )
    sizes = [len(batch.transactions) for batch in given]

    assert len(sizes) == 20
    assert sum(sizes) == pytest.approx(200, abs=85)


def test_a_slow_consumer_gets_larger_batches_not_a_lower_rate() -> None:
    clock = Clock(look=1.0)
    given = list(batches(LiveTraffic(SLOW), clock=clock, wait=clock.wait, stop=lambda: clock.now >= START / 1000 + 60))

    assert clock.waits == []
    last = int(given[-1].transactions.occurred_at[-1])
    assert sum(len(batch.transactions) for batch in given) == len(LiveTraffic(SLOW).until(last).transactions)
    assert last > START + 55_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "the rate must be above 0 and at most 1000000 a second, not 0.0"),
        ({"rate": float("nan")}, "the rate must be above 0"),
        ({"rate": 2e6}, "at most 1000000 a second"),
        ({"accounts": 0}, "accounts must be between"),
        ({"fraud_share": 0.7}, "the share of frauds"),
        ({"scenarios": ("theft",)}, "no scenario is called theft"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSimulation, match=message):
        LiveTraffic(replace(SLOW, **change))
