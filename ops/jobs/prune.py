"""`headgate prune`: removes days of the hot tables that are older than they are kept and that nobody needs, and says
what stays, and why. To be run once a day.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from ops.jobs.retrain_policy import PolicyRules
from ops.settings import Settings
from storage.database import Database
from storage.day_partitions import days_since, ensure_days, stored_days
from storage.exclusive import exclusively
from storage.retention import (
    ENGAGEMENTS,
    TABLES,
    TRANSACTIONS,
    LeftBehind,
    LogPartition,
    Need,
    current_partitions,
    has_rows_before,
    kept_snapshots,
    needed_for_labels,
    needed_since_rescale,
    needed_to_publish,
    needed_to_restore,
    note_pruned,
    remove_days,
    remove_superseded_states,
    restore_begins,
    rows_before,
)
from storage.snapshots import SegmentRef, SnapshotFiles, SnapshotRecord, SnapshotUnreadable

LOCK = "prune"
#: At the snapshots of a partition that its worker replaces while their files are read.
LOOKS = 4
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How long days are kept, and how far back the training of each kind of topic reads."""

    keep: timedelta
    training: dict[str, timedelta]

    @staticmethod
    def of(settings: Settings) -> "RetentionRules":
        feedback = timedelta(days=settings.feedback_expiry_days)
        slates = max(PolicyRules().history, feedback) + settings.reward_window
        return RetentionRules(
            timedelta(days=settings.retention_days),
            {TRANSACTIONS: feedback + settings.label_horizon, ENGAGEMENTS: slates},
        )


@dataclass(slots=True)
class TopicPlan:
    """What may be removed of a kind of topic: days before `before`. wanted: what the retention alone would remove."""

    kind: str
    wanted: date
    before: date
    kept: list[Need]
    begins: dict[LogPartition, int]


@dataclass(slots=True)
class TablePruned:
    """rows: deleted, beside those of the partitions dropped; of a dry run, all that would go."""

    table: str
    before: date
    partitions: list[str] = field(default_factory=list)
    rows: int = 0


@dataclass(slots=True)
class Pruned:
    """What a pass did, or would do."""

    dry_run: bool
    tables: list[TablePruned]
    #: Kind of topic -> why days stay that are older than the retention.
    kept: dict[str, list[str]]
    cold_states: int = 0
    #: Partitions of tables that would have gone, and why they stay for now.
    left: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        return asdict(self)


