"""Records that could not be processed: the list, one of them, and another try for operators."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from ops.dashboard.answers import DeadLetter, DeadLetterDetail, DeadLetters, Replayed
from ops.dashboard.context import InContext
from ops.dashboard.cursors import cursor_of, place_in
from ops.dashboard.errors import ApiError, not_found
from ops.dashboard.security import OPERATOR, VIEWER, Caller
from ops.jobs.dead_letters import KeptInPart, UnknownDeadLetter, reading_again, replay_dead_letter
from storage.dead_letters import DeadLetter as Letter
from storage.dead_letters import dead_letter, dead_letters, unreplayed_by_code
from storage.exclusive import AlreadyRunning
from streams.kafka import producer

router = APIRouter(prefix="/api/dead-letters", tags=["dead letters"])

MOST_SHOWN_BYTES = 65_536
#: How long Kafka may take.
CONFIRM_MILLISECONDS = 5_000

Generation = Annotated[int, Path(ge=0, le=2**15 - 1)]
Partition = Annotated[int, Path(ge=0, le=2**31 - 1)]
Offset = Annotated[int, Path(ge=0, le=2**63 - 1)]


@router.get("", dependencies=[VIEWER])
def letters(
    context: InContext,
    code: Annotated[str | None, Query(max_length=200)] = None,
    replayed: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> DeadLetters:
    """A page of them, the newest first, and how many of each code were not replayed."""
    after: Any = None if cursor is None else tuple(place_in(cursor, (datetime, int, int, int)))
    with context.reading() as connection:
        found = dead_letters(connection, limit=limit + 1, code=code, replayed=replayed, after=after, content=False)
        codes = unreplayed_by_code(connection)
    shown = found[:limit]
    following = None
    if len(found) > limit:
        last = shown[-1]
        following = cursor_of([last.recorded_at, last.topic_generation, last.source_partition, last.source_offset])
    return DeadLetters(dead_letters=[DeadLetter(**fields_of(letter)) for letter in shown], codes=codes, next=following)


@router.get("/{generation}/{partition}/{offset}", dependencies=[VIEWER])
def letter(context: InContext, generation: Generation, partition: Partition, offset: Offset) -> DeadLetterDetail:
    """One of them with its key and the beginning of its value as text."""
    with context.reading() as connection:
        found = dead_letter(connection, (generation, partition, offset))
    if found is None:
        raise not_found("no dead letter has this place")
    return DeadLetterDetail(**fields_of(found), key=shown_text(found.record_key), payload=shown_text(found.payload))


@router.post("/{generation}/{partition}/{offset}/replay", dependencies=[OPERATOR])
def replay(context: InContext, user: Caller, generation: Generation, partition: Partition, offset: Offset) -> Replayed:
    """Sends the record to its topic again; one that was sent before is not sent a second time."""
    sources = context.sources
    place = generation, partition, offset
    with context.replaying():
        try:
            moment = replay_dead_letter(
                sources.database,
                lambda: producer(sources.kafka, **{"delivery.timeout.ms": CONFIRM_MILLISECONDS}),
                place,
                read_again=reading_again(sources.kafka, sources.pseudonyms),
                clock=sources.clock,
                who=user.name,
            )
        except UnknownDeadLetter as error:
            raise not_found(str(error)) from error
        except (KeptInPart, AlreadyRunning) as error:
            raise ApiError(409, "conflict", str(error)) from error
    return Replayed(replayed_at=moment)


def fields_of(letter: Letter) -> dict[str, Any]:
    names = ("topic", "recorded_at", "error_code", "error_message", "payload_bytes", "replayed_at")
    return {name: getattr(letter, name) for name in names} | {
        "generation": letter.topic_generation,
        "partition": letter.source_partition,
        "offset": letter.source_offset,
        "whole": letter.is_whole or letter.is_withheld,
    }


def shown_text(content: bytes | None) -> str | None:
    return None if content is None else content[:MOST_SHOWN_BYTES].decode(errors="replace")
