"""Which alerts and events labels were joined with lately: a thread reads it from SQL, so that the compute thread, which
closes the alerts that are judged, never waits for it."""

from collections.abc import Callable, Set
from datetime import datetime, timedelta

from storage.alert_history import judged_since
from storage.database import Database

LOOK_SECONDS = 1.0
#: Each look goes back this far: a label counts from its commit, which follows its joined_at, and a database that is
#: away for a while costs no verdict.
OVERLAP = timedelta(seconds=60)

#: Alert ids and event ids.
Verdicts = tuple[Set[str], Set[str]]


class VerdictWatch:
    """`look` is the thread's, `recent` anybody's."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._recent: Verdicts = (frozenset(), frozenset())

    def look(self) -> None:
        """Raises DatabaseUnavailable."""
        with self._database.reading() as connection:
            self._recent = judged_since(connection, self._clock() - OVERLAP)

    def recent(self) -> Verdicts:
        """As of the latest look."""
        return self._recent
