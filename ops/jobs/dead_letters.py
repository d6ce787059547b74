"""What could not be processed, and another try for it: `headgate dlq list` and `dlq replay`, and the console.

With pseudonyms on, nothing of a broken record is kept: it is read from Kafka again, by its place, while it is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from confluent_kafka import Producer

from storage.audit import JSON, AuditEntry, record_audit
from storage.database import Database
from storage.dead_letters import DeadLetter, Place, dead_letter, dead_letters, mark_replayed
from storage.exclusive import exclusively
from streams.kafka import KafkaSettings
from streams.kafka_logs import record_at
from streams.pseudonyms import Pseudonyms
from streams.records import whole

CONFIRM_SECONDS = 30.0
#: One at a time, of all processes: two of one dead letter would send it twice.
REPLAY = "replay"
#: A withheld dead letter with its key and value; None where they cannot be had any more.
ReadAgain = Callable[[DeadLetter], DeadLetter | None]


class ReplayFailed(Exception):
    """Kafka did not take a dead letter back; those that it took are marked as replayed."""


class UnknownDeadLetter(Exception):
    """No record of this place is a dead letter."""


class KeptInPart(Exception):
    """Only the beginning of a record was kept, or nothing, so it cannot be sent again."""


def list_dead_letters(database: Database, *, limit: int, code: str | None = None) -> list[DeadLetter]:
    with database.reading() as connection:
        return dead_letters(connection, limit=limit, code=code, replayed=None)


def reading_again(kafka: KafkaSettings, pseudonyms: Pseudonyms | None) -> ReadAgain:
    """From Kafka, where it still has that very record and the key that it was recognised with is among ours."""

    def read(letter: DeadLetter) -> DeadLetter | None:
        key_id = (letter.sha256 or "").partition(".")[0]
        if pseudonyms is None or key_id not in pseudonyms.key_ids:
            return None
        found = record_at(kafka, letter.topic, letter.source_partition, letter.source_offset)
        if found is None or pseudonyms.of_record(whole(*found), key_id) != letter.sha256:
            return None
        key, value = found
        return replace(letter, record_key=key, payload=value)

    return read


def replay_dead_letters(
    database: Database,
    producer: Producer,
    *,
    read_again: ReadAgain,
    code: str | None,
    limit: int,
    clock: Callable[[], datetime],
    who: str,
) -> tuple[int, list[DeadLetter]]:
    """Sends unreplayed dead letters to their topics again, whole ones only.

    Returns how many were sent, and those that cannot be (only a part of the record was kept, or nothing and Kafka has
    it no more). Raises ReplayFailed, AlreadyRunning, KafkaUnavailable.
    """
    with exclusively(database, REPLAY):
        with database.reading() as connection:
            letters = dead_letters(connection, limit=limit, code=code, replayed=False)
        complete = [_complete(letter, read_again) for letter in reversed(letters)]  # oldest first, as they came
        sendable = [letter for letter in complete if letter is not None]
        taken, refusals = _send(producer, sendable)
        _record(database, taken, clock(), who)
    if len(taken) < len(sendable):
        why = refusals[0] if refusals else "no answer in time"
        raise ReplayFailed(f"Kafka did not take {len(sendable) - len(taken)} of {len(sendable)} dead letters: {why}")
    sent = {place_of(letter) for letter in sendable}
    return len(sendable), [letter for letter in letters if place_of(letter) not in sent]


def place_of(letter: DeadLetter) -> Place:
    return letter.topic_generation, letter.source_partition, letter.source_offset


def _complete(letter: DeadLetter, read_again: ReadAgain) -> DeadLetter | None:
    """With all of its record, None where that cannot be had."""
    if letter.is_withheld:
        return read_again(letter)
    return letter if letter.is_whole else None


def replay_dead_letter(
    database: Database,
    new_producer: Callable[[], Producer],
    place: Place,
    *,
    read_again: ReadAgain,
    clock: Callable[[], datetime],
    who: str,
) -> datetime:
    """Sends one dead letter to its topic again, unless that was done before; the moment of it. Raises
    UnknownDeadLetter, KeptInPart, ReplayFailed, AlreadyRunning, KafkaUnavailable."""
    with exclusively(database, REPLAY):
        return _replayed(database, new_producer, place, read_again, clock, who)


def _replayed(
    database: Database,
    new_producer: Callable[[], Producer],
    place: Place,
    read_again: ReadAgain,
    clock: Callable[[], datetime],
    who: str,
) -> datetime:
    with database.reading() as connection:
        letter = dead_letter(connection, place)
    if letter is None:
        raise UnknownDeadLetter("no dead letter has this place")
    if letter.replayed_at is not None:
        return letter.replayed_at
    complete = _complete(letter, read_again)
    if complete is None:
        kept = "nothing" if letter.is_withheld else "only a part"
        there = ", and Kafka has it no more" if letter.is_withheld else ""
        raise KeptInPart(
            f"{kept} of its {letter.payload_bytes} bytes was kept{there}; its producer has to send it again"
        )
    taken, refusals = _send(new_producer(), [complete])
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