def run_prune(
    database: Database,
    files: SnapshotFiles,
    rules: RetentionRules,
    now: datetime,
    *,
    dry_run: bool = False,
    progress: Progress = lambda stage, done: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Pruned:
    """Raises AlreadyRunning, DatabaseUnavailable. What was removed before that stays removed."""
    with exclusively(database, LOCK):
        plans = [plan_topic(database, files, rules, kind, now) for kind in TABLES]
        kept = {plan.kind: [f"{need.why}, since {need.first}" for need in plan.kept] for plan in plans}
        tables = [TablePruned(table, plan.before) for plan in plans for table in TABLES[plan.kind]]
        tables.append(TablePruned("duplicates", (now - rules.keep).date()))
        result = Pruned(dry_run, tables, kept)
        if dry_run:
            _count(database, result)
            return result
        ensure_days(database, now.date())
        _note(database, plans)
        for number, pruned in enumerate(tables):
            for removed in remove_days(database, pruned.table, pruned.before, sleep):
                if isinstance(removed, LeftBehind):
                    result.left.append(str(removed))
                elif removed.rows:
                    pruned.rows += removed.rows
                else:
                    pruned.partitions.append(removed.partition)
                progress("days", number / len(tables))
        progress("days", 1.0)
        result.cold_states = _remove_states(database, plans, progress)
        return result


def in_words(result: Pruned) -> Iterator[str]:
    """A line for each table, and one for each reason why older days stay."""
    verb = "would be removed" if result.dry_run else "removed"
    for table in result.tables:
        partitions = f"{len(table.partitions)} partitions and " if table.partitions else ""
        yield f"{table.table:22} days before {table.before}: {partitions}{table.rows} rows {verb}"
    if not result.dry_run:
        yield f"{'cold_states':22} {result.cold_states} superseded states removed"
    for reason in result.left:
        yield f"left for the next time: {reason}"
    for kind, reasons in result.kept.items():
        for reason in reasons:
            yield f"kept of {kind}: {reason}"


def plan_topic(database: Database, files: SnapshotFiles, rules: RetentionRules, kind: str, now: datetime) -> TopicPlan:
    """Which days may go: those before the first that is needed."""
    wanted = (now - rules.keep).date()
    readable = ReadableSnapshots(files)
    with database.reading() as connection:
        partitions = current_partitions(connection, kind)
    begins = {one: _restore_begins(database, one, readable) for one in partitions}
    with database.reading() as connection:
        needs = [needed_to_restore(connection, kind, one, begin) for one, begin in begins.items()]
        needs += needed_since_rescale(connection, kind, begins)
        also = needed_for_labels if kind == TRANSACTIONS else needed_to_publish
        needs += [also(connection, one) for one in partitions]
        stored = {day for table in TABLES[kind] for day in stored_days(connection, table)}
    needs.append(Need(days_since(now - rules.training[kind]), "training reads them"))
    kept = [need for need in needs if need is not None and need.first < wanted]
    before = min([wanted, *(need.first for need in kept)])
    kept = [need for need in kept if any(need.first <= day < wanted for day in stored)]
    return TopicPlan(kind, wanted, before, kept, {one: begin for one, begin in begins.items() if begin is not None})


class ReadableSnapshots:
    """Whether all of a snapshot's files are those that were written. A file that several snapshots share is read once,
    as the base mostly is."""

    def __init__(self, files: SnapshotFiles) -> None:
        self._files = files
        self._whole: dict[tuple[int, int, SegmentRef], bool] = {}

    def __call__(self, record: SnapshotRecord) -> bool:
        try:
            manifest = self._files.read_manifest(record.path, record.sha256)
        except SnapshotUnreadable:
            return False
        place = manifest.topic_generation, manifest.partition
        return all(self._is_whole(*place, segment) for segment in manifest.segments)

    def _is_whole(self, generation: int, partition: int, segment: SegmentRef) -> bool:
        key = generation, partition, segment
        if key not in self._whole:
            try:
                self._files.verify_segment(*key)
                self._whole[key] = True
            except SnapshotUnreadable:
                self._whole[key] = False
        return self._whole[key]


def _restore_begins(database: Database, one: LogPartition, readable: ReadableSnapshots) -> int | None:
    """Reads files outside of any transaction, which would idle meanwhile; again where a worker has replaced the
    snapshots, and so their files, in between."""
    begin, seen = None, list[SnapshotRecord]()
    for _ in range(LOOKS):
        with database.reading() as connection:
            records = kept_snapshots(connection, one)
        if begin is not None or records == seen:
            break
        begin, seen = restore_begins(records, readable), records
    return begin


def _note(database: Database, plans: Sequence[TopicPlan]) -> None:
    """Before anything is removed, and only where something will be."""
    with database.begin() as connection:
        for plan in plans:
            if any(has_rows_before(connection, table, plan.before) for table in TABLES[plan.kind]):
                for one, begin in plan.begins.items():
                    note_pruned(connection, one, begin, plan.before)


def _count(database: Database, result: Pruned) -> None:
    with database.reading() as connection:
        for pruned in result.tables:
            pruned.rows = rows_before(connection, pruned.table, pruned.before)


def _remove_states(database: Database, plans: Sequence[TopicPlan], progress: Progress) -> int:
    removed, places = 0, [place for plan in plans for place in plan.begins.items()]
    for number, (one, begin) in enumerate(places):
        for more in remove_superseded_states(database, one, begin):
            removed += more
            progress("cold states", number / len(places))
    progress("cold states", 1.0)
    return removed
