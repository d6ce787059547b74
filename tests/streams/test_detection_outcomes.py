"""Every record of a batch has exactly one outcome and one score, however the log is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import TrainedDetector
from models.events import Events
from models.scoring import Scorer
from storage.progress import Claim
from streams.batch import Chunk, OwnedPartition, PreparedBatch
from streams.decode import decode_transactions
from streams.detection import DetectionProcessor, DetectionRules
from streams.events import events_of
from streams.health import FlowMetrics
from streams.rows import RowEncoder
from tests.fraud_model import transaction
from tests.models.logs import untrained
from tests.streams.bench import UUID, KafkaRecord, NothingKept, OneModel

NOW = 1_773_489_600_000
PARTITIONS = 3
START = 100
ACCOUNTS = 4


class EmptyDatabase:
    """A source where nothing was ever stored."""

    def transactions(self, claim: Claim, from_offset: int) -> list[Events]:
        return []

    def control(self, claim: Claim, name: str) -> None:
        return None

    def alerts(self, claim: Claim) -> tuple[int, list[Any]]:
        return 0, []

    def uncounted(self, claim: Claim) -> dict[str, Any]:
        return {}

    def judged(self, alert_ids: Sequence[str]) -> set[str]:
        return set()

    def patiently(self, read: Any) -> Any:
        return read()


@dataclass(frozen=True)
class Step:
    """One record: what it is, how many offsets before it hold none, and whether its chunk and batch end with it."""

    kind: str
    gap: int
    account: int
    fraud: bool
    cut: bool


steps = st.builds(
    Step,
    kind=st.sampled_from(["new", "new", "new", "repeat", "broken", "null"]),
    gap=st.sampled_from([0, 0, 0, 1, 5]),
    account=st.integers(0, ACCOUNTS - 1),
    fraud=st.sampled_from([False, False, False, True]),
    cut=st.booleans(),
)
logs = st.lists(st.lists(steps, max_size=14), min_size=PARTITIONS, max_size=PARTITIONS)


def records_of(partition: int, log: Sequence[Step]) -> list[KafkaRecord]:
    records: list[KafkaRecord] = []
    good: list[KafkaRecord] = []
    offset = START
    for step in log:
        offset += step.gap
        account = f"a{partition}-{step.account}"
        amount = 9_900.0 if step.fraud else 20.0 + step.account
        key, value = transaction(f"e{partition}-{offset}", account, NOW + offset, amount)
        record = KafkaRecord(offset, NOW + offset, key, value)
        if step.kind == "repeat" and good:
            record = KafkaRecord(offset, NOW + offset, good[-1].key, good[-1].value)
        elif step.kind == "broken":
            record = KafkaRecord(offset, NOW + offset, key, value[:-1])
        elif step.kind == "null":
            record = KafkaRecord(offset, NOW + offset, key, None)
        else:
            good.append(record)
        records.append(record)
        offset += 1
    return records


def batches_of(logs: Sequence[Sequence[Step]], *, cut: bool) -> list[list[tuple[int, list[KafkaRecord]]]]:
    """Rounds of (partition, chunk); without cuts one round holds everything."""
    chunked: list[list[list[KafkaRecord]]] = []
    for partition, log in enumerate(logs):
        chunks: list[list[KafkaRecord]] = [[]]
        for step, record in zip(log, records_of(partition, log), strict=True):
            chunks[-1].append(record)
            if cut and step.cut:
                chunks.append([])
        chunked.append([chunk for chunk in chunks if chunk])
    rounds = max(map(len, chunked), default=0)
    return [
        [(partition, chunks[turn]) for partition, chunks in enumerate(chunked) if turn < len(chunks)]
        for turn in range(rounds)
    ]


def processed(model: TrainedDetector, logs: Sequence[Sequence[Step]], *, cut: bool) -> list[PreparedBatch]:
    owners = [OwnedPartition(Claim("transactions", 1, p, 1, START), UUID, 1, START, START) for p in range(PARTITIONS)]
    processor = DetectionProcessor(
        Scorer(model, initial_capacity=16),
        "fraud:1",
        EmptyDatabase(),  # type: ignore[arg-type]
        RowEncoder("sqlite"),
        DetectionRules(),
        lambda: owners,
        FlowMetrics(),
        OneModel(),
        NothingKept(),
    )
    prepared = []
    for turn, chunks in enumerate(batches_of(logs, cut=cut)):
        batch = processor.process([Chunk(owners[p], chunk) for p, chunk in chunks], NOW / 1000 + turn)
        assert batch is not None
        prepared.append(batch)
    return prepared


Places = dict[tuple[int, int], Any]


def stored(batches: Sequence[PreparedBatch], table: str, column: str = "source_offset") -> Places:
    """(partition, offset) -> a column's value, of all rows that the batches would write into a table."""
    found: Places = {}
    for batch in batches:
        for work in batch.works:
            for rows in work.rows:
                if rows.table.name == table:
                    names = rows.columns
                    for row in rows.payload:
                        values = dict(zip(names, row, strict=True))
                        place = values["source_partition"], values["source_offset"]
                        assert place not in found, f"two rows of {table} for {place}"
                        found[place] = values[column]
    return found


