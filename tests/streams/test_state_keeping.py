"""Snapshots, the cold tier and restores of both streams: whatever is thrown away, results are those of an undisturbed
run."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from models.artifact import TrainedDetector
from models.scoring import Scorer
from storage.database import Database, DatabaseUnavailable
from storage.progress import claim_partitions, record_control
from storage.retention import PRUNED_CONTROL
from storage.snapshots import SegmentRef, SnapshotFiles
from streams import segments, snapshot_store, snapshots
from streams.batch import PreparedBatch
from streams.cold_tier import WriteColdStates
from streams.health import FlowMetrics
from streams.snapshots import Cadence
from streams.state_keeping import StateRules
from tests.models.engagement_logs import untrained_policy
from tests.models.logs import untrained
from tests.streams.bench import (
    NOW,
    TOPIC,
    UUID,
    Bench,
    KafkaRecord,
    OneModel,
    Partitions,
    SometimesAway,
    detection,
    give_up,
    moment,
    payment,
)
from tests.streams.shop_bench import ENGAGEMENTS, Shop, engagement, items_bench, promote, recommending, some_items

ALWAYS = Cadence(seconds=0.0, offsets=1)
MODELS: dict[str, TrainedDetector] = {
    "fraud:1": untrained(),
    "fraud:2": untrained(seed=5),
    "fraud:3": untrained(seed=6, hidden=6),
}
ACCOUNTS, USERS, ITEMS = 40, 40, 60
ACTIONS = ("click", "impression", "like", "dislike", "purchase", "skip", "dwell")
Records = dict[int, list[KafkaRecord]]

_seconds = count(1_000_000)


def later() -> float:
    """A second after the time before."""
    return NOW + next(_seconds)


def batches(draw: Random, record: Callable[[int, str, Random], KafkaRecord], number: int) -> Iterator[Records]:
    """Batches of two partitions with gaps between offsets; few entities have most of the traffic."""
    following = [0, 0]
    for _ in range(number):
        batch: Records = {}
        for partition in (0, 1):
            records = []
            for _ in range(draw.choice((0, 1, 4, 12))):
                following[partition] += draw.choice((1, 1, 1, 2))
                records.append(record(following[partition], f"{int(ACCOUNTS * draw.random() ** 2)}", draw))
            if records:
                batch[partition] = records
        if batch:
            yield batch


def a_payment(offset: int, entity: str, draw: Random) -> KafkaRecord:
    """Some are repeats."""
    number = offset if draw.random() < 0.9 else max(0, offset - draw.randrange(1, 40))
    return payment(
        offset,
        f"a{entity}",
        amount=round(draw.lognormvariate(3, 1), 2),
        seconds=offset * 600.0,
        event_id=f"e{number}",
        merchant_id=f"m{draw.randrange(7)}",
        memo=draw.choice(("rent", None)),
    )


def an_engagement(offset: int, entity: str, draw: Random) -> KafkaRecord:
    number = offset if draw.random() < 0.9 else max(0, offset - draw.randrange(1, 40))
    action = draw.choice(ACTIONS)
    return engagement(
        offset, f"u{entity}", f"item-{draw.randrange(ITEMS)}", action, offset * 5.0, event_id=f"e{number}"
    )


@dataclass
class Detecting:
    """A worker's detection that can be killed: `start` throws everything away and claims again."""

    database: Database
    partitions: Partitions
    rules: StateRules | None = None
    name: str = "fraud:1"
    metrics: FlowMetrics = field(default_factory=FlowMetrics)

    def start(self, wait: Any = give_up) -> None:
        self.partitions.claim(0, 1)
        self.metrics = FlowMetrics()
        self.waiting: str | None = None
        self.bench, self.scorer = detection(
            self.database,
            self.partitions,
            self.metrics,
            wait=wait,
            models=OneModel(self.take_model),
            state=self.rules,
            model=MODELS[self.name],
            name=self.name,
            sweep_interval=1e12,
        )

    def take_model(self, scorer: Scorer) -> str | None:
        name, self.waiting = self.waiting, None
        if name is not None:
            scorer.replace_model(MODELS[name])
        return name

    def use(self, name: str) -> None:
        """From the next batch on, and after a kill."""
        self.name = self.waiting = name

    def number(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"topic": self.partitions.topic} | labels) or 0.0


