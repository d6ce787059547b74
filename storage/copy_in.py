"""COPY into several tables as one message to PostgreSQL, with as few waits as there are answers. Knows nothing of
rows.

psycopg's own `copy` waits once for each piece of data and three times more; each time the thread gives Python's lock
away and then has to wait for whoever took it, on the way of every alert. A commit of four partitions waited 20 times,
and waits five times so. PostgreSQL documentation, "COPY Operations" (protocol).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

#: How much is handed to libpq before it has sent that: what it holds, it moves each time a part has gone.
PUT_BYTES = 1 << 17


def copy_in(driver: psycopg.Connection[Any], copies: Mapping[str, Iterable[bytes]]) -> None:
    """copies: by each COPY ... FROM STDIN statement the data for it, in pieces. Begins a transaction where none is
    open, as any statement does. Raises psycopg's errors; then none of the later statements was executed."""
    if copies:
        driver.wait(_copied(driver, copies))


def _copied(driver: psycopg.Connection[Any], copies: Mapping[str, Iterable[bytes]]) -> PQGen[None]:
    connection = driver.pgconn
    begins = connection.transaction_status == TransactionStatus.IDLE and not driver.autocommit
    connection.send_query("; ".join(["BEGIN", *copies] if begins else copies).encode())
    yield from generators.send(connection)
    data = iter(copies.values())
    refused: PGresult | None = None
    while (result := (yield from generators.fetch(connection))) is not None:
        if result.status == ExecStatus.COPY_IN:
            yield from _put(connection, next(data))
        elif result.status == ExecStatus.FATAL_ERROR:
            refused = refused or result
    if refused is not None:
        raise error_from_result(refused)


def _put(connection: PGconn, pieces: Iterable[bytes]) -> PQGen[None]:
    for piece in pieces:
        for start in range(0, len(piece), PUT_BYTES):
            part = piece[start : start + PUT_BYTES]
            yield from generators.copy_to(connection, part, flush=len(part) == PUT_BYTES)
    while connection.put_copy_end() == 0:
        yield Wait.W
    yield from generators.send(connection)
