"""Which alerts and events labels were joined with lately: a thread reads it from SQL, so that the compute thread, which
closes the alerts that are judged, never waits for it."""

from collections import deque
from collections.abc import Callable, Set
from datetime import datetime, timedelta

from storage.alert_history import judged_since
from storage.database import Database

LOOK_SECONDS = 1.0
#: Each look goes back this far behind the one before it: a label counts from its commit, which follows its joined_at.
#: What a look found after an outage is found again by those of so many seconds, so that nobody misses it.
OVERLAP = timedelta(seconds=60)
#: Who has not asked for so long asks SQL about each of its alerts.
LONGEST_PAUSE = 30.0

#: Alert ids and event ids.
Verdicts = tuple[Set[str], Set[str]]


class VerdictWatch:
    """`look` is the thread's, `recent` anybody's."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._recent: Verdicts = (frozenset(), frozenset())
        #: When looks succeeded: the latest one that lies further back than OVERLAP, and those since.
        self._looks: deque[datetime] = deque()

    def look(self) -> None:
        """Raises DatabaseUnavailable."""
        now = self._clock()
        while len(self._looks) > 1 and self._looks[1] <= now - OVERLAP:
            self._looks.popleft()
        with self._database.reading() as connection:
            self._recent = judged_since(connection, min([now, *self._looks]) - OVERLAP)
        self._looks.append(now)

    def recent(self) -> Verdicts:
        """As of the latest look."""
        return self._recent
