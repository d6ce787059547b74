"""COPY into several tables as one message: all of it or nothing, and errors as any statement has them."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from storage.copy_in import PUT_BYTES, copy_in
from storage.database import connection_parameters, is_transient

HERE, THERE = "COPY here (number) FROM STDIN", "COPY there (word) FROM STDIN"


@pytest.fixture
def driver(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(**connection_parameters(postgres_url)) as connection:
        connection.execute("CREATE TEMPORARY TABLE here (number integer PRIMARY KEY)")
        connection.execute("CREATE TEMPORARY TABLE there (word text NOT NULL)")
        connection.commit()
        yield connection


def rows(driver: psycopg.Connection[Any]) -> tuple[list[Any], list[Any]]:
    numbers = [row[0] for row in driver.execute("SELECT number FROM here ORDER BY number")]
    return numbers, [row[0] for row in driver.execute("SELECT word FROM there")]


def test_both_tables_are_written_in_a_transaction_that_it_begins(driver: psycopg.Connection[Any]) -> None:
    assert driver.info.transaction_status == TransactionStatus.IDLE
    copy_in(driver, {HERE: [b"1\n", b"2\n"], THERE: [b"one\n"]})
    assert driver.info.transaction_status == TransactionStatus.INTRANS
    assert rows(driver) == ([1, 2], ["one"])
    driver.rollback()
    assert rows(driver) == ([], [])


def test_it_joins_a_transaction_that_is_open(driver: psycopg.Connection[Any]) -> None:
    driver.execute("INSERT INTO here VALUES (7)")
    copy_in(driver, {HERE: [b"8\n"]})
    driver.rollback()
    assert rows(driver) == ([], [])
    copy_in(driver, {HERE: [b"8\n"]})
    copy_in(driver, {THERE: [b"eight\n"]})
    driver.commit()
    assert rows(driver) == ([8], ["eight"])


def test_on_a_connection_that_commits_each_statement_all_of_it_is_one(driver: psycopg.Connection[Any]) -> None:
    driver.autocommit = True
    with pytest.raises(errors.NotNullViolation):
        copy_in(driver, {HERE: [b"1\n"], THERE: [b"\\N\n"]})
    assert rows(driver) == ([], [])
    copy_in(driver, {HERE: [b"1\n"], THERE: [b"one\n"]})
    assert driver.info.transaction_status == TransactionStatus.IDLE
    assert rows(driver) == ([1], ["one"])


@pytest.mark.parametrize(
    ("copies", "error"),
    [
        ({HERE: [b"1\n1\n"], THERE: [b"one\n"]}, errors.UniqueViolation),
        ({HERE: [b"1\n"], THERE: [b"\\N\n"]}, errors.NotNullViolation),
        ({HERE: [b"no number\n"] * 100_000, THERE: [b"one\n"]}, errors.InvalidTextRepresentation),
        ({HERE: [b"1\n"], "COPY nowhere (word) FROM STDIN": [b"one\n"]}, errors.UndefinedTable),
    ],
    ids=["a key twice", "the second table refuses", "refused long before the end", "no such table"],
)
def test_where_a_table_refuses_nothing_stays_and_the_connection_goes_on(
    driver: psycopg.Connection[Any], copies: dict[str, list[bytes]], error: type[psycopg.Error]
) -> None:
    with pytest.raises(error) as refused:
        copy_in(driver, copies)
    assert refused.value.sqlstate == error.sqlstate
    assert driver.info.transaction_status == TransactionStatus.INERROR
    driver.rollback()
    assert rows(driver) == ([], [])
    copy_in(driver, {HERE: [b"1\n"]})
    assert rows(driver) == ([1], [])


def test_pieces_of_any_length_arrive_whole(driver: psycopg.Connection[Any]) -> None:
    words = [b"x" * (3 * PUT_BYTES + 1), b"y", b"z" * PUT_BYTES]
    copy_in(driver, {THERE: [b"", *(word + b"\n" for word in words)], HERE: []})
    assert rows(driver) == ([], [word.decode() for word in words])


def test_nothing_to_copy_begins_nothing(driver: psycopg.Connection[Any]) -> None:
    copy_in(driver, {})
    assert driver.info.transaction_status == TransactionStatus.IDLE


def test_a_connection_that_was_ended_is_worth_another_try(driver: psycopg.Connection[Any], postgres_url: str) -> None:
    with psycopg.connect(**connection_parameters(postgres_url), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [driver.info.backend_pid])
    with pytest.raises(psycopg.OperationalError) as lost:
        copy_in(driver, {HERE: [b"1\n"], THERE: [b"one\n"]})
    assert is_transient(lost.value)
    assert driver.broken
