"""What the compute thread hears of verdicts, and from when."""

from datetime import timedelta

import pytest

from storage.database import Database, DatabaseUnavailable
from streams.verdicts import OVERLAP, VerdictWatch
from tests.storage.rows import NOON, RowMaker
from tests.streams.bench import SometimesAway

SECOND = timedelta(seconds=1)


def test_a_look_finds_the_labels_that_were_joined_lately(database: Database) -> None:
    rows = RowMaker(database)
    rows.label("f1", alert_id="A", joined_at=NOON - OVERLAP + SECOND)
    rows.label("f2", event_id="e2", joined_at=NOON)
    rows.label("f3", event_id="long ago", joined_at=NOON - OVERLAP - SECOND)
    watch = VerdictWatch(database, lambda: NOON)
    assert watch.recent() == (set(), set())
    watch.look()
    assert watch.recent() == ({"A"}, {"e2"})


def test_what_was_found_stays_known_while_the_database_is_away(database: Database) -> None:
    RowMaker(database).label("f1", event_id="e1", joined_at=NOON)
    away = SometimesAway(database.engine)
    watch = VerdictWatch(away, lambda: NOON)
    watch.look()
    away.refusals.append("at once")
    with pytest.raises(DatabaseUnavailable):
        watch.look()
    assert watch.recent() == (set(), {"e1"})


def test_what_came_during_an_outage_is_found_by_every_look_of_the_minute_after_it(database: Database) -> None:
    moments = [NOON, NOON + 600 * SECOND, NOON + 601 * SECOND, NOON + 650 * SECOND, NOON + 700 * SECOND]
    clock = iter(moments)
    watch, found = VerdictWatch(database, lambda: next(clock)), []
    for number in range(len(moments)):
        if number == 1:
            RowMaker(database).label("f1", event_id="e1", joined_at=NOON + SECOND)
        watch.look()
        found.append(watch.recent()[1])
    assert found == [set(), {"e1"}, {"e1"}, {"e1"}, set()]
