"""Dead letters as people handle them."""

from datetime import timedelta

from storage.database import Database
from storage.dead_letters import dead_letters, mark_replayed
from tests.storage.rows import NOON, RowMaker

MINUTE = timedelta(minutes=1)


def test_the_newest_come_first_up_to_the_limit(database: Database, rows: RowMaker) -> None:
    rows.dead_letter(source_offset=1, recorded_at=NOON + MINUTE)
    rows.dead_letter(source_offset=2)
    rows.dead_letter(source_offset=3)
    with database.reading() as connection:
        everything = dead_letters(connection, limit=10, code=None, replayed=None)
        some = dead_letters(connection, limit=2, code=None, replayed=None)
    assert [letter.source_offset for letter in everything] == [1, 3, 2]
    assert some == everything[:2]


def test_they_can_be_chosen_by_their_error(database: Database, rows: RowMaker) -> None:
    rows.dead_letter(error_code="invalid_json")
    wanted = rows.dead_letter(error_code="wrong_key")
    with database.reading() as connection:
        (found,) = dead_letters(connection, limit=10, code="wrong_key", replayed=None)
    assert found.source_offset == wanted["source_offset"]


def test_a_replayed_letter_is_marked_and_its_namesakes_are_not(database: Database, rows: RowMaker) -> None:
    rows.dead_letter(source_offset=1)
    rows.dead_letter(source_offset=1, source_partition=1)
    rows.dead_letter(source_offset=1, topic_generation=2)
    with database.begin() as connection:
        every = dead_letters(connection, limit=10, code=None, replayed=None)
        chosen = [each for each in every if (each.topic_generation, each.source_partition) == (1, 1)]
        mark_replayed(connection, chosen, NOON)
        (replayed,) = dead_letters(connection, limit=10, code=None, replayed=True)
        waiting = dead_letters(connection, limit=10, code=None, replayed=False)
    assert (replayed.source_partition, replayed.replayed_at) == (1, NOON)
    assert {(each.topic_generation, each.source_partition) for each in waiting} == {(1, 0), (2, 0)}


def test_a_letter_cut_at_the_size_limit_is_not_whole(database: Database, rows: RowMaker) -> None:
    rows.dead_letter(payload=b"12345", payload_bytes=5, error_code="whole")
    rows.dead_letter(payload=b"12345", payload_bytes=500, error_code="cut")
    rows.dead_letter(payload=None, payload_bytes=0, error_code="null")
    with database.reading() as connection:
        found = dead_letters(connection, limit=10, code=None, replayed=None)
    assert {letter.error_code: letter.is_whole for letter in found} == {"whole": True, "cut": False, "null": True}
    assert all("payload" not in letter.summary() for letter in found)
    assert {letter.summary()["payload_bytes"] for letter in found} == {0, 5, 500}
