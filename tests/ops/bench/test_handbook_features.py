"""The published features equal their description, written out as loops over everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.handbook_features import FEATURES, FIRST_WEEKDAY, published_features, window_sums
from ops.simulate.handbook import HandbookConfig, HandbookTransactions, handbook_transactions

DAY = 86_400


@pytest.fixture(scope="module")
def data() -> HandbookTransactions:
    """Few terminals, so that each has a history."""
    return handbook_transactions(HandbookConfig(customers=80, terminals=150, days=45, seed=1))


def told(data: HandbookTransactions, row: int) -> dict[str, float]:
    now, own, there = data.seconds[row], data.customer == data.customer[row], data.terminal == data.terminal[row]
    earlier = np.arange(len(data)) <= row
    found = {
        "amount": data.amount[row],
        "during_weekend": float(np.is_busday(np.datetime64("2018-04-01") + data.day[row]) == 0),
        "during_night": float(now % DAY < 7 * 3600),
    }
    for days in (1, 7, 30):
        window = own & earlier & (data.seconds > now - days * DAY)
        found[f"customer_count_{days}"] = window.sum()
        found[f"customer_mean_{days}"] = data.amount[window].mean()
        delayed = there & (data.seconds > now - (days + 7) * DAY) & (data.seconds <= now - 7 * DAY)
        found[f"terminal_count_{days}"] = delayed.sum()
        found[f"terminal_risk_{days}"] = data.fraud[delayed].mean() if delayed.any() else 0.0
    return found


def test_features_are_what_their_description_says(data: HandbookTransactions) -> None:
    features = published_features(data)
    assert features.shape == (len(data), 15)
    for row in np.linspace(0, len(data) - 1, 300).astype(int).tolist():
        assert dict(zip(FEATURES, features[row].tolist(), strict=True)) == pytest.approx(told(data, row))
    assert features[:, FEATURES.index("terminal_risk_30")].max() > 0


def test_the_first_day_was_a_sunday() -> None:
    assert FIRST_WEEKDAY == 6


def test_no_feature_knows_a_fraud_that_is_younger_than_seven_days(data: HandbookTransactions) -> None:
    """Labels of the last week changed, the features of everything are the same."""
    late = data.seconds > data.seconds[-1] - 7 * DAY
    other = HandbookTransactions(
        data.seconds, data.customer, data.terminal, data.amount, np.where(late, 1 - data.fraud, data.scenario)
    )
    assert (other.fraud != data.fraud).any()
    assert (published_features(other) == published_features(data)).all()


@given(
    times=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40),
    span=st.integers(1, 30),
    delay=st.integers(0, 20),
)
def test_window_sums_equal_a_loop(times: list[tuple[int, int, int]], span: int, delay: int) -> None:
    seconds, entity, values = (np.array(column) for column in zip(*sorted(times), strict=True))
    count, summed = window_sums(seconds, entity, values.astype(float), span, delay)
    for row, now in enumerate(seconds.tolist()):
        inside = (entity == entity[row]) & (seconds > now - delay - span) & (seconds <= now - delay)
        if delay == 0:
            inside[row + 1 :] = False
        assert count[row] == inside.sum()
        assert summed[row] == values[inside].sum()
