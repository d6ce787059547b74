"""Records that Kafka dropped before SQL read them: given up by command, counted, and never twice."""

import pytest
from sqlalchemy import select

from storage.accepted_losses import ACCEPT_LOSS, Loss, NothingLost, accept_loss, position_of
from storage.database import Database
from storage.progress import Advance, advance, all_progress, audit
from storage.tables import AcceptedLoss
from tests.storage.rows import NOON
from tests.storage.test_progress import claim


def lose(database: Database, from_offset: int, to_offset: int) -> Loss:
    return accept_loss(
        database,
        topic="transactions",
        topic_uuid="uuid-1",
        partition=1,
        from_offset=from_offset,
        to_offset=to_offset,
        by="anna@host",
        why="retention was shorter than the outage",
        now=NOON,
    )


def test_an_accepted_loss_moves_the_offset_counts_the_records_and_says_who_when_and_why(database: Database) -> None:
    claim(database, {0: 0, 1: 5})
    assert lose(database, 5, 25) == Loss(1, 1, 5, 25)
    with database.reading() as connection:
        rows = {row.partition: row for row in all_progress(connection)}
        (kept,) = connection.execute(select(AcceptedLoss)).all()
        assert audit(connection) == []
        assert position_of(connection, "transactions", "uuid-1", 1) == 25
        assert position_of(connection, "transactions", "uuid-2", 1) is None
    assert (rows[1].next_offset, rows[1].lost, rows[1].epoch, rows[1].owner) == (25, 20, 2, ACCEPT_LOSS)
    assert (rows[0].next_offset, rows[0].lost, rows[0].epoch) == (0, 0, 1)
    assert (kept.from_offset, kept.to_offset, kept.accepted_by, kept.accepted_at) == (5, 25, "anna@host", NOON)
    assert kept.why == "retention was shorter than the outage"


def test_who_owned_the_partition_before_moves_it_no_more(database: Database) -> None:
    before = claim(database, {1: 5})[1]
    lose(database, 5, 25)
    step = Advance(1, 1, before.epoch, 5, 9, applied=4)
    with database.begin() as connection:
        assert advance(connection, [step], NOON) == 0
    assert claim(database, {1: 0})[1].next_offset == 25


def test_nothing_is_given_up_where_sql_has_moved_on_or_where_nothing_lies_between(database: Database) -> None:
    claim(database, {1: 5})
    with pytest.raises(NothingLost, match="SQL has moved beyond offset 4"):
        lose(database, 4, 25)
    with pytest.raises(NothingLost, match="offset 5 is not beyond SQL's next offset 5"):
        lose(database, 5, 5)
    with database.reading() as connection:
        (row,) = all_progress(connection)
        assert connection.execute(select(AcceptedLoss)).all() == []
    assert (row.next_offset, row.lost, row.epoch) == (5, 0, 1)
