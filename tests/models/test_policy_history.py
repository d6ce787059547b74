"""Stored feedback as sequences: each slate behind exactly the engagements that came before it, nothing of later."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engagements import ACTIONS
from models.policy_history import (
    PolicyHistory,
    PolicyTrainingRefused,
    check_history,
    sort_history,
    windows_between,
)
from tests.models.policy_shop import history_of, shop_log

HISTORY = history_of(shop_log(users=6, visits=5, seed=4))
TIMES = HISTORY.engagements.occurred_at


def changed(**columns: object) -> PolicyHistory:
    engagements = {name: value for name, value in columns.items() if hasattr(HISTORY.engagements, name)}
    slates = {name: value for name, value in columns.items() if name in ("reward", "matured", "candidates", "picks")}
    rest = {name: value for name, value in columns.items() if name in ("item", "cause", "items")}
    return replace(
        HISTORY,
        engagements=replace(HISTORY.engagements, **engagements),  # type: ignore[arg-type]
        slates=replace(HISTORY.slates, **slates),  # type: ignore[arg-type]
        **rest,  # type: ignore[arg-type]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(0, len(TIMES)), st.integers(0, len(TIMES)))
def test_every_slate_of_the_time_is_in_one_window_behind_its_users_last_engagements(
    window: int, first: int, last: int
) -> None:
    times = np.append(TIMES, TIMES[-1] + 1)
    begin, end = sorted((int(times[first]), int(times[last])))
    windows = windows_between(sort_history(HISTORY), begin, end, window)
    users, actions = np.array(HISTORY.engagements.user_id), HISTORY.engagements.action
    found = []
    for row in range(len(windows)):
        batch = windows.experience(np.array([row]))
        assert batch.action_BT.shape[1] <= window
        for place in range(batch.seen_BD.shape[1]):
            seen = int(batch.seen_BD[0, place])
            (slate,) = np.flatnonzero(
                (HISTORY.slates.candidates == batch.candidates_BDC[0, place].numpy()).all(1)
                & (HISTORY.slates.picks == batch.picks_BDK[0, place].numpy()).all(1)
            )
            found.append(slate)
            cause = HISTORY.cause[slate]
            before = np.flatnonzero((users == users[cause]) & (np.arange(len(users)) <= cause))[-seen:]
            assert seen > 0
            assert batch.item_BT[0, :seen].tolist() == HISTORY.item[before].tolist()
            assert batch.action_BT[0, :seen].tolist() == actions[before].tolist()
            np.testing.assert_allclose(batch.gap_BT[0, 1:seen].numpy(), np.diff(TIMES[before]) / 1000)
            assert batch.reward_BDK[0, place].tolist() == HISTORY.slates.reward[slate].tolist()
    wanted = np.flatnonzero((TIMES[HISTORY.cause] >= begin) & (TIMES[HISTORY.cause] < end))
    assert sorted(found) == wanted.tolist()


def test_a_users_first_engagement_has_no_gap() -> None:
    columns = sort_history(HISTORY)
    first = np.diff(columns.user, prepend=-1) != 0
    assert np.isnan(columns.gap[first]).all()
    assert np.isfinite(columns.gap[~first]).all()


def test_slates_whose_rewards_may_still_come_are_left_out() -> None:
    matured = np.arange(len(HISTORY.slates)) % 3 != 0
    columns = sort_history(changed(matured=matured))
    assert len(columns.slates) == matured.sum()
    assert columns.slates.matured.all()


def test_only_welcome_actions_without_a_recommendation_are_predicted() -> None:
    action = np.arange(len(TIMES)) % len(ACTIONS)
    given_to = [None if row % 2 else "slate" for row in range(len(TIMES))]
    columns = sort_history(changed(action=action.astype(np.int8), recommendation_id=given_to))
    order = np.argsort([int(user.removeprefix("user ")) for user in HISTORY.engagements.user_id], kind="stable")
    expected = [ACTIONS[action[row]] not in ("impression", "skip", "dislike") and row % 2 == 1 for row in order]
    assert columns.predicted.tolist() == expected


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (lambda: changed(occurred_at=TIMES[::-1].copy()), "order of their time"),
        (lambda: changed(item=HISTORY.item[:-1]), "an item row"),
        (lambda: changed(cause=HISTORY.cause[:-1]), "a cause"),
        (
            lambda: changed(items=replace(HISTORY.items, bucket_A=HISTORY.items.bucket_A[:-1])),
            "24 items have content and 23 a bucket",
        ),
        (lambda: changed(item=HISTORY.item + 1), "an engagement's item is none of 24"),
        (lambda: changed(candidates=HISTORY.slates.candidates - 2), "a slate's candidate is none of 24"),
        (lambda: changed(picks=HISTORY.slates.picks + 1), "a slate's pick is none of 8"),
        (lambda: changed(cause=HISTORY.cause + len(TIMES)), "answers none of the"),
        (lambda: changed(reward=np.full(HISTORY.slates.reward.shape, np.nan)), "no finite number"),
    ],
)
def test_columns_that_cannot_belong_together_are_refused(history: object, message: str) -> None:
    with pytest.raises(PolicyTrainingRefused, match=message):
        check_history(history())  # type: ignore[operator]
