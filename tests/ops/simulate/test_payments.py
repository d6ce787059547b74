"""Payments as columns: joining, choosing and ordering keeps each row together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ops.simulate.payments import BUSINESS_MEMOS, MEMOS, Payments


def payments(times: list[int], first_account: int = 0) -> Payments:
    count = len(times)
    return Payments(
        occurred_at=np.array(times, np.int64),
        account=np.arange(first_account, first_account + count, dtype=np.int32),
        merchant=np.zeros(count, np.int32),
        cents=np.array(times, np.int64) * 2,
        channel=np.zeros(count, np.int8),
        memo=np.full(count, -1, np.int16),
        scenario=np.full(count, -1, np.int8),
    )


times = st.lists(st.integers(0, 20), max_size=20)


@given(times, times)
def test_joined_payments_are_sorted_by_time_and_equal_times_keep_their_order(first: list[int], then: list[int]) -> None:
    joined = Payments.concatenate([Payments.none(), payments(first), payments(then, len(first))]).in_time_order()

    expected = sorted(enumerate([*first, *then]), key=lambda row: row[1])
    assert joined.account.tolist() == [account for account, _ in expected]
    assert joined.cents.tolist() == [time * 2 for _, time in expected]


def test_joining_keeps_the_narrow_types() -> None:
    joined = Payments.concatenate([Payments.none(), payments([3])])

    assert (joined.occurred_at.dtype, joined.account.dtype, joined.memo.dtype) == (np.int64, np.int32, np.int16)


def test_private_and_business_memos_are_apart() -> None:
    assert len(set(MEMOS)) == len(MEMOS)
    assert "rent" in MEMOS[:BUSINESS_MEMOS]
    assert MEMOS[BUSINESS_MEMOS] == "loan repayment"
