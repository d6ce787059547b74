"""The Handbook's transactions follow their description."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ops.jobs.history import history_from_files
from ops.simulate.handbook import (
    DAY,
    FIRST_DAY,
    HandbookConfig,
    HandbookTransactions,
    handbook_transactions,
    write_handbook,
)

SMALL = HandbookConfig(customers=600, terminals=1_500, days=90, seed=3)


@pytest.fixture(scope="module")
def data() -> HandbookTransactions:
    return handbook_transactions(SMALL)


def test_the_same_seed_makes_the_same_transactions_and_another_seed_others() -> None:
    one, same = (handbook_transactions(HandbookConfig(100, 200, 10, 1)) for _ in range(2))
    other = handbook_transactions(HandbookConfig(100, 200, 10, 2))
    assert one.amount.tolist() == same.amount.tolist()
    assert one.seconds.tolist() == same.seconds.tolist()
    assert one.seconds.tolist() != other.seconds.tolist()


def test_transactions_come_in_the_order_of_time_within_the_days(data: HandbookTransactions) -> None:
    assert (np.diff(data.seconds) >= 0).all()
    assert data.day.min() == 0
    assert data.day.max() == SMALL.days - 1
    assert data.occurred_at[0] - FIRST_DAY < DAY


def test_customers_pay_about_twice_a_day_around_noon(data: HandbookTransactions) -> None:
    """Poisson of U(0, 4); a normal time of day of which 3 % falls outside the day."""
    assert len(data) / (SMALL.customers * SMALL.days) == pytest.approx(2 * 0.969, rel=0.1)
    within = data.seconds % 86_400
    assert within.mean() == pytest.approx(43_200, rel=0.02)
    assert within.std() == pytest.approx(18_400, rel=0.05)


def test_a_customer_pays_only_at_terminals_that_are_near_each_other(data: HandbookTransactions) -> None:
    """Within a radius of 5, a customer sees pi 25 / 10,000 of the terminals: 12 of 1,500."""
    used = [len(np.unique(data.terminal[data.customer == customer])) for customer in range(50)]
    assert np.mean(used) == pytest.approx(11, abs=3)
    assert max(used) < 40


def test_honest_amounts_are_half_as_spread_as_large(data: HandbookTransactions) -> None:
    honest = data.scenario == 0
    for customer in np.argsort(-np.bincount(data.customer))[:20]:
        own = data.amount[honest & (data.customer == customer)]
        if own.mean() < 60:  # of larger ones the tail is fraud
            assert own.std() / own.mean() == pytest.approx(0.5, abs=0.12)


def test_every_large_amount_is_a_fraud(data: HandbookTransactions) -> None:
    assert (data.scenario[data.amount > 220] > 0).all()
    assert (data.amount[data.scenario == 1] > 220).all()


def test_a_compromised_terminal_is_one_for_four_weeks(data: HandbookTransactions) -> None:
    frauds = data.scenario == 2
    terminals = np.unique(data.terminal[frauds])
    assert len(terminals) == pytest.approx(2 * SMALL.days, rel=0.25)
    lasted = [np.ptp(data.day[frauds & (data.terminal == terminal)]) for terminal in terminals]
    assert np.median(lasted) <= 27


def test_a_third_of_a_compromised_customers_payments_are_multiplied(data: HandbookTransactions) -> None:
    frauds = data.scenario == 3
    assert frauds.sum() == pytest.approx(3 * SMALL.days * 14 * 2 / 3, rel=0.25)
    honest = data.scenario == 0
    usual = np.bincount(data.customer, data.amount * honest) / np.maximum(np.bincount(data.customer, honest), 1)
    frauds &= usual[data.customer] > 0
    times_usual = data.amount[frauds] / usual[data.customer[frauds]]
    assert np.median(times_usual) == pytest.approx(5, rel=0.15)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_training_reads_the_files_that_are_written(tmp_path: Path, suffix: str) -> None:
    files = tmp_path / f"transactions{suffix}", tmp_path / f"labels{suffix}"
    written = write_handbook(*files, HandbookConfig(100, 200, 40, 1))
    history = history_from_files(*files, {}, label_horizon=timedelta(days=7))
    assert history.events.event_id == written.event_ids
    assert history.events.occurred_at.tolist() == written.occurred_at.tolist()
    assert history.events.amount.tolist() == written.amount.tolist()
    matured = written.day < 32
    assert (history.labels[matured] == written.fraud[matured]).all()
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_the_columns_are_those_of_the_contract(data: HandbookTransactions) -> None:
    columns = data.columns()
    assert len(set(columns["event_id"])) == len(data)
    assert columns["event_id"] == sorted(columns["event_id"])
    assert columns["account_id"][0] == f"customer-{data.customer[0]:010d}"
    assert columns["merchant_id"][0] == f"terminal-{data.terminal[0]:010d}"