def results(database: Database, partitions: Partitions) -> tuple[list[Any], list[float]]:
    """Who was scored and what was a repeat, and the scores in the same order."""
    generation = next(iter(partitions.owned.values())).claim.topic_generation
    with database.reading() as connection:
        scored = connection.execute(
            text(
                "SELECT source_partition, source_offset, account_id, model, score FROM predictions "
                "WHERE topic_generation = :generation ORDER BY source_partition, source_offset"
            ),
            {"generation": generation},
        ).all()
        repeats = connection.execute(
            text(
                "SELECT source_partition, source_offset FROM duplicates WHERE topic_generation = :generation "
                "ORDER BY source_partition, source_offset"
            ),
            {"generation": generation},
        ).all()
    return [tuple(row)[:4] for row in scored] + [tuple(row) for row in repeats], [row.score for row in scored]


def assert_same_results(one: Detecting, other: Detecting) -> None:
    own, wanted = results(one.database, one.partitions), results(other.database, other.partitions)
    assert own[0] == wanted[0]
    assert len(own[1]) > 100
    np.testing.assert_allclose(own[1], wanted[1], rtol=0, atol=1e-5)


def undisturbed(database: Database) -> Detecting:
    found = Detecting(database, Partitions(database, "undisturbed"))
    found.start()
    return found


def bounded(database: Database, folder: Path, most_resident: int = 12) -> Detecting:
    rules = StateRules(SnapshotFiles(str(folder / "state")), ALWAYS, most_resident)
    found = Detecting(database, Partitions(database), rules)
    found.start()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_worker_that_is_killed_again_and_again_scores_as_one_that_never_was(
    database: Database, tmp_path: Path, seed: int
) -> None:
    """With few accounts in memory, models that take over, snapshots at any time, and at times none that is readable."""
    draw, calm, shaken = Random(seed), undisturbed(database), bounded(database, tmp_path)
    kills = snapshots_used = folded = evicted = returned = 0
    for batch in batches(Random(seed + 100), a_payment, 45):
        if draw.random() < 0.1:
            name = draw.choice(list(MODELS))
            if name != shaken.name:
                calm.use(name)
                shaken.use(name)
        if draw.random() < 0.15:
            evicted += int(shaken.number("headgate_entities_evicted_total"))
            returned += int(shaken.number("headgate_entities_returned_total"))
            shaken.start()
            kills += 1
        for worker in (calm, shaken):
            worker.bench.run(batch, later())
        for partition in batch:
            manifest = shaken.bench.snapshots._chains[partition].manifest
            snapshots_used += manifest is not None
            folded += manifest is None
        if draw.random() < 0.6:
            shaken.bench.snapshots.work()
        if draw.random() < 0.05:
            for file in (tmp_path / "state").rglob("*.json"):
                file.unlink()
        assert shaken.scorer.resident_accounts <= 12
    everybody = {p: [payment(9_000 + n, f"a{n}", seconds=9e6) for n in range(ACCOUNTS)] for p in (0, 1)}
    for worker in (calm, shaken):
        worker.bench.run(everybody, NOW + 1e7)
    assert_same_results(shaken, calm)
    assert min(kills, snapshots_used, folded, evicted, returned) > 0, (kills, snapshots_used, folded, evicted, returned)


@pytest.fixture
def stocked(database: Database) -> None:
    items_bench(database).run({0: some_items(ITEMS)}, NOW)


SLATES = (
    "SELECT source_partition, source_offset, user_id, policy, candidate_hash FROM recommendations "
    "WHERE topic_generation = :generation ORDER BY source_partition, source_offset"
)
SHOWN = (
    "SELECT source_partition, source_offset, position, item_id, propensity FROM recommendation_items "
    "WHERE topic_generation = :generation ORDER BY source_partition, source_offset, position"
)


