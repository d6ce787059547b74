"""A history of card payments: the same for a seed, in order, with exactly its frauds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.simulate.cards import BadSimulation, SimulationConfig, fraud_quotas, simulate
from ops.simulate.population import CATEGORIES
from ops.simulate.scenarios import DAY, SCENARIO_NAMES

SMALL = SimulationConfig(accounts=200, merchants=60, events=2_000)


def columns(config: SimulationConfig) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in simulate(config).columns().items()}


def test_the_same_seed_gives_the_same_history() -> None:
    assert columns(SMALL) == columns(SMALL)


@pytest.mark.parametrize("change", [{"seed": 1}, {"run": "2"}], ids=str)
def test_another_seed_or_run_shares_no_event_and_no_amounts(change: dict[str, Any]) -> None:
    first, second = columns(SMALL), columns(replace(SMALL, **change))

    assert not set(first["event_id"]) & set(second["event_id"])
    assert first["amount"] != second["amount"]


def test_another_run_of_a_seed_has_the_same_people() -> None:
    first, second = simulate(SMALL), simulate(replace(SMALL, run="2"))
    assert first.population is second.population


@settings(max_examples=40)
@given(
    events=st.integers(0, 3_000),
    share=st.floats(0, 0.5),
    scenarios=st.lists(st.sampled_from(SCENARIO_NAMES), unique=True),
    seed=st.integers(0, 2**63),
)
def test_frauds_are_exactly_the_asked_share_evenly_by_scenario(
    events: int, share: float, scenarios: list[str], seed: int
) -> None:
    made = simulate(replace(SMALL, events=events, fraud_share=share, scenarios=tuple(scenarios), seed=seed))

    assert len(made) == events
    names = [name for name in made.scenario_names() if name is not None]
    counts = [names.count(name) for name in scenarios]
    assert set(names) <= set(scenarios)
    if share == 0 or not scenarios:
        assert names == []
    else:
        assert sum(counts) == min(max(round(events * share), len(scenarios)), events)
        assert max(counts) - min(counts) <= 1
    assert made.fraud.tolist() == [name is not None for name in made.scenario_names()]


def test_quotas_go_to_the_first_scenarios_where_they_do_not_divide() -> None:
    assert fraud_quotas(replace(SMALL, fraud_share=0.01), 1_200) == [3, 3, 2, 2, 2]


def test_ids_are_unique_and_rise_with_time() -> None:
    made = simulate(SMALL)
    ids = made.event_ids()

    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert ids[0] == "sim-0-1-0000000000"
    assert np.all(np.diff(made.occurred_at) >= 0)
    assert made.occurred_at[0] >= SMALL.start
    assert made.occurred_at[-1] < SMALL.end


def test_without_a_number_the_accounts_habits_make_it() -> None:
    made = simulate(replace(SMALL, events=None))

    expected = made.population.payments_a_day * 30
    assert abs(len(made) - expected) < 5 * np.sqrt(expected)


def test_columns_are_the_contracts_fields() -> None:
    made = simulate(SMALL)
    found = made.columns()

    assert list(found) == [
        *("event_id", "occurred_at", "account_id", "merchant_id", "amount"),
        *("currency", "channel", "country", "category", "memo"),
    ]
    assert {len(values) for values in found.values()} == {2_000}
    assert set(found["account_id"]) <= set(made.population.account_ids)
    assert (np.rint(found["amount"] * 100) / 100 == found["amount"]).all()
    memos = {memo is None for memo, channel in zip(found["memo"], found["channel"], strict=True) if channel == "atm"}
    assert memos == {True}


def test_rows_of_a_history_keep_their_ids() -> None:
    made = simulate(SMALL)
    part = made.rows(slice(500, 600))

    assert part.event_ids() == made.event_ids()[500:600]
    assert part.scenario_names() == made.scenario_names()[500:600]


def test_progress_ends_at_one() -> None:
    seen: list[tuple[str, float]] = []
    simulate(SMALL, lambda stage, done: seen.append((stage, done)))

    assert seen[0] == ("simulate", 0.0)
    assert seen[-1] == ("simulate", 1.0)
    assert [done for _, done in seen] == sorted(done for _, done in seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accounts": 0}, "accounts must be between 1 and 10000000, not 0"),
        ({"accounts": 10_000_001}, "accounts must be between"),
        ({"merchants": 12}, f"merchants must be between {len(CATEGORIES)}, one per category, and 1000000, not 12"),
        ({"merchants": 1_000_001}, "merchants must be between"),
        ({"seed": -1}, "the seed must not be negative, not -1"),
        ({"run": "a b"}, "the run's name must be 1 to 60 letters"),
        ({"run": ""}, "the run's name"),
        ({"scenarios": ("theft", "large_amounts")}, "no scenario is called theft; there are large_amounts, comp"),
        ({"fraud_share": -0.1}, "the share of frauds must be between 0 and 0.5, not -0.1"),
        ({"fraud_share": 0.6}, "the share of frauds"),
        ({"fraud_share": float("nan")}, "the share of frauds"),
        ({"time_scale": 0.0}, "the time scale must be above 0"),
        ({"time_scale": float("inf")}, "the time scale must be above 0"),
        ({"end": SMALL.start}, "the end must be later than the start"),
        ({"start": -1}, "the start must not be before 1970"),
        ({"end": 253_402_300_800_000}, "nor the end after the year 9999"),
        ({"events": -1}, "events must be between 0 and 100000000, not -1"),
        ({"events": 100_000_001}, "events must be between"),
        ({"events": None, "end": SMALL.start + 1_000_000 * DAY}, "events are too many; take fewer accounts or days"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_what_to_change(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSimulation, match=message):
        simulate(replace(SMALL, **change))
