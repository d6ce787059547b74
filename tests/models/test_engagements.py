"""Engagements: columns in and out, and what each is worth."""

import numpy as np

from models.engagements import ACTIONS, Engagements, rewards


def some() -> Engagements:
    return Engagements.from_columns(
        {
            "event_id": ["a", "b", "c"],
            "occurred_at": [86_400_000, 2, 3],
            "user_id": ["u", "v", "u"],
            "item_id": ["x", "y", "x"],
            "action": ["click", "dwell", "dislike"],
            "value": [np.nan, 30.0, np.nan],
        }
    )


def test_rows_are_taken_and_joined_in_the_order_asked_for() -> None:
    events = some()
    parts = [events.take(np.array([2])), events.take(np.array([0, 1]))]
    joined = Engagements.concatenate(parts)
    assert joined.event_id == ["c", "a", "b"]
    assert [ACTIONS[action] for action in joined.action] == ["dislike", "click", "dwell"]
    assert joined.occurred_at.tolist() == [3, 86_400_000, 2]
    assert events.day.tolist() == [1, 0, 0]
    assert len(Engagements.concatenate([])) == 0


def test_dwelling_earns_by_the_second_up_to_a_minute_and_everything_else_at_once() -> None:
    dwell = np.full(4, ACTIONS.index("dwell"), np.int8)
    assert rewards(dwell, np.array([30.0, 600.0, -5.0, np.nan])).tolist() == [0.5, 1.0, 0.0, 0.0]
    assert rewards(some().action, some().value).tolist() == [1.0, 0.5, -2.0]
