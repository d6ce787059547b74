"""Reading from a database that may be away: the stream waits, as it does before a commit."""

from collections.abc import Callable
from typing import TypeVar

from storage.database import DatabaseUnavailable

#: Called between two attempts with the number of failures so far and the error; it sleeps, reports, or raises to
#: give up.
Wait = Callable[[int, DatabaseUnavailable], None]
Found = TypeVar("Found")


def patiently(read: Callable[[], Found], wait: Wait) -> Found:
    """The result of `read`, which is repeated from its beginning while the database is away."""
    failures = 0
    while True:
        try:
            return read()
        except DatabaseUnavailable as error:
            failures += 1
            wait(failures, error)
