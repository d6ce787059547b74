"""Features: what each says by hand-made examples, and laws that hold for every log and every way to cut it."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.events import Events
from models.feature_schema import FEATURES, LARGEST, MEMO_PARTS
from models.features import FeatureBatch, FeatureBuilder, median_of_held
from models.state import POSITIONS
from tests.models.logs import MINUTE, busy_log, cut, log_of, logs, of_partition, one_at_a_time
from tests.models.synthetic import BEGIN, REPORTING_LIMIT

HOUR, DAY = 60, 24 * 60
cuts = st.lists(st.integers(0, 60), max_size=5)


def built_from(batches: list[Events]) -> tuple[FeatureBuilder, dict[str, npt.NDArray[Any]]]:
    """The state after the batches, and what they gave, in log order; zeros for duplicates."""
    builder = FeatureBuilder(REPORTING_LIMIT, capacity=2)
    given: dict[str, list[npt.NDArray[Any]]] = {}
    for batch in batches:
        for name, column in in_log_order(builder.build(batch)).items():
            given.setdefault(name, []).append(column)
    return builder, {name: np.concatenate(parts) for name, parts in given.items()}


def in_log_order(built: FeatureBatch) -> dict[str, npt.NDArray[Any]]:
    count = len(built.duplicate)
    memos = np.zeros((len(built.rows), MEMO_PARTS), np.int64)
    if built.memos is not None:
        memos[built.memos.rows] = built.memos.parts[built.memos.which]
    sorted_columns = {"features": built.features, "categories": built.categories, "memos": memos}
    sorted_columns |= {"usual": built.usual, "age": built.age}
    result = {"duplicate": built.duplicate}
    for name, column in sorted_columns.items():
        result[name] = np.zeros((count, *column.shape[1:]), column.dtype)
        result[name][built.rows] = column
    return result


def state_of(builder: FeatureBuilder, events: Events) -> dict[tuple[str, int, str], dict[str, npt.NDArray[Any]]]:
    """What is remembered of each of the log's accounts and merchants."""
    state = {}
    for partition, account, merchant in zip(
        events.partition.tolist(), events.account_id, events.merchant_id, strict=True
    ):
        for kind, entity, slots, arena in (
            ("account", account, builder.account_slots, builder.accounts),
            ("merchant", merchant, builder.merchant_slots, builder.merchants),
        ):
            with suppress(KeyError):  # a merchant that only a repeat named
                slot = slots.slot(partition, entity)
                state[kind, partition, entity] = {name: array[slot].copy() for name, array in arena.arrays.items()}
    return state


def assert_alike(found: dict[str, npt.NDArray[Any]], expected: dict[str, npt.NDArray[Any]]) -> None:
    """Integers, ids and flags exactly; floats within 1e-5, half floats within the last place that they have."""
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        if column.dtype == np.float16:
            np.testing.assert_allclose(found[name].astype(float), column.astype(float), rtol=1e-3, atol=1e-5)
        elif column.dtype.kind == "f":
            np.testing.assert_allclose(found[name], column, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], column, err_msg=name)


def assert_same_state(found: FeatureBuilder, expected: FeatureBuilder, events: Events) -> None:
    own, other = state_of(found, events), state_of(expected, events)
    assert own.keys() == other.keys()
    for entity in other:
        assert_alike(own[entity], other[entity])


