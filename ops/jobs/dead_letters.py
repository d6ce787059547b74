"""What could not be processed, and another try for it: `headgate dlq list` and `dlq replay`, and the console."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from confluent_kafka import Producer

from storage.audit import JSON, AuditEntry, record_audit
from storage.database import Database
from storage.dead_letters import DeadLetter, Place, dead_letter, dead_letters, mark_replayed
from storage.exclusive import exclusively

CONFIRM_SECONDS = 30.0
#: One at a time, of all processes: two of one dead letter would send it twice.
REPLAY = "replay"


class ReplayFailed(Exception):
    """Kafka did not take a dead letter back; those that it took are marked as replayed."""


class UnknownDeadLetter(Exception):
    """No record of this place is a dead letter."""


class KeptInPart(Exception):
    """Only the beginning of a record was kept, so it cannot be sent again."""


def list_dead_letters(database: Database, *, limit: int, code: str | None = None) -> list[DeadLetter]:
    with database.reading() as connection:
        return dead_letters(connection, limit=limit, code=code, replayed=None)


def replay_dead_letters(
    database: Database,
    producer: Producer,
    *,
    code: str | None,
    limit: int,
    clock: Callable[[], datetime],
    who: str,
) -> tuple[int, list[DeadLetter]]:
    """Sends unreplayed dead letters to their topics again, whole ones only.

    Returns how many were sent, and those that cannot be (only a part of the record was kept). Raises ReplayFailed,
    AlreadyRunning.
    """
    with exclusively(database, REPLAY):
        with database.reading() as connection:
            letters = dead_letters(connection, limit=limit, code=code, replayed=False)
        whole = [letter for letter in reversed(letters) if letter.is_whole]  # oldest first, as they came
        taken, refusals = _send(producer, whole)
        _record(database, taken, clock(), who)
    if len(taken) < len(whole):
        why = refusals[0] if refusals else "no answer in time"
        raise ReplayFailed(f"Kafka did not take {len(whole) - len(taken)} of {len(whole)} dead letters: {why}")
    return len(whole), [letter for letter in letters if not letter.is_whole]


def replay_dead_letter(
    database: Database, new_producer: Callable[[], Producer], place: Place, *, clock: Callable[[], datetime], who: str
) -> datetime:
    """Sends one dead letter to its topic again, unless that was done before; the moment of it. Raises
    UnknownDeadLetter, KeptInPart, ReplayFailed, AlreadyRunning."""
    with exclusively(database, REPLAY):
        return _replayed(database, new_producer, place, clock, who)


def _replayed(
    database: Database, new_producer: Callable[[], Producer], place: Place, clock: Callable[[], datetime], who: str
) -> datetime:
    with database.reading() as connection:
        letter = dead_letter(connection, place)
    if letter is None:
        raise UnknownDeadLetter("no dead letter has this place")
    if letter.replayed_at is not None:
        return letter.replayed_at
    if not letter.is_whole:
        raise KeptInPart(f"only a part of its {letter.payload_bytes} bytes was kept; its producer has to send it again")
    taken, refusals = _send(new_producer(), [letter])
    if not taken:
        raise ReplayFailed(f"Kafka did not take the dead letter: {refusals[0] if refusals else 'no answer in time'}")
    moment = clock()
    _record(database, taken, moment, who)
    return moment


def _record(database: Database, taken: Sequence[DeadLetter], moment: datetime, who: str) -> None:
    """What Kafka took is marked, and who sent it is written down, together."""
    with database.begin() as connection:
        mark_replayed(connection, taken, moment)
        for letter in taken:
            subject = f"dead_letter:{letter.topic}/{letter.source_partition}@{letter.source_offset}"
            detail: dict[str, JSON] = {"topic_generation": letter.topic_generation, "error_code": letter.error_code}
            record_audit(connection, AuditEntry(who, "dead_letter.replay", subject, detail, moment))


def _send(producer: Producer, letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], list[str]]:
    """Those that Kafka confirmed, and its reasons for the others."""
    taken: list[DeadLetter] = []
    refusals: list[str] = []

    def answered(letter: DeadLetter) -> Callable[[Any, Any], None]:
        return lambda error, _: taken.append(letter) if error is None else refusals.append(str(error))

    for letter in letters:
        message = {"key": letter.record_key, "value": letter.payload, "on_delivery": answered(letter)}
        try:
            producer.produce(letter.topic, **message)
        except BufferError:  # the producer is full: wait for answers
            producer.flush(CONFIRM_SECONDS)
            producer.produce(letter.topic, **message)
        producer.poll(0)
    producer.flush(CONFIRM_SECONDS)
    return taken, refusals