def slates_of(shop: Shop) -> list[tuple[Any, ...]]:
    generation = shop.bench.partitions.owned[0].claim.topic_generation
    with shop.bench.database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(SLATES), {"generation": generation})]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_users_of_a_worker_that_is_killed_again_and_again_are_answered_as_those_of_one_that_never_was(
    database: Database, stocked: None, tmp_path: Path, seed: int
) -> None:
    draw, models = Random(seed), tmp_path / "models"
    rules = StateRules(SnapshotFiles(str(tmp_path / "state")), ALWAYS, 10)
    calm_partitions, partitions = Partitions(database, "undisturbed"), Partitions(database, ENGAGEMENTS)
    calm_partitions.claim(0, 1)

    def started() -> Shop:
        partitions.claim(0, 1)
        return recommending(database, partitions, models, state=rules)

    calm, shaken = recommending(database, calm_partitions, models), started()
    kills = returned = 0
    for number, batch in enumerate(batches(Random(seed + 50), an_engagement, 45)):
        if number in (12, 30):
            promote(database, models, untrained_policy(seed=number))
            calm.look()
            shaken.look()
        if draw.random() < 0.15:
            returned += int(
                shaken.numbers.get_sample_value("headgate_entities_returned_total", {"topic": ENGAGEMENTS}) or 0
            )
            shaken, kills = started(), kills + 1
        for shop in (calm, shaken):
            shop.bench.run(batch, later())
        if draw.random() < 0.6:
            shaken.bench.snapshots.work()
        assert shaken.recommender.resident_users <= 10
    for shop in (calm, shaken):
        everybody = {p: [engagement(9_000 + n, f"u{n}", seconds=9e6) for n in range(USERS)] for p in (0, 1)}
        shop.bench.run(everybody, NOW + 1e7)
    own, wanted = slates_of(shaken), slates_of(calm)
    assert own == wanted
    assert len(own) > 100
    assert min(kills, returned) > 0
    states = [state_of_users(shop) for shop in (shaken, calm)]
    for name, values in states[1].items():
        np.testing.assert_allclose(states[0][name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def state_of_users(shop: Shop) -> dict[str, Any]:
    """What items earned, of all partitions."""
    return {"popular": shop.recommender._popularity.of_all(ITEMS)}


@pytest.mark.slow
def test_a_model_that_comes_back_finds_no_states_of_its_first_time(database: Database, tmp_path: Path) -> None:
    """The snapshot is from then; what was activated since builds them from the rings."""
    calm, shaken = undisturbed(database), bounded(database, tmp_path, most_resident=1_000)
    parts = some_batches(60)
    run([calm, shaken], parts[:30])
    for name, batch in zip(("fraud:2", "fraud:1"), parts[30:32], strict=True):
        for worker in (calm, shaken):
            worker.use(name)
            worker.bench.run(batch, later())
    shaken.start()
    for batch in parts[32:]:
        for worker in (calm, shaken):
            worker.bench.run(batch, later())
    assert shaken.bench.snapshots._chains[0].manifest is not None
    assert_same_results(shaken, calm)


# Snapshots that cannot be used or made.


def some_batches(number: int, seed: int = 7) -> list[Records]:
    return list(batches(Random(seed), a_payment, number))


def run(workers: Sequence[Detecting], parts: Sequence[Records]) -> None:
    """Each batch, and a snapshot after it."""
    for batch in parts:
        for worker in workers:
            worker.bench.run(batch, later())
            worker.bench.snapshots.work()


def segment_files(folder: Path, partition: int = 0) -> list[Path]:
    return sorted((folder / "state").glob(f"*/{partition}/*.safetensors"))


def offsets_named(database: Database, partition: int = 0) -> list[int]:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT next_offset FROM snapshots WHERE partition = {partition} ORDER BY next_offset DESC"
        )
        return [row[0] for row in rows]


@pytest.mark.slow
def test_of_a_torn_snapshot_the_one_before_is_used(database: Database, tmp_path: Path) -> None:
    calm, shaken = undisturbed(database), bounded(database, tmp_path)
    parts = some_batches(40)
    run([calm, shaken], parts[:20])
    newest, before = offsets_named(database)
    torn = next(file for file in segment_files(tmp_path) if f"{newest:016d}" in file.name)
    torn.write_bytes(torn.read_bytes()[:-7])
    shaken.start()
    run([calm, shaken], parts[20:])
    assert shaken.number("headgate_snapshots_refused_total", reason="unreadable") == 1
    assert before < newest
    assert_same_results(shaken, calm)


def test_the_snapshot_that_is_begun_with_is_the_newest_that_sql_has_passed(database: Database, tmp_path: Path) -> None:
    shaken = bounded(database, tmp_path)
    run([shaken], some_batches(10))
    newest = offsets_named(database)[0]
    shaken.start()
    shaken.bench.run({0: [payment(1_000)]}, NOW)
    manifest = shaken.bench.snapshots._chains[0].manifest
    assert manifest is not None
    assert manifest.next_offset == newest


@pytest.mark.slow
def test_a_snapshot_of_another_layout_is_refused_and_the_log_folded(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, shaken = undisturbed(database), bounded(database, tmp_path, most_resident=1_000)
    parts = some_batches(40)
    run([calm, shaken], parts[:20])
    layout = shaken.scorer.kept.layout
    shaken.start()
    shaken.scorer.kept.layout = f"other than {layout}"
    run([calm, shaken], parts[20:21])
    assert shaken.number("headgate_snapshots_refused_total", reason="incompatible") == 4  # two of each partition
    (warning, _) = shaken.bench.snapshots.warnings
    assert f"has state layout {layout}, this version needs other than {layout}" in warning
    run([calm, shaken], parts[21:])
    assert_same_results(shaken, calm)
    assert shaken.bench.snapshots.warnings == []


@pytest.mark.slow
def test_without_any_file_the_log_is_folded_although_states_of_later_lie_in_sql(
    database: Database, tmp_path: Path
) -> None:
    calm, shaken = undisturbed(database), bounded(database, tmp_path)
    parts = some_batches(40)
    run([calm, shaken], parts[:30])
    for file in (tmp_path / "state").rglob("*.*"):
        file.unlink()
    shaken.start()
    run([calm, shaken], parts[30:])
    assert shaken.number("headgate_snapshots_refused_total", reason="unreadable") == 4
    assert_same_results(shaken, calm)


def test_a_worker_that_begins_without_a_snapshot_says_what_was_pruned(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    run([worker], some_batches(6))
    claim = worker.partitions.owned[0].claim
    with database.begin() as connection:
        record_control(connection, claim.topic_generation, 0, PRUNED_CONTROL, 17, "days before 2026-01-01")
    worker.start()
    worker.bench.run({0: [payment(1_000)], 1: [payment(1_000)]}, later())
    assert worker.bench.snapshots.warnings == []
    for file in (tmp_path / "state").rglob("*.*"):
        file.unlink()
    worker.start()
    worker.bench.run({0: [payment(1_001)], 1: [payment(1_001)]}, later())
    assert any(
        f"{TOPIC}/0 had to begin without a snapshot, and SQL is complete from offset 17 on only" in text
        for text in worker.bench.snapshots.warnings
    )


@pytest.mark.parametrize("lost", [False, True])
def test_a_fold_writes_no_cold_states_once_its_partition_was_claimed_anew(
    database: Database, tmp_path: Path, lost: bool
) -> None:
    """A rescale has removed those of before, and its workers fold other events."""
    worker = bounded(database, tmp_path)
    run([worker], some_batches(12))
    for file in (tmp_path / "state").rglob("*.*"):
        file.unlink()
    worker.start()
    with database.begin() as connection:
        connection.execute(text("DELETE FROM cold_states"))
        if lost:
            connection.execute(text("UPDATE stream_progress SET epoch = epoch + 1"))
    worker.bench.prepare({0: [payment(1_000)], 1: [payment(1_000)]}, later())
    assert worker.number("headgate_entities_evicted_total") > 0
    ((written,),) = worker.bench.sql("SELECT count(*) FROM cold_states")
    assert (written == 0) == lost


def be_away(state: Path, how: str) -> Callable[[], object]:
    """Has the place for snapshots not answer; to be called when it is to be back."""
    elsewhere = state.rename(state.parent / "elsewhere")
    if how == "not mounted":
        state.mkdir()
        return lambda: (state.rmdir(), elsewhere.rename(state))
    state.write_text("no folder")
    return lambda: (state.unlink(), elsewhere.rename(state))


@pytest.mark.parametrize("how", ["not mounted", "does not answer"])
def test_snapshots_that_are_away_at_a_restart_are_there_once_they_are_back(
    database: Database, tmp_path: Path, how: str
) -> None:
    worker = bounded(database, tmp_path)
    run([worker], [{0: [payment(offset)]} for offset in range(3)])
    before = offsets_named(database)
    back = be_away(tmp_path / "state", how)
    worker.start()
    worker.bench.run({0: [payment(3)]}, later())
    assert worker.number("headgate_snapshots_refused_total", reason="unreachable") == len(before) == 2
    back()
    run([worker], [{0: [payment(4)]}])
    newest = offsets_named(database)[0]
    assert newest > before[0]
    for file in segment_files(tmp_path):
        if f"{newest:016d}" in file.name:
            file.write_bytes(b"damaged")
    worker.start()
    worker.bench.run({0: [payment(5)]}, later())
    manifest = worker.bench.snapshots._chains[0].manifest
    assert manifest is not None
    assert manifest.next_offset == before[0]


@pytest.mark.parametrize("how", ["not mounted", "does not answer"])
def test_a_restore_waits_for_snapshots_that_hold_what_was_pruned(database: Database, tmp_path: Path, how: str) -> None:
    worker = bounded(database, tmp_path)
    run([worker], [{0: [payment(offset)]} for offset in range(3)])
    with database.begin() as connection:
        generation = worker.partitions.owned[0].claim.topic_generation
        record_control(connection, generation, 0, PRUNED_CONTROL, 1, "days before 2026-01-01")
    back, warned = be_away(tmp_path / "state", how), list[list[str]]()

    def wait(failures: int, error: DatabaseUnavailable) -> None:
        warned.append(worker.bench.snapshots.warnings)
        if failures == 3:
            back()

    worker.start(wait)
    worker.bench.run({0: [payment(3)]}, later())
    assert len(warned) == 3
    assert all(
        f"{TOPIC}/0 waits for its snapshots, as SQL is complete from offset 1 on only" in texts[-1] for texts in warned
    )
    assert worker.bench.snapshots.warnings == []
    manifest = worker.bench.snapshots._chains[0].manifest
    assert manifest is not None
    assert manifest.next_offset == offsets_named(database)[0]


@pytest.mark.slow
def test_a_folder_that_takes_no_files_is_told_of_and_the_next_snapshot_holds_all(
    database: Database, tmp_path: Path
) -> None:
    calm = undisturbed(database)
    in_the_way = tmp_path / "state"
    shaken = bounded(database, tmp_path)
    in_the_way.write_text("no folder")
    parts = some_batches(40)
    run([calm, shaken], parts[:15])
    assert shaken.number("headgate_snapshot_failures_total", reason="unwritable") > 5
    assert any("has no new snapshot, so a restore takes longer" in text for text in shaken.bench.snapshots.warnings)
    assert offsets_named(database) == []
    in_the_way.unlink()
    run([calm, shaken], parts[15:20])
    assert shaken.bench.snapshots.warnings == []
    shaken.start()
    run([calm, shaken], parts[20:])
    assert shaken.number("headgate_snapshots_refused_total", reason="unreadable") == 0
    assert shaken.bench.snapshots._chains[0].manifest is not None
    assert_same_results(shaken, calm)


def test_a_copy_that_came_to_nothing_leaves_no_states_in_memory(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    (tmp_path / "state").write_text("no folder")
    worker.bench.run({0: [payment(0)]}, later())
    worker.bench.run({0: [payment(1)]}, later())
    copy = worker.bench.snapshots._copy
    assert copy is not None
    rows, chain = weakref.ref(copy.changes.entities["accounts"].rows), copy.chain
    del copy
    worker.bench.snapshots.work()
    assert [list(ids.moved["accounts"]) for ids in chain.returned] == [["a"]]
    assert rows() is None


@pytest.mark.slow
def test_who_leaves_while_no_snapshot_can_be_made_is_not_remembered_for_ever(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MOST_GONE", 3)
    calm, shaken = undisturbed(database), bounded(database, tmp_path, most_resident=8)
    parts = some_batches(40)
    run([calm, shaken], parts[:5])
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    (tmp_path / "state").write_text("no folder")
    run([calm, shaken], parts[5:25])
    left = max(shaken.scorer.kept.leaving.gone(partition) for partition in (0, 1))
    assert left < 30
    (tmp_path / "state").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "state")
    run([calm, shaken], parts[25:30])
    shaken.start()
    run([calm, shaken], parts[30:])
    assert shaken.number("headgate_snapshots_refused_total", reason="unreadable") == 0
    assert_same_results(shaken, calm)


@pytest.mark.slow
def test_a_damaged_file_that_the_next_base_needs_makes_a_base_of_memory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, shaken = undisturbed(database), bounded(database, tmp_path)
    parts = some_batches(40)
    run([calm, shaken], parts[:6])
    for file in segment_files(tmp_path, 0) + segment_files(tmp_path, 1):
        file.write_bytes(b"damaged")
    monkeypatch.setattr(snapshot_store, "outgrown", lambda segments: True)
    run([calm, shaken], parts[6:20])
    assert shaken.number("headgate_snapshot_failures_total", reason="damaged") == 2
    shaken.start()
    run([calm, shaken], parts[20:])
    assert shaken.number("headgate_snapshots_refused_total", reason="unreadable") == 0
    assert_same_results(shaken, calm)


@pytest.mark.slow
def test_deltas_are_merged_into_a_new_base_and_files_of_no_snapshot_are_removed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_store, "SEGMENT_ENTITIES", 5)
    calm, shaken = undisturbed(database), bounded(database, tmp_path, most_resident=30)
    bases: set[str] = set()
    parts = some_batches(50)
    for batch in parts[:40]:
        run([calm, shaken], [batch])
        names = {file.name for file in segment_files(tmp_path)}
        manifest = shaken.bench.snapshots._chains[0].manifest
        if manifest is not None:
            assert {segment.name for segment in manifest.segments} <= names
            bases |= {segment.name.split("-")[1] for segment in manifest.segments if segments.BASE in segment.name}
    assert len(bases) > 3
    assert len(segment_files(tmp_path)) < 40
    shaken.start()
    run([calm, shaken], parts[40:])
    assert_same_results(shaken, calm)


def test_small_deltas_on_a_large_base_are_merged_before_there_are_many() -> None:
    base = [SegmentRef(f"1-1-base-{number}", "", 1_000_000, 1) for number in range(300)]
    deltas = [SegmentRef(f"1-{2 + number}-delta-0", "", 10, 1) for number in range(segments.MOST_DELTAS + 1)]
    assert not segments.outgrown(base)
    assert not segments.outgrown(base + deltas[:-1])
    assert segments.outgrown(base + deltas)


@pytest.mark.parametrize("harm", ["away", "damaged"])
def test_no_file_is_removed_while_a_manifest_cannot_be_read(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(snapshot_store, "outgrown", lambda segments: True)  # so that none needs files of another
    worker = bounded(database, tmp_path)
    run([worker], [{0: [payment(offset)]} for offset in range(2)])
    (manifest,) = (tmp_path / "state").rglob("*.json")
    needed = set(segment_files(tmp_path))
    whole = manifest.read_bytes()
    manifest.unlink()
    if harm == "away":
        manifest.mkdir()
    else:
        manifest.write_bytes(b"damaged")
    worker.bench.run({0: [payment(2)]}, later())
    worker.bench.snapshots.work()
    assert len(offsets_named(database)) == 2
    assert needed < set(segment_files(tmp_path))
    if harm == "away":
        manifest.rmdir()
    manifest.write_bytes(whole)
    run([worker], [{0: [payment(offset)]} for offset in range(3, 7)])
    assert not manifest.exists()


# When a snapshot is named.


def test_a_snapshot_is_named_only_once_its_batch_is_committed(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    first, second, third = ([payment(10 * n + k, f"a{k}") for k in range(5)] for n in range(3))
    worker.bench.run({0: first}, NOW)
    prepared = worker.bench.prepare({0: second}, NOW)
    worker.bench.snapshots.work()  # of the first
    assert offsets_named(database) == [5]
    after = worker.bench.prepare({0: third}, NOW)  # copies what the second left
    for _ in range(3):
        worker.bench.snapshots.work()
    assert offsets_named(database) == [5]
    assert prepared is not None
    assert after is not None
    worker.bench.commit(prepared)
    worker.bench.snapshots.work()
    assert offsets_named(database) == [15, 5]


def test_a_partition_that_was_taken_away_has_no_snapshot_of_ours(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    worker.bench.run({0: [payment(0)], 1: [payment(0)]}, NOW)
    worker.bench.run({0: [payment(1)], 1: [payment(1)]}, NOW)
    worker.partitions.owned[0].revoked = True
    worker.bench.snapshots.work()
    assert offsets_named(database) == []


def test_a_zombie_names_no_snapshot(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    worker.bench.run({0: [payment(0)]}, NOW)
    worker.bench.run({0: [payment(1)]}, NOW)
    claim_partitions(
        database,
        topic=TOPIC,
        topic_uuid=UUID,
        start_offsets={0: 0},
        owner="another",
        backend_pid=None,
        now=moment(0),
    )
    worker.bench.snapshots.work()
    assert offsets_named(database) == []


@pytest.mark.slow
def test_what_a_rebalance_cut_off_is_in_the_next_snapshot(database: Database, tmp_path: Path) -> None:
    """The state is kept, as nobody else had the partition; so what was copied before must not be missing."""
    calm, worker = undisturbed(database), bounded(database, tmp_path, most_resident=1_000)
    parts = some_batches(40)
    for batch in parts[:10]:
        for one in (calm, worker):
            one.bench.run(batch, later())
        worker.partitions.claim(0, 1)  # the copy at hand is of an owner that is not ours any more
        worker.bench.snapshots.work()
    assert offsets_named(database) == []
    run([calm, worker], parts[10:20])
    worker.start()
    run([calm, worker], parts[20:])
    assert worker.bench.snapshots._chains[0].manifest is not None
    assert_same_results(worker, calm)


def test_a_thread_names_a_snapshot_once_it_is_told_of_the_commit(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    worker.bench.snapshots.start()
    try:
        worker.bench.run({0: [payment(0)]}, later())
        prepared = worker.bench.prepare({0: [payment(1)]}, later())  # copies what the first left
        assert worker.bench.snapshots.done(30)
        assert offsets_named(database) == [1]
        assert prepared is not None
        third = worker.bench.prepare({0: [payment(2)]}, later())  # what the second left, which is not committed
        assert third is not None
        worker.bench.commit(prepared)
        worker.bench.snapshots.committed()
        assert worker.bench.snapshots.done(30)
        assert offsets_named(database) == [2, 1]
    finally:
        worker.bench.snapshots.stop()


@pytest.mark.slow
def test_a_worker_that_was_replaced_removes_no_file_of_its_successor(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It named a snapshot while it owned the partition, and comes to clean up when there are two newer ones, all on
    the base of an owner before."""
    monkeypatch.setattr(snapshot_store, "outgrown", lambda segments: False)
    run([bounded(database, tmp_path)], [{0: [payment(0)]}, {0: [payment(1)]}])
    first = bounded(database, tmp_path)
    first.bench.run({0: [payment(2)]}, later())
    first.bench.run({0: [payment(3)]}, later())
    store = first.bench.snapshots._store
    assert store is not None
    pruned, store._prune = store._prune, lambda copy: late.append(copy)  # type: ignore[method-assign]
    late: list[Any] = []
    first.bench.snapshots.work()
    second = bounded(database, tmp_path)
    run([second], [{0: [payment(4 + k)]} for k in range(4)])
    (copy,) = late
    pruned(copy)
    second.start()
    second.bench.run({0: [payment(9)]}, later())
    assert second.number("headgate_snapshots_refused_total", reason="unreadable") == 0
    assert second.bench.snapshots._chains[0].manifest is not None


def test_copies_are_made_when_their_time_has_come(database: Database, tmp_path: Path) -> None:
    rules = StateRules(SnapshotFiles(str(tmp_path)), Cadence(seconds=30.0, offsets=100))
    worker = Detecting(database, Partitions(database), rules)
    worker.start()
    following = 0

    def copied(seconds: float, records: int) -> bool:
        nonlocal following
        worker.bench.run({0: [payment(following + k) for k in range(records)]} if records else {}, NOW + seconds)
        following += records
        at_hand = worker.bench.snapshots._copy is not None
        worker.bench.snapshots.work()
        return at_hand

    assert not copied(0, 1)  # restored with it
    assert not copied(1, 1)  # from now on its time runs
    assert not copied(30, 1)
    assert copied(31, 1)  # what the batches before left
    assert not copied(60, 98)
    assert not copied(60, 1)
    assert copied(60, 1)
    assert not copied(89, 0)
    assert copied(90, 0)
    assert not copied(1_000, 0)  # nothing moved


@pytest.mark.slow
def test_copies_of_a_workers_partitions_lie_apart(database: Database, tmp_path: Path) -> None:
    """One after another at once, they would keep the stream waiting several times in a row."""
    rules = StateRules(SnapshotFiles(str(tmp_path)), Cadence(seconds=30.0, offsets=1_000))
    worker, numbers = Detecting(database, Partitions(database), rules), range(4)
    worker.start()
    worker.partitions.claim(*numbers)
    copied: list[tuple[int, int]] = []
    for second in range(92):
        worker.bench.run({number: [payment(second)] for number in numbers}, NOW + second)
        if (copy := worker.bench.snapshots._copy) is not None:
            copied.append((second, copy.owner.claim.partition))
        worker.bench.snapshots.work()
    moments = [second for second, _ in copied]
    assert min(np.diff(moments)) >= 4
    for number in numbers:
        own = [second for second, partition in copied if partition == number]
        assert own[0] <= 31
        assert set(np.diff(own)) <= {30, 31}
        assert len(own) >= 2


# Who leaves, and who comes back.


def cold_writes(batch: PreparedBatch | None) -> list[tuple[int, list[str]]]:
    assert batch is not None
    return [
        (work.advance.partition, sorted(finish.packed.ids))
        for work in batch.works
        for finish in work.finish
        if isinstance(finish, WriteColdStates)
    ]


def test_accounts_leave_with_the_batch_and_are_there_before_it_is_committed(database: Database, tmp_path: Path) -> None:
    calm, worker = undisturbed(database), bounded(database, tmp_path, most_resident=3)
    rounds = [[payment(10 * n + k, f"a{k}", amount=5.0 + k) for k in range(6)] for n in range(4)]
    prepared = [worker.bench.prepare({0: records}, NOW) for records in rounds]
    for batch, records in zip(prepared, rounds, strict=True):
        assert cold_writes(batch) == [(0, ["a0", "a1", "a2"])]
        assert batch is not None
        worker.bench.commit(batch)
        calm.bench.run({0: records}, NOW)
    own, wanted = results(database, worker.partitions), results(database, calm.partitions)
    assert own[0] == wanted[0]
    np.testing.assert_allclose(own[1], wanted[1], atol=1e-5)
    assert worker.bench.sql("SELECT count(*), count(DISTINCT as_of) FROM cold_states") == [(12, 12)]


def test_a_quiet_partition_gives_way_too(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path, most_resident=10)
    worker.bench.run({0: [payment(k, f"a{k}") for k in range(9)], 1: [payment(0, "b0")]}, NOW)
    batch = worker.bench.run({1: [payment(1 + k, f"b{k}") for k in range(1, 4)]}, NOW)
    assert cold_writes(batch) == [(0, ["a0", "a1", "a2"])]
    assert batch is not None
    assert [(w.advance.partition, w.advance.base_offset, w.advance.next_offset) for w in batch.works] == [
        (1, 1, 5),
        (0, 9, 9),
    ]
    assert worker.bench.sql("SELECT partition, next_offset FROM stream_progress ORDER BY partition") == [(0, 9), (1, 5)]


def test_what_left_with_a_batch_that_another_owner_made_void_never_left(database: Database, tmp_path: Path) -> None:
    calm, worker = undisturbed(database), bounded(database, tmp_path, most_resident=3)
    records = [payment(k, f"a{k % 6}", amount=5.0 + k) for k in range(12)]
    for one in (calm, worker):
        one.bench.run({0: records[:6]}, NOW)
    lost = worker.bench.prepare({0: records[6:]}, NOW)
    assert lost is not None
    worker.partitions.claim(0, 1)
    assert worker.bench.commit(lost).committed == []
    for one in (calm, worker):
        one.bench.run({0: records[6:]}, NOW)
        one.bench.run({0: [payment(20 + k, f"a{k}") for k in range(6)]}, NOW)
    own, wanted = results(database, worker.partitions), results(database, calm.partitions)
    assert own[0] == wanted[0]
    np.testing.assert_allclose(own[1], wanted[1], atol=1e-5)


def test_a_look_up_waits_while_the_database_is_away(database: Database, tmp_path: Path) -> None:
    waits: list[str] = []

    def wait(failures: int, error: DatabaseUnavailable) -> None:
        waits.append(str(error))

    away = SometimesAway(database.engine)
    worker = Detecting(away, Partitions(database), StateRules(most_resident=3))
    worker.start(wait)
    worker.bench.run({0: [payment(k, f"a{k}") for k in range(6)]}, NOW)
    away.refusals.extend(["at once", "at its end"])
    worker.bench.run({0: [payment(10, "a0")]}, NOW)
    assert waits == ["at once", "at its end"]
    assert worker.number("headgate_entities_returned_total") == 1


def test_accounts_that_nobody_knows_are_not_looked_up_where_none_has_left(database: Database, tmp_path: Path) -> None:
    worker = Detecting(database, Partitions(database), StateRules(most_resident=100))
    worker.start()
    worker.bench.run({0: [payment(k, f"a{k}") for k in range(6)]}, NOW)
    assert worker.number("headgate_cold_lookup_seconds_count") == 0


def test_states_of_another_layout_in_sql_are_not_read(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path, most_resident=3)
    worker.bench.run({0: [payment(k, f"a{k}") for k in range(6)]}, NOW)
    with database.begin() as connection:
        connection.execute(text("UPDATE cold_states SET layout = 'other'"))
    worker.bench.run({0: [payment(10 + k, f"a{k}") for k in range(3)]}, NOW)
    assert worker.number("headgate_entities_returned_total") == 0


def test_a_partition_that_went_elsewhere_leaves_no_numbers_behind(database: Database, tmp_path: Path) -> None:
    worker = bounded(database, tmp_path)
    run([worker], some_batches(6))
    assert worker.number("headgate_snapshot_bytes", partition="0") > 0
    bench: Bench = worker.bench
    assert bench.keeping is not None
    bench.keeping.drop(0)
    assert worker.number("headgate_snapshot_bytes", partition="0") == 0
    assert worker.number("headgate_snapshot_bytes", partition="1") > 0
