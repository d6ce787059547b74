"""The Handbook's folds and figures, on transactions few enough to count by hand."""

import numpy as np
import pytest

from ops.bench.handbook_protocol import FOLDS, Fold, card_precision, fold_figures, judged_rows
from ops.simulate.handbook import HandbookTransactions

FOLD = Fold(10)


def transactions(*rows: tuple[int, int, bool]) -> HandbookTransactions:
    """(day, customer, fraud), in the order of their days."""
    day, customer, fraud = (np.array(column) for column in zip(*rows, strict=True))
    return HandbookTransactions(
        seconds=day.astype(np.int64) * 86_400 + np.arange(len(day)),
        customer=customer.astype(np.int64),
        terminal=np.zeros(len(day), np.int64),
        amount=np.ones(len(day)),
        scenario=fraud.astype(np.int8),
    )


def test_training_weeks_start_on_four_wednesdays_and_each_is_tested_two_weeks_later() -> None:
    first_days = [np.datetime64("2018-04-01") + fold.training_day for fold in FOLDS]
    assert [str(day) for day in first_days] == ["2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15"]
    assert [fold.test_days for fold in FOLDS] == [range(first, first + 7) for first in (129, 136, 143, 150)]


def test_only_the_seven_test_days_count() -> None:
    data = transactions((23, 1, False), (24, 2, False), (30, 3, True), (31, 4, False))
    assert judged_rows(data, FOLD).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("fraud_day", "tested"),
    [
        (9, [24, 25, 30]),  # before the training week: nobody looks so far back
        (10, []),
        (16, []),  # the last day of the training week
        (17, [24]),  # known from the second test day on: eight days before it
        (22, [24, 25]),
        (23, [24, 25, 30]),  # known a day after the last test day
    ],
)
def test_a_card_is_left_out_from_the_day_on_which_a_fraud_on_it_is_known(fraud_day: int, tested: list[int]) -> None:
    data = transactions((fraud_day, 1, True), (24, 1, False), (25, 1, True), (30, 1, False))
    assert data.day[judged_rows(data, FOLD)].tolist() == tested


def test_a_card_counts_once_a_day_and_not_again_once_it_was_caught() -> None:
    day = np.array([1, 1, 1, 1, 2, 2, 2])
    customer = np.array([7, 7, 8, 9, 7, 8, 9])
    fraud = np.array([True, False, False, True, True, True, True])
    scores = np.array([0.9, 0.8, 0.7, 0.1, 0.9, 0.2, 0.8])
    # Two cards a day. First 7 (a hit, though by two transactions) and 8; then 9 and 8, since 7 was caught.
    assert card_precision(scores, fraud, customer, day, cards=2) == pytest.approx((1 / 2 + 2 / 2) / 2)


def test_a_card_is_a_hit_by_a_fraud_with_a_low_score_beside_an_honest_payment_with_a_high_one() -> None:
    scores, fraud = np.array([0.9, 0.1, 0.5]), np.array([False, True, False])
    assert card_precision(scores, fraud, np.array([1, 1, 2]), np.zeros(3, np.int64), cards=1) == 1.0


def test_fewer_cards_than_can_be_checked_lower_the_share() -> None:
    one = np.ones(1, np.int64)
    assert card_precision(np.array([0.5]), np.array([True]), one, one, cards=100) == 0.01


def test_a_perfect_order_has_perfect_figures_and_scores_outside_the_test_days_play_no_part() -> None:
    data = transactions((5, 9, True), (24, 1, False), (24, 2, True), (26, 3, False), (40, 4, False))
    scores = np.array([np.nan, 0.1, 0.9, 0.2, 1.0])
    figures = fold_figures(data, FOLD, scores)
    assert (figures.ap, figures.auc) == (1.0, 1.0)
    assert figures.cp100 == pytest.approx((1 + 0) / 2 / 100)


def test_a_tested_transaction_without_a_score_is_an_error() -> None:
    data = transactions((24, 1, False), (24, 2, True))
    with pytest.raises(ValueError, match="1 of 2 tested transactions have no score"):
        fold_figures(data, FOLD, np.array([0.1, np.nan]))
