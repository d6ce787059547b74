"""`headgate erase`: an account or a user is forgotten by SQL, snapshots, running workers and Redis.

One SQL transaction removes the rows, gives the partitions that knew him a new epoch, and names snapshots without him;
where it comes to nothing, nothing has changed. Workers lose what they remember with the epoch; Redis follows once they
did, so that nothing that was under way comes after it. To be repeated at will: a second run finishes what was cut off.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

import redis
import structlog
from sqlalchemy import Connection

from ops.jobs.prune import LOCK as PRUNE
from ops.redis_settings import redis_views
from ops.settings import Settings
from ops.terminal import cli_user
from storage.audit import JSON, AuditEntry, record_audit
from storage.database import Database
from storage.erasure import (
    Fenced,
    Place,
    Subject,
    fence,
    generations,
    positions,
    remove_dead_letters,
    remove_rows,
    unclaimed,
)
from storage.exclusive import exclusively
from storage.progress import all_progress
from storage.redis_views import RedisViews
from storage.snapshots import SnapshotFiles, SnapshotUnreachable, SnapshotUnreadable, SnapshotUnwritable
from streams.erasing import SnapshotEraser
from streams.pseudonyms import Pseudonyms

log = structlog.get_logger(__name__)

Kind = Literal["account", "user"]
#: Whose events are where, and what segments of snapshots call them.
STREAM: dict[Kind, str] = {"account": "transactions", "user": "engagements"}
RESIDENTS: dict[Kind, str] = {"account": "accounts", "user": "users"}
LOOK_SECONDS = 0.25
#: Tells the audit log what was removed, in the same transaction.
Note = Callable[[Connection, Mapping[str, int], Sequence[Fenced]], None]


class ErasureRefused(Exception):
    """Nobody can be erased now; the message says why. Nothing has changed."""


class ErasureUnfinished(Exception):
    """SQL has forgotten, Redis has not; to be run again."""

    def __str__(self) -> str:
        return f"{self.args[0]}; run the command again once it answers"


@dataclass(frozen=True, slots=True)
class Erased:
    """What one run removed. rows: by table; files: of snapshots that nobody needs any more; unclaimed: partitions that
    no worker took since: one that still runs forgets when it does."""

    kind: Kind
    subject: str
    rows: dict[str, int]
    snapshots: int
    files: int
    redis: int
    partitions: list[str]
    unclaimed: list[str]

    def summary(self) -> dict[str, Any]:
        return asdict(self)


def erase(
    settings: Settings,
    database: Database,
    kind: Kind,
    entity: str,
    *,
    clock: Callable[[], datetime],
    wait_seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Erased:
    """entity: the clear id, which is tried under every key, or a pseudonym. Raises ErasureRefused, AlreadyRunning
    beside `headgate prune` or another erasure, DatabaseUnavailable, ErasureUnfinished."""
    subject = _subject(settings, database, kind, entity)
    eraser = SnapshotEraser(SnapshotFiles(settings.state), RESIDENTS[kind], subject.names)
    named = reference(settings.pseudonyms, entity)

    def note(connection: Connection, rows: Mapping[str, int], fenced: Sequence[Fenced]) -> None:
        detail: dict[str, JSON] = {"rows": {**rows}, "partitions": [f"{one.topic}/{one.partition}" for one in fenced]}
        entry = AuditEntry(cli_user(), "subject.erase", f"{kind}:{named}", detail, clock())
        record_audit(connection, entry)

    with exclusively(database, PRUNE):
        try:
            rows, fenced, rewritten = _from_sql(database, subject, eraser, note, clock)
        except (SnapshotUnreachable, SnapshotUnwritable) as error:
            raise ErasureRefused(f"a snapshot may hold the {kind} and cannot be written anew: {error}") from error
        now_there = [one for one in fenced if one.topic_generation == max(subject.stream)]
        waiting = _claimed(database, now_there, wait_seconds, monotonic, sleep)
        files = _tidy(database, subject, eraser)
        try:
            with closing(redis_views(settings)) as views:
                removed = _from_redis(views, subject)
        except redis.RedisError as error:
            raise ErasureUnfinished(f"Redis may still know the {kind}, SQL and snapshots do not: {error}") from error
    return Erased(
        kind,
        named,
        rows,
        rewritten,
        files,
        removed,
        [f"{one.topic}/{one.partition}" for one in fenced],
        [f"{one.topic}/{one.partition}" for one in waiting],
    )


def reference(pseudonyms: Pseudonyms | None, entity: str) -> str:
    """How reports and the audit log name who is gone: by a pseudonym made for that alone, or by a hash where there are
    no keys."""
    return f"sha256:{sha256(entity.encode()).hexdigest()}" if pseudonyms is None else pseudonyms.of_erased(entity)


def _subject(settings: Settings, database: Database, kind: Kind, entity: str) -> Subject:
    names = [entity, *(() if settings.pseudonyms is None else settings.pseudonyms.under_every_key(entity))]
    with database.reading() as connection:
        stream = generations(connection, f"{settings.topic_prefix}{STREAM[kind]}")
        feedback = generations(connection, f"{settings.topic_prefix}feedback")
    return Subject(kind, names, stream, feedback)


def _from_sql(
    database: Database, subject: Subject, eraser: SnapshotEraser, note: Note, clock: Callable[[], datetime]
) -> tuple[dict[str, int], list[Fenced], int]:
    """Rows removed by table, the partitions under new epochs, snapshots written anew. What takes long, looking through
    tables and snapshots, comes before the partitions are held."""
    with database.reading() as connection:
        before = positions(connection, subject.stream)
        holding = eraser.holding(connection, before)
    with database.begin() as connection:
        rows, places = remove_rows(connection, subject)
        rows["dead_letters"] = remove_dead_letters(connection, subject.names)
        fenced = fence(connection, places | holding, clock())
        if fenced:
            beyond = {one.place: before.get(one.place, 0) for one in fenced}
            late, _ = remove_rows(connection, subject, beyond)
            rows = {table: count + late.get(table, 0) for table, count in rows.items()}
        rewritten = sum(eraser.rewrite(connection, one) for one in fenced)
        note(connection, rows, fenced)
    return rows, fenced, rewritten


def _claimed(
    database: Database,
    fenced: Sequence[Fenced],
    seconds: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[Fenced]:
    """Waits until workers have taken the partitions again, and so forgot; those that nobody took in time."""
    deadline = monotonic() + seconds
    while True:
        with database.reading() as connection:
            waiting = unclaimed(connection, fenced)
        if not waiting or monotonic() >= deadline:
            return waiting
        sleep(LOOK_SECONDS)


def _tidy(database: Database, subject: Subject, eraser: SnapshotEraser) -> int:
    """Files of the snapshots that were replaced, by this run or one that was cut off."""
    removed = 0
    with database.reading() as connection:
        epochs: dict[Place, int] = {
            (row.topic_generation, row.partition): row.epoch
            for row in all_progress(connection)
            if row.topic_generation in subject.stream
        }
        for place, epoch in epochs.items():
            try:
                removed += eraser.tidy(connection, place, epoch)
            except (SnapshotUnreadable, SnapshotUnwritable) as error:
                log.warning("old snapshots stay for now; run the command again", partition=place[1], error=str(error))
    return removed


def _from_redis(views: RedisViews, subject: Subject) -> int:
    if subject.kind == "account":
        return views.forget_accounts(subject.names)
    return views.forget_users(subject.names)
