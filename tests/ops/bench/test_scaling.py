"""The benchmark of scaling in small: its traffic, its arithmetic, its checks. How fast anything is, is not asserted."""

import io
import json
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from models.scoring import Scorer
from ops.bench.event_cost import Cost, Load, check, event_costs, in_a_process_of_its_own
from ops.bench.measure import BenchmarkFailed, Pace, Stored
from ops.bench.payment_memos import payment_memos
from ops.bench.record_scoring import RecordScoring
from ops.bench.scaling import ScalingConfig, entities_summary, hot_key_summary, memos_summary, run_scaling, show
from ops.bench.scaling_service import ServiceLoad, runs_summary
from ops.bench.state import BATCH, PARTITIONS, TOPIC, untrained
from ops.bench.throughput import Run
from ops.bench.traffic import HOT_ACCOUNT, Batch, Traffic, drawn_accounts, records_of
from ops.service import ServiceUnavailable
from streams import contract
from tests.conftest import cannot_be_had

SMALL = ScalingConfig(
    accounts=(500, 1_000),
    hot_accounts=500,
    stretches=3,
    batches=1,
    workers=(1, 2),
    memo_rounds=1,
    load=ServiceLoad(events=6_000, accounts=500, hidden=8),
)
STORED = Stored(counted=10, transactions=10, predictions=10, distinct_events=10, flagged=1, unbalanced=0)


def accounts_in(batches: list[Batch]) -> Counter[str]:
    return Counter(
        msgspec.json.decode(record.value or b"", type=contract.Transaction).account_id
        for batch in batches
        for records in batch.values()
        for record in records
    )


def test_the_hot_account_has_its_share_and_the_others_the_rest_evenly() -> None:
    account = drawn_accounts(np.random.default_rng(3), accounts=10, count=100_000, hot_share=0.4)
    shares = np.bincount(account, minlength=10) / len(account)
    assert shares[HOT_ACCOUNT] == pytest.approx(0.4 + 0.06, abs=0.01)
    assert shares[1:] == pytest.approx([0.06] * 9, abs=0.005)
    evenly = drawn_accounts(np.random.default_rng(3), accounts=10, count=100_000, hot_share=0.0)
    assert np.bincount(evenly) / len(evenly) == pytest.approx([0.1] * 10, abs=0.005)


def test_each_account_comes_once_before_any_comes_again() -> None:
    traffic = Traffic(accounts=10_000)
    first = accounts_in(list(traffic.first_events()))
    assert len(first) == 10_000
    assert set(first.values()) == {1}
    assert accounts_in(traffic.batches(2, hot_share=0.4))[f"account-{HOT_ACCOUNT}"] > 0.35 * 2 * BATCH


def test_records_lie_in_the_partition_of_their_account_in_the_order_of_offsets_and_time() -> None:
    traffic = Traffic(accounts=100)
    batches = [*traffic.first_events(), *traffic.batches(2, hot_share=0.4)]
    partition_of: dict[bytes, int] = {}
    for partition in range(PARTITIONS):
        records = [record for batch in batches for record in batch[partition]]
        assert np.all(np.diff([record.offset for record in records]) > 0)
        assert np.all(np.diff([record.timestamp for record in records]) > 0)
        for record in records:
            assert partition_of.setdefault(record.key or b"", partition) == partition
    assert len(partition_of) == 100


def test_the_cost_by_accounts_is_told_beside_that_of_the_fewest() -> None:
    found = entities_summary({1_000: [Cost(12.0, 30.0), Cost(50.0, 90.0), Cost(9.0, 20.0)], 100: [Cost(8.0, 10.0)]})
    assert (found["1000"]["cpu"], found["1000"]["wall"], found["1000"]["ratio"]) == (12.0, 30.0, 1.5)
    assert found["100"]["ratio"] == 1.0


def test_the_ratio_of_a_hot_key_is_the_median_of_neighbouring_stretches() -> None:
    evenly, hot = [Cost(10, 1), Cost(20, 1), Cost(10, 1)], [Cost(15, 1), Cost(50, 1), Cost(13, 1)]
    assert hot_key_summary(evenly, hot)["ratio"] == 1.5


def run_of(events_per_second: float, owners: int, *problems: str) -> Run:
    return Run(0, "headgate", Pace(10, events_per_second, 1.0, 2.0), True, STORED, None, owners, problems)


def test_runs_are_told_beside_the_first_and_must_have_had_all_their_workers() -> None:
    found = runs_summary({1: run_of(100.0, 1), 2: run_of(150.0, 1)}, workers=lambda number: number)
    assert found["2"]["ratio"] == 1.5
    assert found["1"]["problems"] == []
    assert found["2"]["problems"] == ["1 workers owned partitions at the end, not 2"]
    assert runs_summary({2: run_of(150.0, 2, "lost one")}, workers=lambda number: number)["2"]["problems"] == [
        "lost one"
    ]


