"""The catalogue in use: a thread keeps up with `items` in SQL, the compute thread takes the changes between batches.

SQL, not Kafka, is read: every worker needs all items, and SQL has the latest state of each without a log to replay. A
version is named by how far the log of each partition was taken in. A database that is away delays changes and nothing
else.
"""

from collections import deque
from collections.abc import Iterator

import structlog

from models.catalogue import Catalogue
from models.item_content import Item
from storage.catalogue import ItemColumns, Positions, catalogue_positions, changed_items
from storage.database import Database
from storage.label_state import begin_snapshot
from streams.recommendation_metrics import RecommendationMetrics

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
#: What is taken over between two batches, so that many changes at once do not hold up the stream: with pictures and
#: texts about 15 ms.
TAKEN_AT_ONCE = 200


class CatalogueWatch:
    """`look` is the thread's, everything else the compute thread's. topic: with its prefix."""

    def __init__(self, database: Database, topic: str, counters: RecommendationMetrics) -> None:
        self._database = database
        self._topic = topic
        self._counters = counters
        self._known: Positions = {}
        #: Items to take over, or the name of the version that is complete with what came before it.
        self._waiting: deque[list[Item] | str] = deque()
        self._version = version_name({})
        self._empty = True

    @property
    def warning(self) -> str | None:
        """What a person should know."""
        return f"the catalogue is empty: no slates until items come in on {self._topic}" if self._empty else None

    def load(self, catalogue: Catalogue) -> None:
        """All that there is, before the first batch. Raises DatabaseUnavailable."""
        self.look()
        while self._waiting:
            self.take(catalogue)
        log.info("catalogue loaded", items=len(catalogue), available=len(catalogue.available_rows))

    def look(self) -> None:
        """Reads what has changed since the last look. Raises DatabaseUnavailable."""
        with self._database.reading() as connection:
            begin_snapshot(connection)
            positions = catalogue_positions(connection, self._topic)
            if positions == self._known:
                return
            changed = [part for columns in changed_items(connection, self._known, positions) for part in parts(columns)]
        self._waiting.extend([*changed, version_name(positions)])
        self._known = positions

    def take(self, catalogue: Catalogue) -> str:
        """Puts some of what waits into the catalogue, between two batches; the name of the version in use."""
        if self._waiting:
            found = self._waiting.popleft()
            if isinstance(found, str):
                self._version = found
                available = len(catalogue.available_rows)
                self._empty = not available
                self._counters.catalogue_in_use(available, len(catalogue) - available)
            else:
                catalogue.put(found)
        return self._version


def parts(columns: ItemColumns) -> Iterator[list[Item]]:
    """As items, a few at a time."""
    for start in range(0, len(columns), TAKEN_AT_ONCE):
        stop = min(start + TAKEN_AT_ONCE, len(columns))
        yield [
            Item(
                columns.item_id[row],
                columns.title[row],
                columns.text[row],
                columns.category[row],
                columns.price[row],
                available=bool(columns.available[row] and not columns.deleted[row]),
                thumbnail=columns.thumbnail[row],
            )
            for row in range(start, stop)
        ]


def version_name(positions: Positions) -> str:
    """generation:partition@next offset, with a space between partitions; "none" before any."""
    return " ".join(f"{place[0]}:{place[1]}@{offset}" for place, offset in sorted(positions.items())) or "none"