def outcomes(batches: Sequence[PreparedBatch]) -> dict[tuple[int, int], str]:
    found: dict[tuple[int, int], str] = {}
    for table in ("transactions", "duplicates", "dead_letters"):
        for place in stored(batches, table):
            assert place not in found, f"{place} has two outcomes"
            found[place] = table
    return found


@pytest.fixture(scope="module")
def model() -> TrainedDetector:
    return untrained()


@settings(max_examples=40)
@given(logs=logs)
def test_every_record_has_exactly_one_outcome_and_the_counts_add_up(
    model: TrainedDetector, logs: list[list[Step]]
) -> None:
    batches = processed(model, logs, cut=True)
    expected = {(p, record.offset) for p, log in enumerate(logs) for record in records_of(p, log)}
    found = outcomes(batches)
    assert found.keys() == expected
    assert stored(batches, "predictions").keys() == stored(batches, "transactions").keys()
    following = dict.fromkeys(range(PARTITIONS), START)
    for batch in batches:
        for work in batch.works:
            step = work.advance
            assert step.base_offset == following[step.partition]
            counted = step.applied + step.duplicates + step.dead_letters + step.gaps
            assert counted == step.next_offset - step.base_offset
            written = {rows.table.name: rows.rows for rows in work.rows}
            assert written.get("transactions", 0) == written.get("predictions", 0) == step.applied
            assert (written.get("duplicates", 0), written.get("dead_letters", 0)) == (
                step.duplicates,
                step.dead_letters,
            )
            following[step.partition] = step.next_offset
    for partition, log in enumerate(logs):
        if log:
            assert following[partition] == records_of(partition, log)[-1].offset + 1


@settings(max_examples=25)
@given(logs=logs)
def test_outcomes_and_scores_do_not_depend_on_how_the_log_is_cut(
    model: TrainedDetector, logs: list[list[Step]]
) -> None:
    cut, whole = processed(model, logs, cut=True), processed(model, logs, cut=False)
    assert outcomes(cut) == outcomes(whole)
    assert stored(cut, "duplicates", "event_id") == stored(whole, "duplicates", "event_id")
    scores, expected = stored(cut, "predictions", "score"), stored(whole, "predictions", "score")
    assert scores.keys() == expected.keys()
    assert np.allclose([scores[place] for place in expected], list(expected.values()), atol=1e-5)


@settings(max_examples=15)
@given(logs=logs)
def test_stored_scores_are_those_of_the_scorer_alone(model: TrainedDetector, logs: list[list[Step]]) -> None:
    found = stored(processed(model, logs, cut=True), "predictions", "score")
    scorer = Scorer(model, initial_capacity=16)
    expected: Places = {}
    for partition, log in enumerate(logs):
        decoded = decode_transactions(records_of(partition, log), DetectionRules().limits)
        scored = scorer.score(events_of(decoded, np.full(len(decoded), partition, np.int32), {}))
        for offset, score, duplicate in zip(decoded.offset, scored.score, scored.duplicate, strict=True):
            if not duplicate:
                expected[partition, int(offset)] = score
    assert found.keys() == expected.keys()
    assert np.allclose([found[place] for place in expected], list(expected.values()), atol=1e-5)


def test_a_batch_of_nothing_but_broken_records_still_moves_on(model: TrainedDetector) -> None:
    (batch,) = processed(model, [[Step("broken", 2, 0, False, False)] * 3, [], []], cut=False)
    (work,) = batch.works
    assert (work.advance.dead_letters, work.advance.gaps, work.advance.applied) == (3, 6, 0)
    assert work.outboxes == {"dead_letters"}
