"""The benchmark of snapshots and bounded memory, in small: it copies, lets accounts leave and come back, and counts."""

import pytest

from ops.bench.state import OLD_SHARE, StateBenchConfig, run_state

SMALL = StateBenchConfig(accounts=3_000, events=24_000, every=2_000, rounds=1, many=30_000, most_resident=10_000)


def test_runs_with_copies_make_them_and_say_what_each_costs() -> None:
    found = run_state(["copies"], SMALL, quiet=True)["copies"]
    assert found["copied"] > 500
    assert min(found[name] for name in ("with", "without", "cpu_with", "compute_without")) > 0
    assert found["microseconds_per_entity"] > 0
    assert found["restore_microseconds_per_account"] > 0


def test_many_accounts_are_scored_with_few_in_memory() -> None:
    found = run_state(["memory"], SMALL, quiet=True)["memory"]
    assert found["resident"] <= 10_000
    assert found["events"] == pytest.approx(30_000 / (1 - OLD_SHARE), rel=0.1)
    assert found["evicted"] - found["returned"] + found["resident"] == 30_000
    assert found["returned"] > 0


def test_a_part_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ValueError, match="no such part: speed; there are copies, memory"):
        run_state(["speed"], SMALL, quiet=True)
