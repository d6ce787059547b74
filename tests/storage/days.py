"""The day on which a test's schema was made, by the server's clock: midnight may have passed since it was loaded."""

from datetime import date, timedelta

from storage.database import Database
from storage.day_partitions import partitions_of

ONE_DAY = timedelta(days=1)


def day_of_schema(database: Database) -> date:
    """The last day that its first partition covers."""
    with database.reading() as connection:
        first = partitions_of(connection, "transactions")[0]
    assert first.end is not None
    return first.end - ONE_DAY