def features_of(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    _, columns = built_from([log_of(rows)])
    return [dict(zip(FEATURES, row, strict=True)) for row in columns["features"].tolist()]


# What the features say.


def test_an_amount_is_compared_with_the_median_of_those_before() -> None:
    rows = features_of([{"amount": amount} for amount in (10.0, 30.0, 20.0, 90.0)])
    medians = [math.log1p(10), (math.log1p(10) + math.log1p(30)) / 2, math.log1p(20)]
    assert [row["amount"] for row in rows] == pytest.approx([math.log1p(a) for a in (10, 30, 20, 90)])
    assert rows[0]["amount_to_median"] == 0
    assert [row["amount_to_median"] for row in rows[1:]] == pytest.approx(
        [math.log1p(amount) - median for amount, median in zip((30, 20, 90), medians, strict=True)], abs=1e-6
    )


def test_the_usual_amount_is_the_median_in_money_and_unknown_without_history() -> None:
    _, columns = built_from([log_of([{"amount": amount} for amount in (10.0, 30.0, 20.0, 90.0)])])
    usual = columns["usual"].tolist()
    assert math.isnan(usual[0])
    assert usual[1] == pytest.approx(10)
    assert usual[3] == pytest.approx(20)


def test_a_gap_is_in_seconds_and_a_first_event_has_that_of_a_month() -> None:
    rows = features_of([{"minute": 0}, {"minute": 10}])
    assert math.expm1(rows[1]["gap"]) == pytest.approx(600, rel=1e-5)
    assert math.expm1(rows[0]["gap"]) == pytest.approx(30 * 86_400, rel=1e-5)


def test_counts_fade_over_their_span_and_leave_out_the_event_itself() -> None:
    rows = features_of([{"minute": 0}, {"minute": HOUR}, {"minute": HOUR}])
    assert rows[0]["account_count_hour"] == 0
    assert math.expm1(rows[1]["account_count_hour"]) == pytest.approx(math.exp(-1), rel=1e-5)
    assert math.expm1(rows[2]["account_count_hour"]) == pytest.approx(math.exp(-1) + 1, rel=1e-5)
    assert math.expm1(rows[2]["account_count_day"]) == pytest.approx(math.exp(-1 / 24) + 1, rel=1e-5)
    assert math.expm1(rows[2]["account_amount_day"]) == pytest.approx(10 * (math.exp(-1 / 24) + 1), rel=1e-5)


def test_an_amount_is_compared_with_the_mean_of_the_account_and_of_the_merchant() -> None:
    rows = features_of(
        [
            {"account": 1, "merchant": 1, "amount": 100.0},
            {"account": 1, "merchant": 2, "amount": 200.0},
            {"account": 2, "merchant": 2, "amount": 400.0},
        ]
    )
    assert rows[1]["amount_to_month_mean"] == pytest.approx(math.log(201 / 101), abs=1e-3)
    assert rows[2]["amount_to_month_mean"] == 0
    assert rows[2]["amount_to_merchant_month"] == pytest.approx(math.log(401 / 201), abs=1e-3)
    assert math.expm1(rows[2]["merchant_count_month"]) == pytest.approx(1, abs=1e-3)


def test_the_deviation_counts_standard_deviations_from_the_mean() -> None:
    rows = features_of([{"minute": 0, "amount": math.expm1(value)} for value in (2.0, 4.0, 5.0)])
    assert rows[1]["amount_deviation"] == pytest.approx(2 / 0.25)
    assert rows[2]["amount_deviation"] == pytest.approx((5 - 3) / (1 + 0.25), abs=1e-5)


def test_a_merchant_and_a_country_are_new_where_the_account_has_seen_others_only() -> None:
    rows = features_of(
        [
            {"merchant": 1, "country": "DE"},
            {"merchant": 1, "country": "FR"},
            {"merchant": 2, "country": "DE"},
            {"merchant": 2, "country": None},
        ]
    )
    assert [row["new_merchant"] for row in rows] == [0, 0, 1, 0]
    assert [row["new_country"] for row in rows] == [0, 1, 0, 0]


def test_a_country_that_is_not_given_is_never_new() -> None:
    rows = features_of([*({"country": "DE"} for _ in range(40)), {"country": None}])
    assert rows[-1]["new_country"] == 0


def test_amounts_just_below_the_reporting_limit_are_marked_and_counted() -> None:
    amounts = (0.79, 0.8, 0.99, 1.0)
    rows = features_of([{"minute": 0, "amount": share * REPORTING_LIMIT} for share in amounts])
    assert [row["below_limit"] for row in rows] == [0, 1, 1, 0]
    assert [round(math.expm1(row["below_limit_count"]), 3) for row in rows] == [0, 0, 1, 2]


def test_times_are_on_the_circles_of_the_day_and_the_week() -> None:
    sunday_at_six = 1_760_227_200_000 + 6 * HOUR * MINUTE  # 12 October 2025
    (row,) = features_of([{"minute": (sunday_at_six - BEGIN) / MINUTE}])
    assert (row["hour_sin"], row["hour_cos"]) == pytest.approx((1, 0), abs=1e-6)
    assert (row["weekday_sin"], row["weekday_cos"]) == pytest.approx((0, 1), abs=1e-6)


def test_buckets_are_told_apart_and_0_is_what_is_not_given() -> None:
    _, columns = built_from([log_of([{"category": "travel", "country": None}, {"category": None, "country": "DE"}])])
    merchant, category, channel, country = columns["categories"].T.tolist()
    assert min(merchant) > 0
    assert min(channel) > 0
    assert [value > 0 for value in category] == [True, False]
    assert [value > 0 for value in country] == [False, True]


# Laws.


@pytest.mark.slow
@given(logs(), cuts)
def test_features_and_state_do_not_depend_on_how_the_log_is_cut(events: Events, places: list[int]) -> None:
    whole, expected = built_from([events])
    for batches in (cut(events, places), one_at_a_time(events)):
        builder, found = built_from(batches)
        assert_alike(found, expected)
        assert_same_state(builder, whole, events)


def test_an_account_with_hundreds_of_events_in_a_batch_is_built_as_one_by_one() -> None:
    events = busy_log()
    whole, together = built_from([events])
    single, alone = built_from(one_at_a_time(events))
    assert_alike(together, alone)
    assert_same_state(whole, single, events)


@pytest.mark.slow
@given(logs(partitions=3))
def test_several_partitions_in_one_batch_give_what_each_gives_alone(events: Events) -> None:
    builder, together = built_from([events])
    for partition in set(events.partition.tolist()):
        own = of_partition(events, partition)
        alone, expected = built_from([own])
        rows = np.flatnonzero(events.partition == partition)
        assert_alike({name: column[rows] for name, column in together.items()}, expected)
        assert_same_state(builder, alone, own)


@given(logs(partitions=2), cuts)
def test_dropping_a_partition_and_folding_its_log_again_restores_the_same_state(
    events: Events, places: list[int]
) -> None:
    builder, _ = built_from([events])
    expected, _ = built_from([events])
    own = of_partition(events, 1)
    free = len(set(own.account_id))
    assert len(builder.drop_partition(1)) == free
    for batch in cut(own, places):
        builder.build(batch)
    assert_same_state(builder, expected, events)
    assert builder.account_slots.highest == expected.account_slots.highest


@given(logs(most=30))
def test_slots_of_a_dropped_partition_know_nothing_of_their_last_owner(events: Events) -> None:
    used = FeatureBuilder(REPORTING_LIMIT)
    used.build(log_of([{**row, "partition": 7} for row in RICH_ROWS]))
    used.drop_partition(7)
    assert_alike(in_log_order(used.build(events)), in_log_order(FeatureBuilder(REPORTING_LIMIT).build(events)))


RICH_ROWS: list[dict[str, Any]] = [
    {"account": place % 4, "merchant": place % 4, "minute": 1_000 * place, "amount": 50.0 * place, "country": "FR"}
    for place in range(80)
]


@given(logs())
def test_time_never_runs_backwards_within_an_account(events: Events) -> None:
    builder = FeatureBuilder(REPORTING_LIMIT)
    newest = dict[str, int]()
    for batch in one_at_a_time(events):
        if not len(batch):
            continue
        built, account = builder.build(batch), batch.account_id[0]
        if not built.duplicate[0]:
            newest[account] = max(newest.get(account, int(batch.occurred_at[0])), int(batch.occurred_at[0]))
            assert built.features[0, FEATURES.index("gap")] >= 0
        remembered = builder.accounts.arrays["last_time"][builder.account_slots.slot(0, account)]
        assert remembered == newest[account]


@given(logs())
def test_features_are_finite_and_bounded(events: Events) -> None:
    _, columns = built_from([events])
    assert (np.abs(columns["features"]) <= LARGEST).all()


@given(logs())
def test_a_repeated_event_moves_nothing(events: Events) -> None:
    builder, columns = built_from([events])
    accepted = events.take(np.flatnonzero(~columns["duplicate"]))
    without, expected = built_from([accepted])
    assert not expected["duplicate"].any()
    assert_alike({name: column[~columns["duplicate"]] for name, column in columns.items()}, expected)
    assert_same_state(builder, without, accepted)


@given(logs(), cuts)
def test_the_recent_positions_are_the_places_of_the_accounts_last_accepted_events(
    events: Events, places: list[int]
) -> None:
    builder, accepted = FeatureBuilder(REPORTING_LIMIT), dict[str, list[tuple[int, int]]]()
    for batch in cut(events, places):
        built = builder.build(batch)
        place_of = {row: place for place, row in enumerate(built.rows.tolist())}
        for row in sorted(place_of):
            own = accepted.setdefault(batch.account_id[row], [])
            own.append((int(batch.day[row]), int(batch.offset[row])))
            assert built.recent_positions(batch, place_of[row]) == own[-POSITIONS:]


def test_the_same_account_in_two_partitions_is_two_accounts() -> None:
    _, columns = built_from([log_of([{"partition": 0}, {"partition": 1}, {"partition": 0}])])
    assert columns["age"].tolist() == [0, 0, 1]


def test_the_same_id_in_two_partitions_is_no_repeat() -> None:
    _, columns = built_from([log_of([{"partition": 0, "number": 1}, {"partition": 1, "number": 1}])])
    assert not columns["duplicate"].any()


def test_a_batch_of_repeats_only_gives_no_features() -> None:
    builder = FeatureBuilder(REPORTING_LIMIT)
    builder.build(log_of([{"number": 1}]))
    built = builder.build(log_of([{"number": 1}, {"number": 1}]))
    assert built.duplicate.all()
    assert built.features.shape == (0, len(FEATURES))


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-20, 20, width=32), max_size=6), min_size=1, max_size=8))
def test_the_median_of_held_values_is_that_of_numpy(rows: list[list[float]]) -> None:
    values = np.array([row + [math.inf] * (6 - len(row)) for row in rows], np.float32)
    held = np.array([len(row) for row in rows])
    expected = [float(np.median(row)) if row else 0.0 for row in rows]
    assert median_of_held(values, held).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
