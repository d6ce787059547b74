"""Hashes that never change, and memories that answer as if they remembered nothing."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import hashing
from models.hashing import BucketMemory, MemoMemory, hashes, stable_hash

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_hashes_are_those_that_stored_state_was_made_with() -> None:
    # Published values of XXH3 (64 bits, seed 0); the second one guards UTF-8.
    assert stable_hash("") == 0x2D06800538D394C2
    assert hashes(["", "ä"]).tolist() == [0x2D06800538D394C2, stable_hash("ä")]


def test_another_process_hashes_alike() -> None:
    program = "from models.hashing import stable_hash; print(stable_hash('café'))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(answer.stdout) == stable_hash("café")


@given(st.lists(texts))
def test_hashes_of_many_are_those_of_each(many: list[str]) -> None:
    assert hashes(many).tolist() == [stable_hash(text) for text in many]
    assert hashes(many).dtype == np.uint64


@given(st.lists(st.none() | texts), st.integers(2, 600))
def test_buckets_leave_0_to_what_is_not_given(many: list[str | None], buckets: int) -> None:
    found = BucketMemory(buckets).of(many)
    assert [bucket == 0 for bucket in found.tolist()] == [text is None for text in many]
    assert all(0 <= bucket < buckets for bucket in found.tolist())


def test_a_memory_that_grew_too_large_forgets_but_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "REMEMBERED", 10)
    names = [f"name-{number}" for number in range(35)]
    buckets, memos = BucketMemory(64), MemoMemory(64, 4)

    assert buckets.of(names).tolist() == [BucketMemory(64)[name] for name in names]
    assert [memos[name] for name in names] == [MemoMemory(64, 4)[name] for name in names]
    assert len(buckets) <= 10
    assert len(memos) <= 10


def test_memos_differ_by_words_and_their_order_but_not_by_numbers_case_or_spaces() -> None:
    memo = MemoMemory(512, 8)
    assert memo["Invoice 4711"] == memo["invoice  4712 "]
    assert memo["gift card"] != memo["card gift"]
    assert memo["gift card"] != memo["gift"]


@given(st.lists(st.none() | texts, min_size=1))
def test_a_memo_is_a_row_of_buckets_filled_up_with_0(memos: list[str | None]) -> None:
    found = MemoMemory(512, 8).of(memos)
    if found is None:
        assert not any(memos)
        return
    assert found.shape == (len(memos), 8)
    assert (found >= 0).all()
    assert (found < 512).all()
    for memo, row in zip(memos, found, strict=True):
        words = (memo or "").split()
        assert np.count_nonzero(row) == min(8, max(0, 2 * len(words) - 1))
        assert not (row[1:] > 0)[row[:-1] == 0].any()


def test_a_batch_without_memos_has_none() -> None:
    assert MemoMemory(512, 8).of([None, "", None]) is None
    assert MemoMemory(512, 8).of([]) is None
