"""Visits in time: the same however they are asked for, live slates are answered, some rewards come late."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engagements import ACTIONS, CLICK, IMPRESSION, PURCHASE, rewards
from ops.simulate.cards import BadSimulation
from ops.simulate.labels import LabelDelay
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.assortment import history_catalogue, live_catalogue
from ops.simulate.shoppers.traffic import (
    ELSEWHERE_SHARE,
    SEARCH_SHARE,
    Slate,
    Slates,
    Traffic,
    TrafficBatch,
    TrafficConfig,
    check_traffic,
    repetitions,
)

START = 1_790_000_000_000
SMALL = TrafficConfig(start=START, users=60, rate=20.0, reward_delay=LabelDelay(1_000, 4_000))


def traffic(config: TrafficConfig = SMALL, slates: Slates | None = None) -> Traffic:
    return Traffic(config, live_catalogue(150, config.seed, config.run, config.start, config.pace), slates)


@lru_cache(maxsize=4_000)
def shown_to(user_id: str, size: int = 6) -> Slate:
    """The same slate for a user at any time."""
    generator = np.random.default_rng(int(user_id.removeprefix("user-")))
    items = [f"item-{item:06d}" for item in generator.choice(150, size, replace=False).tolist()]
    return Slate(f"slate-{user_id}", "random" if generator.random() < 0.5 else "policy:1", items)


def everybody_has_one(user_ids: Sequence[str]) -> list[Slate | None]:
    return [shown_to(user_id) for user_id in user_ids]


def events(batch: TrafficBatch) -> list[tuple[Any, ...]]:
    columns = batch.engagements.columns()
    columns["value"] = np.nan_to_num(columns["value"], nan=-1.0)
    return list(zip(*(list(column) for column in columns.values()), strict=True))


def late(batch: TrafficBatch) -> list[tuple[Any, ...]]:
    given = batch.rewards
    return list(
        zip(given.number.tolist(), given.given_at.tolist(), given.user.tolist(), given.item.tolist(), strict=True)
    )


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 12_000), max_size=8), st.booleans())
def test_output_does_not_depend_on_how_the_calls_are_cut(cuts: list[int], has_slates: bool) -> None:
    slates = everybody_has_one if has_slates else None
    whole = traffic(slates=slates)
    expected = whole.until(START + 12_000)
    cut = traffic(slates=slates)
    parts = [cut.until(START + each) for each in (*sorted(cuts), 12_000)]

    assert [row for part in parts for row in events(part)] == events(expected)
    assert [row for part in parts for row in late(part)] == late(expected)
    assert cut.visits == whole.visits
    assert cut.earnings.keys() == whole.earnings.keys()
    for policy, earned in cut.earnings.items():
        assert earned.slates == whole.earnings[policy].slates
        assert earned.reward == pytest.approx(whole.earnings[policy].reward)


def test_the_same_config_gives_the_same_traffic_and_another_seed_or_run_does_not() -> None:
    first, again = (events(traffic().until(START + 5_000)) for _ in range(2))

    assert first == again
    for change in ({"seed": 1}, {"run": "2"}):
        other = events(traffic(replace(SMALL, **change)).until(START + 5_000))
        assert not {row[0] for row in first} & {row[0] for row in other}
        assert [row[1:] for row in first] != [row[1:] for row in other]


def test_nothing_comes_before_it_is_due_or_after_it_was() -> None:
    made, before = traffic(slates=everybody_has_one), START - 1
    for cut in (0, 700, 3_000, 3_001, 9_999):
        batch, now = made.until(START + cut), START + cut
        assert all(before < time <= now for time in batch.engagements.doings.occurred_at.tolist())
        assert all(before < time <= now for time in batch.rewards.given_at.tolist())
        before = now


def test_columns_are_the_contracts_fields() -> None:
    batch = traffic(slates=everybody_has_one).until(START + 20_000)
    columns = batch.engagements.columns()

    assert list(columns) == [
        *("event_id", "occurred_at", "user_id", "item_id", "action", "value", "recommendation_id"),
    ]
    assert columns["event_id"] == sorted(set(columns["event_id"]))
    assert columns["event_id"][0] == "shop-0-1-0000000000"
    assert set(columns["action"]) <= set(ACTIONS)
    assert (np.diff(columns["occurred_at"]) >= 0).all()


def test_without_slates_everybody_searches() -> None:
    doings = traffic().until(START + 30_000).engagements.doings

    assert len(doings) > 500
    assert not (doings.action == IMPRESSION).any()
    assert set(doings.recommendation_id.tolist()) == {None}


def test_a_slate_is_answered_with_its_id_and_only_about_its_items() -> None:
    made = traffic(slates=everybody_has_one)
    rows = events(made.until(START + 60_000))
    answers = [row for row in rows if row[6] is not None]

    assert len(answers) > 1_000
    for row in answers:
        assert row[6] == f"slate-{row[2]}"
        assert row[3] in shown_to(row[2]).item_ids
    slates = sum(earned.slates for earned in made.earnings.values())
    assert slates / made.visits == pytest.approx(1 - SEARCH_SHARE, abs=0.04)


def test_who_has_no_slate_searches() -> None:
    def some(user_ids: Sequence[str]) -> list[Slate | None]:
        return [shown_to(user_id) if int(user_id[5:]) < 30 else None for user_id in user_ids]

    rows = events(traffic(slates=some).until(START + 20_000))
    assert {int(row[2][5:]) < 30 for row in rows if row[6] is not None} == {True}
    assert {int(row[2][5:]) < 30 for row in rows} == {True, False}


def test_items_that_nobody_knows_and_empty_slates_are_passed_over() -> None:
    def strange(user_ids: Sequence[str]) -> list[Slate | None]:
        return [Slate("r", "p", ["unknown", "item-000001"] if number % 2 else []) for number in range(len(user_ids))]

    rows = events(traffic(slates=strange).until(START + 20_000))
    assert {row[3] for row in rows if row[6] is not None} == {"item-000001"}


@pytest.mark.slow
def test_some_purchases_are_known_by_a_late_reward_only() -> None:
    config = replace(SMALL, users=2_000, rate=200.0)
    made = traffic(config, slates=everybody_has_one)
    batch = made.until(START + 120_000)
    doings, given = batch.engagements.doings, batch.rewards
    bought = (doings.action == PURCHASE) & np.array([each is not None for each in doings.recommendation_id])

    assert len(given) / (len(given) + bought.sum()) == pytest.approx(ELSEWHERE_SHARE, abs=0.08)
    assert (given.value == 5.0).all()
    assert (np.diff(given.given_at) >= 0).all()
    assert len(set(given.number.tolist())) == len(given)
    earned = rewards(doings.action, doings.value)[[each is not None for each in doings.recommendation_id]].sum()
    counted = sum(each.reward for each in made.earnings.values())
    assert earned + given.value.sum() == pytest.approx(counted, rel=0.02)  # what waits at the end is counted already
    clicked = {(u, i) for u, i, a in zip(doings.user, doings.item, doings.action, strict=True) if a == CLICK}
    assert {*zip(given.user, given.item, strict=True)} <= clicked


def test_visits_come_at_the_rate_and_more_from_those_who_come_often() -> None:
    config = replace(SMALL, users=300, rate=100.0, step=60_000)
    made = traffic(config)
    doings = made.until(START + 100_000).engagements.doings

    assert abs(made.visits - 10_000) < 4 * 100
    often = made.people.activity > np.median(made.people.activity)
    assert often[doings.user].mean() > 0.65


def test_the_happy_come_more_often_than_the_disappointed() -> None:
    made = traffic(replace(SMALL, users=300, rate=100.0))
    happy = made.people.activity > 0
    happy[::2] = False
    made.shoppers.memory.mood[:] = np.where(happy, 1.5, -1.5)
    doings = made.until(START + 10_000).engagements.doings

    assert happy[doings.user].mean() > 0.8


def test_the_first_batch_has_every_item_and_later_ones_what_changed() -> None:
    made = traffic()
    first = made.until(START)
    later = [made.until(START + minute * 60_000) for minute in range(1, 4)]

    assert sorted(first.items.item.tolist()) == list(range(150))
    assert 0.8 < first.items.available.mean() < 1
    known = dict(zip(first.items.item.tolist(), first.items.available.tolist(), strict=True))
    for batch in later:
        changes = dict(zip(batch.items.item.tolist(), batch.items.available.tolist(), strict=True))
        assert changes
        known |= changes
    assert max(known) >= 150  # new ones
    at_end = made.catalogue.states(START + 180_000)
    assert known == {item: state == 1 for item, state in enumerate(at_end.tolist()) if state}


def test_a_history_has_items_in_searches_once_they_appear_and_not_before() -> None:
    catalogue = history_catalogue(200, 0, START, START + 10 * DAY)
    config = TrafficConfig(start=START, users=300, rate=300 * 3 / 86_400, step=3_600_000)
    doings = Traffic(config, catalogue).until(START + 10 * DAY - 1).engagements.doings

    assert (doings.occurred_at >= catalogue.appears_at[doings.item]).all()
    assert (catalogue.appears_at[doings.item] > 0).any()


@given(st.lists(st.integers(0, 5), max_size=30))
def test_a_repetition_counts_what_came_before(users: list[int]) -> None:
    assert repetitions(np.array(users, np.int64)).tolist() == [users[:n].count(user) for n, user in enumerate(users)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 0}, "users must be between 1 and 1000000, not 0"),
        ({"rate": 0.0}, "the rate must be above 0 and at most 100000 visits a second, not 0"),
        ({"rate": float("nan")}, "the rate must be above 0"),
        ({"seed": -1}, "the seed must not be negative"),
        ({"run": "a b"}, "the run's name must be"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_what_to_change(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSimulation, match=message):
        check_traffic(replace(SMALL, **change))