def test_memos_are_told_by_the_medians_of_neighbours_own_ratios() -> None:
    runs = [
        (run_of(100.0, 1), run_of(90.0, 1)),
        (run_of(50.0, 1), run_of(44.0, 1)),
        (run_of(80.0, 1), run_of(80.0, 1, "x")),
    ]
    found = memos_summary([Cost(10, 1), Cost(20, 1)], [Cost(12, 2), Cost(22, 2)], runs)
    assert found["ratio"] == 0.9
    assert found["cost_ratio"] == pytest.approx(1.15)
    assert found["events_per_second"] == {"without": 80.0, "with": 80.0}
    assert found["problems"] == ["x"]


def test_a_share_of_payments_has_memos_some_of_which_recur() -> None:
    traffic = Traffic(accounts=100)
    memos = [
        msgspec.json.decode(record.value or b"", type=contract.Transaction).memo
        for batch in traffic.batches(2, 0.0, memo_share=0.5)
        for records in batch.values()
        for record in records
    ]
    given = [memo for memo in memos if memo is not None]
    assert len(given) / len(memos) == pytest.approx(0.5, abs=0.02)
    assert 0.5 < len(set(given)) / len(given) < 0.7
    assert not any(payment_memos(np.random.default_rng(0), 100, 0.0))


def test_a_record_that_did_not_become_a_row_is_noticed() -> None:
    scoring = RecordScoring(Scorer(untrained(8)), TOPIC, "postgresql")
    batch = records_of(0, np.arange(20))
    check(20, scoring.score(batch, 0))
    with pytest.raises(BenchmarkFailed, match="20 records became 0 rows of transactions"):
        check(20, scoring.score(batch, 0))  # all of them repeated


@pytest.mark.slow
def test_events_are_measured_in_process_by_accounts_and_with_a_hot_key() -> None:
    result = run_scaling(["hot_key", "entities"], SMALL, quiet=True, measure=event_costs)
    assert json.loads(json.dumps(result)) == result
    assert list(result) == ["entities", "hot_key", "machine"]
    assert list(result["entities"]) == ["500", "1000"]
    for said in (*result["entities"].values(), result["hot_key"]["evenly"], result["hot_key"]["hot"]):
        assert len(said["stretches"]) == 3
        assert all(cost["cpu"] > 0 and cost["wall"] > 0 for cost in said["stretches"])


@pytest.mark.slow
def test_a_measurement_can_have_a_process_of_its_own() -> None:
    told: list[float] = []
    costs = in_a_process_of_its_own(Load(100, (0.0, 0.4), stretches=2, batches=1, hidden=8), told.append)
    assert [len(stretches) for stretches in costs] == [2, 2]
    assert told[-1] == 1.0


def test_a_part_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(
        BenchmarkFailed, match="no such part: speed; there are entities, hot_key, memos, partitions, workers"
    ):
        run_scaling(["speed"], SMALL, quiet=True)


def test_a_person_sees_every_figure_within_80_columns() -> None:
    result = {
        "entities": entities_summary({10_000: [Cost(8, 10)], 1_000_000: [Cost(12.34, 56.78)]}),
        "hot_key": {"accounts": 100_000, "hot_share": 0.4, **hot_key_summary([Cost(10, 11)], [Cost(13.57, 15)])},
        "memos": {
            "share": 0.5,
            **memos_summary([Cost(11.11, 12)], [Cost(13.13, 14)], [(run_of(61_000.0, 1), run_of(56_789.0, 1))]),
        },
        "partitions": runs_summary({1: run_of(54_321.0, 1), 64: run_of(43_210.0, 1)}, lambda number: 1),
        "workers": runs_summary({1: run_of(50_000.0, 1), 2: run_of(98_765.0, 1)}, lambda number: number),
        "machine": {"cores": 2, "python": "3.11.7"},
    }
    console = Console(file=io.StringIO(), width=80)

    show(result, console)

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for figure in (
        "1,000,000",
        "12.34",
        "56.78",
        "1.54 times",
        "13.57",
        "1.36 times",
        "13.13",
        "56,789",
        "0.93 times",
        "54,321",
        "0.80 times",
        "98,765",
    ):
        assert figure in shown, figure
    (line,) = [line for line in shown.splitlines() if "98,765" in line]
    assert "no" in line, "its second worker owns nothing"


@pytest.mark.service
@pytest.mark.timeout(300)
def test_workers_that_share_a_group_and_one_that_reads_memos_store_every_event_once(
    service_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(service_folder))
    try:
        result = run_scaling(["memos", "workers"], SMALL, quiet=True)
    except ServiceUnavailable as error:
        cannot_be_had(str(error))
    assert json.loads(json.dumps(result)) == result
    assert list(result["workers"]) == ["1", "2"]
    assert result["memos"]["problems"] == []
    ((without, with_memos),) = [tuple(pair.values()) for pair in result["memos"]["rounds"]]
    assert result["memos"]["ratio"] == pytest.approx(with_memos / without)
    for run in result["workers"].values():
        assert run["complete"]
        assert run["problems"] == []
        assert run["events"] == SMALL.load.events
        assert run["events_per_second"] > 0
    assert list(service_folder.glob("headgate-*")) == []
