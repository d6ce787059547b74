"""Replaying a log gives the log-weights that the same policy drew with live; of another policy, what it would have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import policy_replay
from models.catalogue import Catalogue
from models.engagements import Engagements
from models.guard_rails import SlateRules
from models.logged_slates import LoggedSlates
from models.policy import TrainedPolicy
from models.policy_history import PolicyHistory
from models.policy_replay import Replay
from models.recommending import RANDOM, Answer, Recommender
from tests.models.engagement_logs import many_engagements, seeds, shop, untrained_policy
from tests.models.logs import cut

RULES = SlateRules(holdout=0.2)
POLICY, OTHER = untrained_policy(), untrained_policy(hidden=5, seed=9)
NAME = "recommender:1"
#: More items than candidates, so that slates are drawn from what the policy or chance retrieves.
LARGE, SMALL = shop(150, categories=40), shop(20, categories=7)
LOG = many_engagements(400, users=25, items=160, seed=2)
OFTEN = list(range(0, 400, 15))


@dataclass(frozen=True, slots=True)
class Lived:
    """What a recommender answered, as a history."""

    history: PolicyHistory
    catalogue: Catalogue

    def replayed(self, policy: TrainedPolicy, rules: SlateRules = RULES) -> npt.NDArray[np.float32]:
        return Replay(self.history, self.catalogue, rules, torch.device("cpu")).log_weights(policy)

    def rows_of(self, name: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.array(self.history.slates.policy) == name)


def lived(batches: Sequence[Engagements], policy: TrainedPolicy | None = POLICY, catalogue: Catalogue = LARGE) -> Lived:
    """Answered by a policy from the first engagement on, or by popularity."""
    recommender = Recommender(catalogue, RULES)
    if policy is not None:
        recommender.use_policy(recommender.prepare(policy), NAME)
    parts, cause, before = [], [], 0
    for batch in batches:
        answer = recommender.respond(batch, seeds(before))
        if answer.slates is not None:
            parts.append(as_logged(answer, batch))
            cause.append(answer.slates.rows + before)
        before += len(batch)
    engagements = Engagements.concatenate(list(batches))
    history = PolicyHistory(
        engagements,
        catalogue.rows_of(engagements.item_id).astype(np.int32),
        LoggedSlates.concatenate(parts),
        np.concatenate(cause),
        catalogue.table(),
    )
    return Lived(history, catalogue)


def as_logged(answer: Answer, batch: Engagements) -> LoggedSlates:
    slates = answer.slates
    assert slates is not None
    return LoggedSlates(
        user=np.array([int(batch.user_id[row].removeprefix("user-")) for row in slates.rows], np.int64),
        made_at=batch.occurred_at[slates.rows],
        policy=list(slates.policy),
        candidates=slates.candidates,
        log_weights=slates.log_weights,
        picks=slates.picks,
        reward=np.zeros(slates.picks.shape),
        matured=np.ones(len(slates), np.bool_),
    )


@pytest.mark.parametrize("catalogue", [LARGE, SMALL], ids=["retrieved candidates", "all items are candidates"])
def test_the_replay_of_the_policy_that_made_the_slates_gives_the_weights_that_were_logged(catalogue: Catalogue) -> None:
    found = lived(cut(LOG, [1, *OFTEN]), catalogue=catalogue)
    own = found.rows_of(NAME)
    assert len(own) > 100
    assert np.isfinite(found.history.slates.log_weights[own]).any(1).all()
    np.testing.assert_allclose(found.replayed(POLICY)[own], found.history.slates.log_weights[own], atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 120), max_size=6), st.integers(1, 60))
def test_it_does_not_matter_how_the_log_was_cut_live_or_is_cut_in_the_replay(
    seed: int, places: list[int], at_once: int
) -> None:
    found = lived(cut(many_engagements(120, users=8, items=160, seed=seed), sorted(places)))
    own = found.rows_of(NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_replay, "ROWS_AT_ONCE", at_once)
        np.testing.assert_allclose(found.replayed(POLICY)[own], found.history.slates.log_weights[own], atol=1e-5)


def test_another_policy_would_have_drawn_otherwise_from_what_the_guard_rails_had_left() -> None:
    found = lived(cut(LOG, OFTEN))
    logged, own = found.history.slates.log_weights, found.rows_of(NAME)
    other = found.replayed(OTHER)
    allowed = np.isfinite(logged[own])
    assert np.array_equal(np.isfinite(other[own]), allowed)
    assert not allowed.all()  # rules took candidates away
    assert np.abs(other[own][allowed] - logged[own][allowed]).max() > 0.5
    np.testing.assert_allclose(np.exp(other[own]).sum(1), 1, rtol=1e-4)
    least = np.log(RULES.floor / allowed.sum(1))
    assert (np.where(allowed, other[own], 0).min(1) >= least - 1e-5).all()


def test_users_of_the_holdout_and_of_popularity_are_judged_as_the_policy_would_have_served_them() -> None:
    popular = lived(cut(LOG, OFTEN), policy=None)
    told = lived(cut(LOG, OFTEN))
    held = told.rows_of(RANDOM)
    assert len(held) > 10
    assert not np.allclose(told.replayed(POLICY)[held], told.history.slates.log_weights[held], equal_nan=True)
    followed = popular.replayed(POLICY)
    assert (np.abs(np.exp(followed) - np.exp(popular.history.slates.log_weights)) > 1e-4).any(1).mean() > 0.8


def test_slates_of_users_who_are_too_new_keep_the_weights_that_were_logged() -> None:
    found = lived([LOG], policy=None)
    everyone_new = replace(RULES, least_told=1_000)
    assert np.array_equal(found.replayed(POLICY, everyone_new), found.history.slates.log_weights)


def test_a_slate_whose_cause_is_a_repetition_keeps_the_weights_that_were_logged() -> None:
    """Two generations of a topic may hold the same event."""
    found = lived([LOG])
    last = int(found.history.cause[-1])
    events = Engagements.concatenate([found.history.engagements, found.history.engagements.take(np.array([last]))])
    twice = replace(
        found.history,
        engagements=events,
        item=np.append(found.history.item, found.history.item[last]),
        slates=found.history.slates.take(np.array([len(found.history.slates) - 1])),
        cause=np.array([len(events) - 1]),
    )
    replayed = Lived(twice, found.catalogue).replayed(OTHER)
    assert np.array_equal(replayed, twice.slates.log_weights)


def test_a_history_without_slates_has_no_weights() -> None:
    found = lived([LOG])
    none = np.zeros(0, np.int64)
    empty = replace(found.history, slates=found.history.slates.take(none), cause=none)
    assert Lived(empty, found.catalogue).replayed(POLICY).shape == (0, RULES.candidates)
