"""`headgate dlq list` and `dlq replay`: what could not be processed, and another try for it."""

from collections.abc import Callable, Sequence
from datetime import datetime

from confluent_kafka import Producer

from storage.database import Database
from storage.dead_letters import DeadLetter, dead_letters, mark_replayed

CONFIRM_SECONDS = 30.0


class ReplayFailed(Exception):
    """Kafka did not take a dead letter back; those that it took are marked as replayed."""


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
) -> tuple[int, list[DeadLetter]]:
    """Sends unreplayed dead letters to their topics again, whole ones only.

    Returns how many were sent, and those that cannot be (only a part of the record was kept).
    """
    with database.reading() as connection:
        letters = dead_letters(connection, limit=limit, code=code, replayed=False)
    whole = [letter for letter in letters if letter.is_whole]
    failures: list[str] = []
    for letter in whole:
        producer.produce(
            letter.topic,
            key=letter.record_key,
            value=letter.payload,
            on_delivery=lambda error, _: failures.append(str(error)) if error is not None else None,
        )
        producer.poll(0)
    waiting = producer.flush(CONFIRM_SECONDS)
    if failures or waiting:
        raise ReplayFailed(f"Kafka took not all of them: {failures[0] if failures else f'{waiting} unconfirmed'}")
    _mark(database, whole, clock())
    return len(whole), [letter for letter in letters if not letter.is_whole]


def _mark(database: Database, letters: Sequence[DeadLetter], moment: datetime) -> None:
    with database.begin() as connection:
        mark_replayed(connection, letters, moment)
