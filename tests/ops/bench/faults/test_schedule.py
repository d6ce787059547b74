"""Which fault comes when: seeded, fair, and the same whether a run was interrupted or not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ops.bench.faults.schedule import schedule

NAMES = ["a", "b", "c", "d"]


@given(seed=st.integers(0, 2**32), rounds=st.integers(0, 60))
def test_every_fault_comes_equally_often_up_to_one(seed: int, rounds: int) -> None:
    found = schedule(seed, rounds, NAMES)
    counts = Counter({name: 0 for name in NAMES} | Counter(one.fault for one in found))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert [one.number for one in found] == list(range(rounds))


@given(seed=st.integers(0, 2**32), short=st.integers(0, 30), more=st.integers(0, 30))
def test_a_longer_run_begins_with_the_shorter_one(seed: int, short: int, more: int) -> None:
    assert schedule(seed, short + more, NAMES)[:short] == schedule(seed, short, NAMES)


def test_other_seeds_give_other_orders_and_rounds_other_seeds() -> None:
    assert len({tuple(one.fault for one in schedule(seed, 40, NAMES)) for seed in range(5)}) == 5
    assert len({one.seed for one in schedule(0, 40, NAMES)}) == 40
