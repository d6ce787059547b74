"""Long results of SQL, a batch of rows at a time, so that memory does not depend on how many there are."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Executable, Row, text


def streamed(connection: Connection, statement: Executable, batch_rows: int) -> Iterator[list[Row[Any]]]:
    """Reads through a server-side cursor, so memory does not depend on the history's length. The caller may
    think for long between two batches; it holds no lock that anyone waits for."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    streaming = {"stream_results": True, "max_row_buffer": batch_rows}
    with connection.execute(statement, execution_options=streaming) as result:
        for rows in result.partitions(batch_rows):
            yield list(rows)


def milliseconds(times: Sequence[datetime]) -> npt.NDArray[np.int64]:
    """int64[n]: epoch milliseconds."""
    return np.array([round(time.timestamp() * 1000) for time in times], np.int64)
