"""Hashes that never change, and a memory that answers as if it remembered nothing."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import hashing
from models.hashing import BucketMemory, hashes, stable_hash

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
    buckets = BucketMemory(64)

    assert buckets.of(names).tolist() == [BucketMemory(64)[name] for name in names]
    assert len(buckets) <= 10
