"""Numbered texts and times as texts: the same as formatting them one by one."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ops.simulate.ids import numbered_texts, stable_number, time_matrix

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MILLISECOND = 253_402_300_799_999


@given(st.lists(st.integers(0, 10**10 - 1)), st.text(max_size=10))
def test_numbered_texts_are_the_prefix_and_ten_digits(numbers: list[int], prefix: str) -> None:
    assert numbered_texts(prefix, np.array(numbers, np.int64)) == [f"{prefix}{number:010d}" for number in numbers]


@given(st.lists(st.integers(0, LAST_MILLISECOND), min_size=1))
def test_times_are_rfc_3339_in_utc_with_milliseconds(times: list[int]) -> None:
    written = [row.tobytes().decode() for row in time_matrix(np.array(times, np.int64))]

    assert [datetime.fromisoformat(text) for text in written] == [EPOCH + timedelta(milliseconds=t) for t in times]
    assert {len(text) for text in written} == {24}


def test_a_stable_number_never_changes() -> None:
    """Ids and labels of published seeds depend on it."""
    assert stable_number("") == 0xE3B0C44298FC1C14
    assert stable_number("1") == 0x6B86B273FF34FCE1
