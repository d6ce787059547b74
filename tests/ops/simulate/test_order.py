"""Frauds lie in the order of an account's payments: what counts and adds up is distributed alike in honest bursts."""

from itertools import groupby

import numpy as np
import numpy.typing as npt
import pytest

from ops.simulate.order import (
    BURST_MINUTES,
    HONEST_RUN,
    LARGE_PAYMENTS,
    MINUTE,
    SMALL_PAYMENTS,
    OrderConfig,
    OrderTransactions,
    arrangement,
    longest_run,
    order_transactions,
)

CONFIG = OrderConfig(accounts=1_500, days=30, bursts=6.0, fraud_share=0.4, seed=1)


@pytest.fixture(scope="module")
def data() -> OrderTransactions:
    return order_transactions(CONFIG)


@pytest.fixture(scope="module")
def bursts(data: OrderTransactions) -> list[npt.NDArray[np.int64]]:
    """The rows of each burst, in the order of time."""
    rows = np.flatnonzero(data.burst >= 0)
    rows = rows[np.argsort(data.burst[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(data.burst[rows])) + 1)


def significance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """How many standard errors the means are apart."""
    error = np.sqrt(one.var() / len(one) + other.var() / len(other))
    return float(abs(one.mean() - other.mean()) / error)


def test_the_same_seed_makes_the_same_payments_and_another_seed_others() -> None:
    one, same = (order_transactions(OrderConfig(accounts=50, seed=1)) for _ in range(2))
    other = order_transactions(OrderConfig(accounts=50, seed=2))
    assert one.columns() | {"occurred_at": 0, "amount": 0} == same.columns() | {"occurred_at": 0, "amount": 0}
    assert (one.amount == same.amount).all()
    assert one.amount.sum() != other.amount.sum()


def test_payments_are_in_the_order_of_time_and_in_the_contracts_columns(data: OrderTransactions) -> None:
    columns = data.columns()
    assert (np.diff(columns["occurred_at"]) >= 0).all()
    assert len(set(columns["event_id"])) == len(data) == len(columns["merchant_id"])
    assert (columns["amount"] > 0).all()


def test_in_a_fraud_all_small_payments_come_right_before_the_last_one_and_only_that_is_labelled(
    data: OrderTransactions, bursts: list[npt.NDArray[np.int64]]
) -> None:
    frauds = [rows for rows in bursts if data.fraud[rows].any()]
    assert len(frauds) == data.fraud.sum()
    assert len(frauds) / len(bursts) == pytest.approx(CONFIG.fraud_share, abs=0.03)
    for rows in frauds:
        small = data.small[rows]
        assert data.fraud[rows].tolist() == [False] * (len(rows) - 1) + [True]
        assert not small[-1]
        assert small[-1 - small.sum() : -1].all()


def test_in_an_honest_burst_small_payments_never_come_so_many_together(
    data: OrderTransactions, bursts: list[npt.NDArray[np.int64]]
) -> None:
    for rows in bursts:
        if not data.fraud[rows].any():
            runs = [len(list(run)) for is_small, run in groupby(data.small[rows].tolist()) if is_small]
            assert max(runs) <= HONEST_RUN < SMALL_PAYMENTS[0]
            assert not data.small[rows[-1]]


def test_totals_of_bursts_are_distributed_alike(data: OrderTransactions, bursts: list[npt.NDArray[np.int64]]) -> None:
    """Payments, small and large ones, amounts, spans, the last payment's own amount and gap, and its merchant."""
    fraud = np.array([data.fraud[rows].any() for rows in bursts])
    measures = {
        "payments": [len(rows) for rows in bursts],
        "small": [data.small[rows].sum() for rows in bursts],
        "total": [np.log(data.amount[rows].sum()) for rows in bursts],
        "total before": [np.log(data.amount[rows[:-1]].sum()) for rows in bursts],
        "median": [np.median(data.amount[rows[:-1]]) for rows in bursts],
        "largest": [np.log(data.amount[rows].max()) for rows in bursts],
        "amount": [np.log(data.amount[rows[-1]]) for rows in bursts],
        "span": [float(np.ptp(data.occurred_at[rows])) for rows in bursts],
        "gap": [float(np.diff(data.occurred_at[rows[-2:]])[0]) for rows in bursts],
        "merchant": [float(data.merchant[rows[-1]]) for rows in bursts],
        "begin": [float(data.occurred_at[rows[0]]) for rows in bursts],
        "hour": [float(data.occurred_at[rows[-1]] % 86_400_000) for rows in bursts],
    }
    for name, values in measures.items():
        column = np.array(values, float)
        for power in (1, 2):  # spread as well as mean
            moment = (column - column.mean()) ** power
            assert significance(moment[fraud], moment[~fraud]) < 3.5, (name, power)


def test_the_amount_of_the_payment_before_does_differ_or_order_would_say_nothing(
    data: OrderTransactions, bursts: list[npt.NDArray[np.int64]]
) -> None:
    fraud = np.array([data.fraud[rows].any() for rows in bursts])
    before = np.array([np.log(data.amount[rows[-2]]) for rows in bursts])
    assert significance(before[fraud], before[~fraud]) > 20


def test_sizes_and_spans_are_as_documented(data: OrderTransactions, bursts: list[npt.NDArray[np.int64]]) -> None:
    small = np.array([data.small[rows].sum() for rows in bursts])
    large = np.array([len(rows) for rows in bursts]) - small - 1
    spans = np.array([np.ptp(data.occurred_at[rows]) for rows in bursts])
    assert (small.min(), small.max()) == SMALL_PAYMENTS
    assert (large.min(), large.max()) == LARGE_PAYMENTS
    assert spans.max() <= BURST_MINUTES[1] * MINUTE
    assert all(len(set(data.account[rows].tolist())) == 1 for rows in bursts)


def test_honest_arrangements_are_all_those_without_a_long_run() -> None:
    draw = np.random.default_rng(0)
    seen = {tuple(arrangement(3, 2, False, draw).tolist()) for _ in range(400)}
    assert len(seen) == 10 - 3  # of the ways to place three among five, three are in a row
    assert {tuple(arrangement(3, 2, True, draw).tolist()) for _ in range(20)} == {
        (False, False, True, True, True, False)
    }


@pytest.mark.parametrize(("flags", "longest"), [([], 0), ([0], 0), ([1], 1), ([0, 1, 1, 0, 1], 2), ([1, 1, 1], 3)])
def test_longest_run(flags: list[int], longest: int) -> None:
    assert longest_run(np.array(flags, bool)) == longest
