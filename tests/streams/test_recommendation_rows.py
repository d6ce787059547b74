"""Engagements and slates read back from SQL as they were decided, on PostgreSQL and on SQLite."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models.catalogue import item_key
from storage.database import Database
from storage.outbox import recommendations_after
from streams.decode_engagements import DecodedEngagements, decode_engagements
from streams.recommended_rows import RecommendedRows
from streams.records import DecodeLimits
from streams.rows import EncodedShares, RowEncoder
from tests.streams.test_rows import AT, KafkaRecord, json_of, moment, own, read, write


def engagement(offset: int, **changes: Any) -> KafkaRecord:
    known = {"event_id": f"e{offset}", "occurred_at": AT, "user_id": "ü", "item_id": "i", "action": "click"}
    return KafkaRecord(json.dumps(known | changes).encode(), offset, key="ü".encode())


def decoded(*records: KafkaRecord) -> DecodedEngagements:
    found = decode_engagements(records, DecodeLimits())
    assert found.dead == []
    return found


def write_slates(database: Database, events: DecodedEngagements, made: RecommendedRows) -> None:
    encoded: EncodedShares = [[]]
    RowEncoder(database.dialect).recommendations(encoded, own(events), events, made)
    write(database, encoded[0])


def slates(rows: Sequence[int], **changes: Any) -> RecommendedRows:
    """Two items out of three candidates for each, the keys of a, b and c."""
    count = len(rows)
    values: dict[str, Any] = {
        "row": np.array(rows, np.int64),
        "recommendation_id": [f"r{row}" for row in rows],
        "policy": ["recommender:3"] * count,
        "made_at": AT + 50,
        "catalogue": "17",
        "floor": 0.05,
        "seed": np.full(count, 2**64 - 1, np.uint64),
        "candidates": np.array([[item_key(name) for name in "abc"]] * count, np.int64),
        "log_weights": np.array([[-0.5, -np.inf, -1.25]] * count, np.float32),
        "present": np.ones((count, 3), np.bool_),
        "item_id": [["a", "c"]] * count,
        "propensity": np.array([[0.75, 1.0]] * count),
        "prefix": np.array([[0.75, 0.5]] * count),
        "score": np.array([[1.5, -2.0]] * count, np.float32),
    }
    return RecommendedRows(**values | changes)


def test_engagements_read_back_as_they_were(database: Database) -> None:
    full = engagement(7, action="dwell", value=12.25, recommendation_id="r", app={"version": 2})
    events = decoded(full, engagement(2**40))
    write(database, RowEncoder(database.dialect).engagements(own(events), events, np.zeros(2, np.bool_))[0])
    first, second = read(database, "engagements")
    named = ("event_id", "user_id", "item_id", "action", "value", "recommendation_id")
    assert [first[name] for name in named] == ["e7", "ü", "i", "dwell", 12.25, "r"]
    assert [second[name] for name in named] == [f"e{2**40}", "ü", "i", "click", None, None]
    assert (json_of(first["extra"]), second["extra"]) == ({"app": {"version": 2}}, None)
    assert moment(first["occurred_at"]).timestamp() == AT / 1000
    assert moment(first["recorded_at"]).timestamp() == AT / 1000 + 1
    key = ("topic_generation", "source_partition", "source_offset")
    assert [tuple(row[name] for name in key) for row in (first, second)] == [(4, 2, 7), (4, 2, 2**40)]
    assert str(first["day"]) == "2026-03-14"


def test_a_repeated_engagement_is_a_row_of_duplicates_and_of_nothing_else(database: Database) -> None:
    events = decoded(engagement(7), engagement(8, event_id="e7"), engagement(9))
    write(database, RowEncoder(database.dialect).engagements(own(events), events, np.array([False, True, False]))[0])
    assert [row["source_offset"] for row in read(database, "engagements")] == [7, 9]
    (repeat,) = read(database, "duplicates")
    assert (repeat["source_offset"], repeat["event_id"], repeat["entity_id"]) == (8, "e7", "ü")


def test_a_slate_reads_back_under_the_key_of_its_cause(database: Database) -> None:
    events = decoded(engagement(7), engagement(8), engagement(9))
    rows = RowEncoder(database.dialect)
    write(database, rows.engagements(own(events), events, np.zeros(3, np.bool_))[0])
    write_slates(database, events, slates([0, 2], policy=["recommender:3", "random"]))
    first, second = read(database, "recommendations")
    assert [row["source_offset"] for row in (first, second)] == [7, 9]
    assert [row["policy"] for row in (first, second)] == ["recommender:3", "random"]
    named = ("recommendation_id", "user_id", "cause", "catalogue", "floor")
    assert [second[name] for name in named] == ["r2", "ü", "e9", "17", 0.05]
    assert moment(first["made_at"]).timestamp() == (AT + 50) / 1000
    assert moment(first["occurred_at"]).timestamp() == AT / 1000
    assert np.uint64(first["seed"] % 2**64) == 2**64 - 1
    assert np.frombuffer(first["candidates"], "<i8").tolist() == [item_key(name) for name in "abc"]
    assert np.frombuffer(first["log_weights"], "<f4").tolist() == [-0.5, -np.inf, -1.25]
    items = read(database, "recommendation_items")
    found = [
        (row["source_offset"], row["position"], row["recommendation_id"], row["item_id"], row["propensity"])
        for row in items
    ]
    assert sorted(found) == [
        (7, 1, "r0", "a", 0.75),
        (7, 2, "r0", "c", 1.0),
        (9, 1, "r2", "a", 0.75),
        (9, 2, "r2", "c", 1),
    ]
    assert sorted((row["prefix_propensity"], row["score"]) for row in items) == [(0.5, -2.0)] * 2 + [(0.75, 1.5)] * 2
    keys = ("day", "topic_generation", "source_partition")
    assert {tuple(row[name] for name in keys) for row in items} == {tuple(first[name] for name in keys)}


def test_slates_of_different_sizes_keep_only_what_they_have(database: Database) -> None:
    """Of the second, the middle candidate is none, and so is the second position."""
    made = slates(
        [0, 1],
        present=np.array([[True, True, True], [True, False, True]]),
        item_id=[["a", "c"], ["c"]],
        propensity=np.array([[0.75, 1.0], [0.25, np.nan]]),
        prefix=np.array([[0.75, 0.5], [0.25, np.nan]]),
        score=np.array([[1.5, -2.0], [3.0, np.nan]]),
    )
    events = decoded(engagement(7), engagement(8))
    write_slates(database, events, made)
    _, second = read(database, "recommendations")
    assert np.frombuffer(second["candidates"], "<i8").tolist() == [item_key("a"), item_key("c")]
    assert np.frombuffer(second["log_weights"], "<f4").tolist() == [-0.5, -1.25]
    items = [row for row in read(database, "recommendation_items") if row["source_offset"] == 8]
    assert [(row["position"], row["item_id"], row["propensity"], row["score"]) for row in items] == [
        (1, "c", 0.25, 3.0)
    ]


def test_the_hash_of_candidates_is_that_of_their_set(database: Database) -> None:
    keys = np.array([[1, -2, 3], [3, 1, -2], [1, -2, 4], [1, -2, 3]], np.int64)
    present = np.array([[True] * 3, [True] * 3, [True] * 3, [True, True, False]])
    events = decoded(*(engagement(offset) for offset in range(4)))
    made = slates(range(4), candidates=keys, present=present)
    write_slates(database, events, made)
    hashes = [row["candidate_hash"] for row in read(database, "recommendations")]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_nothing_is_encoded_of_nothing(dialect: str) -> None:
    rows, nothing = RowEncoder(dialect), decoded()
    assert rows.engagements(own(nothing), nothing, np.zeros(0, np.bool_)) == [[]]


def test_what_the_relay_is_handed_is_what_it_would_read_back(database: Database) -> None:
    events = decoded(engagement(7), engagement(8), engagement(9))
    made = slates([0, 2], policy=["recommender:3", "random"])
    write_slates(database, events, made)
    with database.reading() as connection:
        assert made.published(events) == recommendations_after(connection, 4, 2, 0, 10)
