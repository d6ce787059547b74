"""What a policy learns from: engagements and slates in the order of time, with exactly what the cut knew of rewards."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from storage.database import Database
from storage.policy_data import LoggedEngagementColumns, SlateColumns, logged_engagements, logged_slates, policy_cut
from storage.training_data import HistoryCut
from tests.storage.rows import NOON, RowMaker

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATER = NOON + 30 * DAY


def cut_at(database: Database, until: datetime = LATER) -> HistoryCut:
    with database.reading() as connection:
        return policy_cut(connection, until)


def engagements(
    database: Database, cut: HistoryCut, since: datetime | None = None, batch_rows: int = 100
) -> list[LoggedEngagementColumns]:
    with database.reading() as connection:
        return list(logged_engagements(connection, since=since, cut=cut, batch_rows=batch_rows))


def slates(
    database: Database, cut: HistoryCut, since: datetime | None = None, batch_rows: int = 100, window: timedelta = DAY
) -> list[SlateColumns]:
    with database.reading() as connection:
        return list(logged_slates(connection, since=since, cut=cut, reward_window=window, batch_rows=batch_rows))


def answered(rows: RowMaker, name: str, item_ids: tuple[str, ...] = ("i1", "i2"), **values: Any) -> None:
    """An engagement and the slate that answers it."""
    cause = rows.engagement(f"cause of {name}", "click", **values)
    place = ("day", "topic_generation", "source_partition", "source_offset", "occurred_at", "user_id")
    rows.slate(name, item_ids, made_at=cause["occurred_at"] + MINUTE, **{key: cause[key] for key in place})


def rewards(parts: list[SlateColumns]) -> dict[str, list[float]]:
    return {name: part.reward[row].tolist() for part in parts for row, name in enumerate(part.recommendation_id)}


def test_engagements_come_in_the_order_of_their_time_in_batches(database: Database, rows: RowMaker) -> None:
    rows.engagement("third", occurred_at=NOON + MINUTE, source_partition=1, source_offset=4)
    rows.engagement("second", occurred_at=NOON, source_partition=1, source_offset=2, value=2.5, recommendation_id="r")
    rows.engagement("first", "dwell", occurred_at=NOON, source_offset=7, user_id="ü", item_id="i9")
    rows.engagement("fourth", occurred_at=NOON + MINUTE, topic_generation=2, source_offset=0)
    found = engagements(database, cut_at(database), batch_rows=3)
    assert [part.columns.event_id for part in found] == [["first", "second", "third"], ["fourth"]]
    first = found[0]
    assert first.topic_generation.tolist() == [1, 1, 1]
    assert first.columns.source_partition.tolist() == [0, 1, 1]
    assert first.columns.source_offset.tolist() == [7, 2, 4]
    assert first.columns.occurred_at.tolist() == [round(NOON.timestamp() * 1000)] * 2 + [
        round((NOON + MINUTE).timestamp() * 1000)
    ]
    assert (first.columns.user_id[0], first.columns.item_id[0], first.columns.action[0]) == ("ü", "i9", "dwell")
    assert np.isnan(first.columns.value).tolist() == [True, False, True]
    assert first.columns.recommendation_id == [None, "r", None]


def test_a_slate_comes_with_what_it_was_drawn_from_and_what_its_items_earned(
    database: Database, rows: RowMaker
) -> None:
    keys, weights = np.array([3, -5, 7], "<i8"), np.array([-0.5, -np.inf, -2.0], "<f4")
    rows.engagement("e0", source_offset=10)
    rows.slate(
        "r1",
        ["i1", "i2", "i3"],
        source_offset=10,
        user_id="ü",
        policy="random",
        candidates=keys.tobytes(),
        log_weights=weights.tobytes(),
    )
    rows.engagement("e1", "click", recommendation_id="r1", item_id="i3")
    rows.engagement("e2", "purchase", recommendation_id="r1", item_id="i3")
    rows.engagement("e3", "click", recommendation_id="r1", item_id="i9")
    rows.reward("f1", -0.25)
    rows.engagement("e4", source_offset=20)
    rows.slate("r2", ["i7"], source_offset=20, candidates=keys[:1].tobytes(), log_weights=weights[:1].tobytes())
    (part,) = slates(database, cut_at(database))
    assert part.recommendation_id == ["r1", "r2"]
    assert (part.user_id, part.policy) == (["ü", "u1"], ["random", "recommender:1"])
    assert part.source_offset.tolist() == [10, 20]
    assert part.candidates.tolist() == [[3, -5, 7], [3, 0, 0]]
    assert part.candidate_count.tolist() == [3, 1]
    assert part.log_weights.tolist() == [[-0.5, -np.inf, -2.0], [-0.5, -np.inf, -np.inf]]
    assert part.item_id == [["i1", "i2", "i3"], ["i7"]]
    assert part.reward.tolist() == [[-0.25, 0.0, 6.0], [0.0, 0.0, 0.0]]


def test_slates_come_in_the_order_of_the_engagements_that_they_answer(database: Database, rows: RowMaker) -> None:
    for number, minutes in enumerate((5, 1, 3, 1, 4)):
        answered(rows, f"r{number}", occurred_at=NOON + minutes * MINUTE, source_partition=number % 2)
    rows.engagement("e", recommendation_id="r3", item_id="i2", occurred_at=NOON + HOUR)
    found = slates(database, cut_at(database), batch_rows=2)
    assert [part.recommendation_id for part in found] == [["r1", "r3"], ["r2", "r4"], ["r0"]]
    assert rewards(found)["r3"] == [0.0, 1.0]
    told = [event_id for part in engagements(database, cut_at(database)) for event_id in part.columns.event_id]
    assert told == [f"cause of r{number}" for number in (1, 3, 2, 4, 0)] + ["e"]


def test_what_comes_after_the_cut_changes_nothing(database: Database, rows: RowMaker) -> None:
    answered(rows, "r1")
    rows.engagement("known", recommendation_id="r1", occurred_at=NOON + MINUTE)
    rows.reward("joined in time", 0.5, joined_at=NOON + MINUTE)
    cut = cut_at(database, NOON + HOUR)

    def all_of_it() -> tuple[Any, ...]:
        told = [event_id for part in engagements(database, cut) for event_id in part.columns.event_id]
        return told, rewards(slates(database, cut))

    before = all_of_it()
    assert before == (["cause of r1", "known"], {"r1": [1.5, 0.0]})
    rows.engagement("stored later", recommendation_id="r1", occurred_at=NOON)
    rows.engagement("of a new partition", recommendation_id="r1", occurred_at=NOON, source_partition=9)
    rows.reward("joined later", 0.5, joined_at=NOON + 2 * HOUR)
    answered(rows, "stored later", occurred_at=NOON)
    assert all_of_it() == before
    assert HistoryCut.from_json(cut.as_json()) == cut


def test_what_happens_after_the_moment_of_the_cut_is_not_part_of_it(database: Database, rows: RowMaker) -> None:
    answered(rows, "r1")
    answered(rows, "r2", occurred_at=NOON + HOUR)
    rows.engagement("late", recommendation_id="r1", occurred_at=NOON + HOUR)
    cut = cut_at(database, NOON + HOUR)
    assert rewards(slates(database, cut)) == {"r1": [0.0, 0.0]}
    assert [part.columns.event_id for part in engagements(database, cut)] == [["cause of r1"]]


def test_only_what_comes_from_a_moment_on_but_with_all_of_its_rewards(database: Database, rows: RowMaker) -> None:
    answered(rows, "r1")
    answered(rows, "r2", occurred_at=NOON + HOUR)
    rows.engagement("early", recommendation_id="r2", occurred_at=NOON - HOUR)  # a clock that is wrong
    cut = cut_at(database)
    assert rewards(slates(database, cut, since=NOON + MINUTE)) == {"r2": [1.0, 0.0]}
    told = engagements(database, cut, since=NOON + MINUTE)
    assert [part.columns.event_id for part in told] == [["cause of r2"]]


@pytest.mark.parametrize(("minutes", "matured"), [(60, True), (61, False)])
def test_a_slate_is_matured_once_its_reward_window_is_over(
    database: Database, rows: RowMaker, minutes: int, matured: bool
) -> None:
    answered(rows, "r1")  # made a minute after NOON
    cut = cut_at(database, NOON + 61 * MINUTE)
    (part,) = slates(database, cut, window=minutes * MINUTE)
    assert part.matured.tolist() == [matured]


def test_of_nothing_nothing_is_read(database: Database) -> None:
    cut = cut_at(database)
    assert cut.ends == ()
    assert (engagements(database, cut), slates(database, cut)) == ([], [])


def test_a_slate_without_items_is_an_error_and_shifts_no_reward(database: Database, rows: RowMaker) -> None:
    answered(rows, "r1", ())
    answered(rows, "r2")
    with pytest.raises(ValueError, match="missing"):
        slates(database, cut_at(database))


def test_rewards_add_up_to_those_that_analysts_see(database: Database, rows: RowMaker) -> None:
    for number, action in enumerate(("click", "like", "skip", "dwell")):
        answered(rows, f"r{number}")
        rows.engagement(f"e{number}", action, value=7.0, recommendation_id=f"r{number}")
    rows.reward("f", 0.3, recommendation_id="r2", item_id="i2")
    with database.reading() as connection:
        total = connection.execute(text("SELECT sum(reward) FROM v_recommendation_reward")).scalar_one()
    (part,) = slates(database, cut_at(database))
    assert part.reward.sum() == pytest.approx(total)


def test_the_items_of_a_slate_are_found_by_all_of_its_place(database: Database, rows: RowMaker) -> None:
    """SQLite once read the items of all slates before the cut for each slate."""
    if database.dialect != "sqlite":
        pytest.skip("about a plan of SQLite's")
    asked: list[tuple[str, Any]] = []
    answered(rows, "r1")

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    assert rewards(slates(database, cut_at(database))) == {"r1": [0.0, 0.0]}
    event.remove(database.engine, "before_cursor_execute", note)
    ((statement, values),) = [one for one in asked if "recommendation_items" in one[0]]
    with database.reading() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    searches = [step for step in plan if step.startswith("SEARCH i ")]
    assert len(searches) == 3
    assert all("source_offset=?" in step for step in searches)
