"""Records that Kafka dropped before SQL had read them, given up by command and counted: never passed over silently."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from storage.database import Database
from storage.progress import under_claim_lock
from storage.tables import AcceptedLoss, StreamProgress, UtcTimestamp

#: What `owner` of a progress row says after this command, until a worker claims the partition.
ACCEPT_LOSS = "headgate accept-loss"


@dataclass(frozen=True, slots=True)
class Loss:
    """Offsets from from_offset up to and without to_offset."""

    topic_generation: int
    partition: int
    from_offset: int
    to_offset: int

    @property
    def records(self) -> int:
        return self.to_offset - self.from_offset


class NothingLost(ValueError):
    """There is nothing to give up there; the message says why."""


def position_of(connection: Connection, topic: str, topic_uuid: str, partition: int) -> int | None:
    """SQL's next offset of a partition, None where SQL has never seen it."""
    statement = select(StreamProgress.next_offset).where(
        StreamProgress.topic == topic,
        StreamProgress.topic_uuid == topic_uuid,
        StreamProgress.partition == partition,
    )
    return connection.execute(statement).scalar()


def accept_loss(
    database: Database,
    *,
    topic: str,
    topic_uuid: str,
    partition: int,
    from_offset: int,
    to_offset: int,
    by: str,
    why: str,
    now: datetime,
) -> Loss:
    """Moves a partition from SQL's next offset (which must still be from_offset) to to_offset, under a new epoch, so
    that whoever has it claims it anew. Raises NothingLost."""
    if to_offset <= from_offset:
        raise NothingLost(f"{topic}/{partition}: offset {to_offset} is not beyond SQL's next offset {from_offset}")
    values = {
        "owner": ACCEPT_LOSS,
        "from_offset": from_offset,
        "to_offset": to_offset,
        "records": to_offset - from_offset,
        "topic": topic,
        "uuid": topic_uuid,
        "partition": partition,
    }

    def act(connection: Connection) -> Loss:
        generation = connection.execute(
            text(
                "UPDATE stream_progress SET epoch = epoch + 1, owner = :owner, backend_pid = NULL, updated_at = :now, "
                "next_offset = :to_offset, lost = lost + :records WHERE topic = :topic AND topic_uuid = :uuid "
                "AND partition = :partition AND next_offset = :from_offset RETURNING topic_generation"
            ),
            {**values, "now": UtcTimestamp().process_bind_param(now, connection.dialect)},
        ).scalar()
        if generation is None:
            raise NothingLost(f"{topic}/{partition}: SQL has moved beyond offset {from_offset} in the meantime")
        loss = Loss(int(generation), partition, from_offset, to_offset)
        row = {"accepted_at": now, "accepted_by": by, "why": why}
        connection.execute(insert(AcceptedLoss).values(**asdict(loss), **row))
        return loss

    return under_claim_lock(database, act)
